# Nearest centroid: learns from every other line of a table, judges the rest, prints how many it has right.
use strict;
use warnings;

open my $file, '<', $ARGV[0] or die "$ARGV[0]: $!\n";
my (@held, %sums, %counts);
while (my $line = <$file>) {
    chomp $line;
    my @row = split /,/, $line;
    if ($. % 2 == 0) { push @held, \@row; next }
    my $label = pop @row;
    $sums{$label}[$_] += $row[$_] for 0 .. $#row;
    $counts{$label}++;
}
my $right = 0;
for my $row (@held) {
    my ($best, $least);
    for my $label (sort keys %sums) {
        my $distance = 0;
        $distance += ($row->[$_] - $sums{$label}[$_] / $counts{$label})**2 for 0 .. $#{ $sums{$label} };
        ($best, $least) = ($label, $distance) if !defined $least || $distance < $least;
    }
    $right++ if $best == $row->[-1];
}
printf qq({"right": %d, "of": %d}\n), $right, scalar @held;
