#!/usr/bin/perl

# Texts as numbers, and the class whose texts are most alike: tf-idf, and Rocchio's classifier over it.
#
# Weights: count of the term in the text × (ln((1 + n) / (1 + texts with the term)) + 1), each text's vector of length 1:
# Manning, Raghavan and Schütze, Introduction to Information Retrieval, 6.2 and 14.2, smoothed as scikit-learn does it.
use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use FindBin;
use lib "$FindBin::Bin/../mlports";
use List::Util 'sum0';
use Mlports;

my $worker = Mlports->worker('rocchio');
my $model;

sub wrong ($message) { die Mlports->failure(invalid_argument => $message) }

# How often each term occurs: of a text its words of two letters or more, of a row of counts its places.
sub terms ($text) {
    my %counts;
    if (ref $text eq 'ARRAY') { @counts{ 0 .. $#$text } = @$text }
    else                      { $counts{$_}++ for lc($text) =~ /\b\w\w+\b/g }
    delete @counts{ grep { !$counts{$_} } keys %counts };
    return \%counts;
}

sub idf ($documents) {
    my %texts;
    for my $counts (@$documents) { $texts{$_}++ for keys %$counts }
    my $n = @$documents;
    return { map { ($_ => log((1 + $n) / (1 + $texts{$_})) + 1) } keys %texts };
}

# A vector of length 1, of the terms that are known.
sub weighed ($counts, $idf) {
    my %weight = map { exists $idf->{$_} ? ($_ => $counts->{$_} * $idf->{$_}) : () } keys %$counts;
    my $length = sqrt sum0 map { $_**2 } values %weight;
    $_ /= $length for $length ? values %weight : ();
    return \%weight;
}

sub train ($x, $y) {
    wrong(@$x . ' texts and ' . @$y . ' labels') if @$x != @$y || !@$x;
    my @documents = map { terms($_) } @$x;
    my $idf = idf(\@documents);
    my (%centre, %size);
    for my $at (0 .. $#documents) {
        my $weight = weighed($documents[$at], $idf);
        $size{ $y->[$at] }++;
        $centre{ $y->[$at] }{$_} += $weight->{$_} for keys %$weight;
    }
    for my $label (keys %centre) { $_ /= $size{$label} for values %{ $centre{$label} } }
    my %square = map { my $label = $_; ($label => sum0 map { $_**2 } values %{ $centre{$label} }) } keys %centre;
    $model = { idf => $idf, centre => \%centre, square => \%square, labels => [sort { $a <=> $b } keys %centre] };
    return { classes => [map { $_ + 0 } @{ $model->{labels} }], terms => scalar keys %$idf };
}

# The label whose centre is nearest; of two that are as near, the least.
sub nearest ($text) {
    die Mlports->failure(failed_precondition => 'no model yet: call fit, or set config data') if !$model;
    my $weight = weighed(terms($text), $model->{idf});
    my ($best, $least);
    for my $label (@{ $model->{labels} }) {
        my $centre = $model->{centre}{$label};
        # |text - centre|² without the text's own length, which is the same for all.
        my $distance = $model->{square}{$label} - 2 * sum0 map { $weight->{$_} * ($centre->{$_} // 0) } keys %$weight;
        ($best, $least) = ($label, $distance) if !defined $least || $distance < $least;
    }
    return $best + 0;
}

$worker->setup(
    sub ($config) {
        my $path = $config->{data} // return;
        open my $file, '<', $path or die "cannot read $path: $!\n";
        my (@x, @y);
        while (my $line = <$file>) {
            chomp $line;
            my @numbers = map { $_ + 0 } split /,/, $line;
            push @y, pop @numbers;
            push @x, \@numbers;
        }
        train(\@x, \@y);
    }
);

$worker->method(fit => sub ($request, $x, $y) { train($x, $y) }, idempotent => 1);
$worker->method(predict => sub ($request, $x) { [map { nearest($_) } @$x] }, idempotent => 1);

# The tf-idf vector of each text, by its terms; what is frequent everywhere was learned from all the texts here.
$worker->method(
    tfidf => sub ($request, $texts) {
        my @documents = map { terms($_) } @$texts;
        my $idf = idf(\@documents);
        [map { weighed($_, $idf) } @documents];
    },
    idempotent => 1
);

$worker->method(
    vote => sub ($request, $record) {
        +{ %$record, votes => { %{ $record->{votes} // {} }, perl => [map { nearest($_) } @{ $record->{x} }] } };
    },
    idempotent => 1
);

$worker->run;
