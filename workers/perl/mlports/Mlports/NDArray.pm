package Mlports::NDArray;

# An n-dimensional array (SPEC.md 12.1): dtype such as '<f8' (or the fields of a record), shape, and data, the elements'
# bytes, row-major and little-endian.

use strict;
use warnings;

my %TEMPLATE = (
    '<f4' => 'f<', '<f8' => 'd<', '|i1' => 'c',  '|u1' => 'C',  '|b1' => 'C', '<i2' => 's<',
    '<u2' => 'S<', '<i4' => 'l<', '<u4' => 'L<', '<i8' => 'q<', '<u8' => 'Q<',
);
my %SIZE = (
    (map { ("|$_" => 1) } qw(b1 i1 u1)),
    (map { ("<$_" => substr $_, 1) } qw(i2 i4 i8 u2 u4 u8 f2 f4 f8 c8 c16)),
);

sub new {
    my ($class, $dtype, $shape, $data) = @_;
    return bless { dtype => $dtype, shape => $shape, data => $data }, $class;
}

# From a reference to nested arrays of numbers. Dies where rows differ in length.
sub from {
    my ($class, $nested, $dtype) = @_;
    $dtype //= '<f8';
    my ($level, @shape) = ($nested);
    while (ref $level) {
        push @shape, scalar @$level;
        $level = $level->[0];
    }
    my @flat = ref $nested ? _flat($nested) : ($nested);
    die "rows of different lengths make no array\n" if @flat != elements(\@shape);
    my $template = $TEMPLATE{$dtype} // die "this SDK does not put $dtype together\n";
    return $class->new($dtype, \@shape, pack "($template)*", @flat);
}

sub dtype { return $_[0]{dtype} }
sub shape { return $_[0]{shape} }
sub data  { return $_[0]{data} }

# Nested arrays of numbers; one number for shape []. Dies for other dtypes than numbers'.
sub values {
    my ($self) = @_;
    my $template = $TEMPLATE{ $self->{dtype} } // die "this SDK does not take $self->{dtype} apart: use its data\n";
    my @flat = unpack "($template)*", $self->{data};
    my @shape = @{ $self->{shape} };
    return $flat[0] if !@shape;
    for my $size (reverse @shape[1 .. $#shape]) {
        my @rows;
        push @rows, [splice @flat, 0, $size] while $size && @flat;
        @flat = @rows;
    }
    return \@flat;
}

sub _flat { return map { ref $_ ? _flat($_) : $_ } @{ $_[0] } }

# How many elements an array of this shape has. Throws Violation.
sub elements {
    my ($shape) = @_;
    my $count = 1;
    _wrong('shape') if ref $shape ne 'ARRAY' || @$shape > 64;
    for my $size (@$shape) {
        _wrong('shape') if !Mlports::Connection::is_integer($size) || $size < 0;
        $count *= $size;
    }
    return $count;    # a float where it overflows, which is longer than any frame
}

# Bytes of one element. Throws Violation.
sub item_size {
    my ($dtype, $depth) = @_;
    return _record_size($dtype, $depth // 0) if ref $dtype eq 'ARRAY';
    _wrong('dtype') if !defined $dtype || ref $dtype;
    return $SIZE{$dtype} if $SIZE{$dtype};
    return 8 if $dtype =~ /^<[mM]8(?:\[\d*(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?\z/;
    $dtype =~ /^(<U|\|S|\|V)([1-9]\d{0,9})\z/ or _wrong('dtype');
    return $1 eq '<U' ? 4 * $2 : $2;
}

sub _record_size {
    my ($fields, $depth) = @_;
    _wrong('dtype') if !@$fields || $depth == 8;
    my ($size, %seen) = (0);
    for my $field (@$fields) {
        _wrong('dtype') if ref $field ne 'ARRAY' || @$field < 2 || @$field > 3;
        my ($name, $dtype, $shape) = @$field;
        _wrong('dtype') if !defined $name || ref $name || $name eq '' || $seen{$name}++;
        $size += item_size($dtype, $depth + 1) * elements($shape // []);
    }
    return $size;
}

sub _wrong {
    my ($what) = @_;
    Mlports::Violation->throw(InvalidExtension => "the $what of an ndarray");
}

1;
