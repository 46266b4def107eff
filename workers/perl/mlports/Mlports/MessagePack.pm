package Mlports::MessagePack;

# MessagePack as SPEC.md 3 has it. Written here because the library for Perl knows neither bin nor extensions.
#
#     nil        undef                  str      a string of characters
#     booleans   TRUE, FALSE            bin      Mlports::Bytes, which works as a string of bytes
#     integers   all 64 bits            array    a reference to an array; map: to a hash, whose keys are strings
#     floats     1.0 is not 1           ext      Mlports::NDArray, Mlports::Timestamp, Mlports::Extension
#
# Perl does not tell characters from bytes: a plain string that is valid UTF-8, or has wide characters, is sent as str,
# any other as bin, and Mlports->bytes(…) always is.

use strict;
use warnings;
no warnings 'recursion';    # values may be nested
use B ();

use constant DEEPEST => 128;    # levels of nesting, the message's own array counted

# Core Perl's own booleans for JSON: they are what other modules know.
use JSON::PP ();
sub TRUE  { return JSON::PP::true() }
sub FALSE { return JSON::PP::false() }

# -- writing

# Bytes. Dies with a text for a value that cannot be sent. $ndarray: whether the other side takes them.
sub encode {
    my ($value, $ndarray) = @_;
    my $out = '';
    _write(\$out, $value, $ndarray, 0);
    return $out;
}

sub _write {
    my ($out, $value, $ndarray, $depth) = @_;
    my $kind = ref $value;
    if (!defined $value) { $$out .= "\xc0" }
    elsif ($kind eq '')  { _write_scalar($out, $value) }
    elsif ($kind eq 'ARRAY') {
        die "nested deeper than " . DEEPEST . "\n" if $depth >= DEEPEST;
        _head($out, scalar @$value, 0x90, 15, 0xdc);
        _write($out, $_, $ndarray, $depth + 1) for @$value;
    }
    elsif ($kind eq 'HASH') {
        die "nested deeper than " . DEEPEST . "\n" if $depth >= DEEPEST;
        _head($out, scalar keys %$value, 0x80, 15, 0xde);
        for my $key (sort keys %$value) {
            _write_text($out, $key);
            _write($out, $value->{$key}, $ndarray, $depth + 1);
        }
    }
    elsif ($kind eq 'Mlports::Bytes')     { _write_bytes($out, $$value) }
    elsif (JSON::PP::is_bool($value))      { $$out .= $value ? "\xc3" : "\xc2" }
    elsif ($kind eq 'Mlports::Timestamp') { _write_timestamp($out, @$value) }
    elsif ($kind eq 'Mlports::Extension') { _write_extension($out, $value->{code}, $value->{data}) }
    elsif ($kind eq 'Mlports::NDArray') {
        die "an ndarray cannot be sent: the orchestrator takes none\n" if !$ndarray;
        my $head = '';
        _write(\$head, [$value->{dtype}, $value->{shape}], 0, 0);
        _write_extension($out, 1, $head . $value->{data});
    }
    else { die "a value of type $kind cannot be sent\n" }
    return;
}

sub _write_scalar {
    my ($out, $value) = @_;
    my $flags = B::svref_2object(\$value)->FLAGS;
    if    ($flags & B::SVf_POK) { _write_text($out, $value) }
    elsif ($flags & B::SVf_IOK) { _write_integer($out, $value) }
    elsif ($flags & B::SVf_NOK) { $$out .= "\xcb" . pack 'd>', $value }
    else                        { _write_text($out, "$value") }
    return;
}

sub _write_integer {
    my ($out, $value) = @_;
    $$out .=
          $value >= 0
        ? $value < 128           ? pack('C', $value)
        : $value < 256           ? pack('CC', 0xcc, $value)
        : $value < 65_536        ? pack('Cn', 0xcd, $value)
        : $value < 4_294_967_296 ? pack('CN', 0xce, $value)
        :                          pack('CQ>', 0xcf, $value)
        : $value >= -32            ? pack('c', $value)
        : $value >= -128           ? pack('Cc', 0xd0, $value)
        : $value >= -32_768        ? pack('Cs>', 0xd1, $value)
        : $value >= -2_147_483_648 ? pack('Cl>', 0xd2, $value)
        :                            pack('Cq>', 0xd3, $value);
    return;
}

sub _write_text {
    my ($out, $text) = @_;
    my $bytes = $text;
    if (utf8::is_utf8($bytes)) { utf8::encode($bytes) }
    else {
        my $try = $bytes;
        return _write_bytes($out, $bytes) if !utf8::decode($try);
    }
    my $length = length $bytes;
    $$out .= $length < 32 ? pack('C', 0xa0 | $length) : $length < 256 ? pack('CC', 0xd9, $length)
        : $length < 65_536 ? pack('Cn', 0xda, $length) : pack('CN', 0xdb, $length);
    $$out .= $bytes;
    return;
}

sub _write_bytes {
    my ($out, $bytes) = @_;
    my $length = length $bytes;
    $$out .= $length < 256 ? pack('CC', 0xc4, $length) : $length < 65_536 ? pack('Cn', 0xc5, $length) : pack('CN', 0xc6, $length);
    $$out .= $bytes;
    return;
}

sub _head {
    my ($out, $count, $short, $most, $long) = @_;
    $$out .= $count <= $most ? pack('C', $short | $count) : $count < 65_536 ? pack('Cn', $long, $count) : pack('CN', $long + 1, $count);
    return;
}

my %FIXEXT = (1 => 0xd4, 2 => 0xd5, 4 => 0xd6, 8 => 0xd7, 16 => 0xd8);

sub _write_extension {
    my ($out, $code, $data) = @_;
    my $length = length $data;
    $$out .= $FIXEXT{$length} ? pack('C', $FIXEXT{$length}) : $length < 256 ? pack('CC', 0xc7, $length)
        : $length < 65_536 ? pack('Cn', 0xc8, $length) : pack('CN', 0xc9, $length);
    $$out .= pack('c', $code) . $data;
    return;
}

sub _write_timestamp {
    my ($out, $seconds, $nanoseconds) = @_;
    my $data =
          $seconds < 0 || $seconds >= 2**34 ? pack('Nq>', $nanoseconds, $seconds)
        : $nanoseconds || $seconds >= 2**32 ? pack('Q>', $nanoseconds << 34 | $seconds)
        :                                     pack('N', $seconds);
    return _write_extension($out, -1, $data);
}

# -- reading

# The one value in a frame's payload. Throws Violation. $ndarray: whether arrays were agreed.
sub decode {
    my ($payload, $ndarray) = @_;
    my $at = 0;
    my $value = _read(\$payload, \$at, $ndarray, 0);
    Mlports::Violation->throw(TrailingBytes => 'bytes behind the value in a frame') if $at < length $payload;
    return $value;
}

my %NUMBER = (
    0xca => ['f>', 4], 0xcb => ['d>', 8], 0xcc => ['C', 1],  0xcd => ['n', 2],  0xce => ['N', 4],
    0xcf => ['Q>', 8], 0xd0 => ['c', 1],  0xd1 => ['s>', 2], 0xd2 => ['l>', 4], 0xd3 => ['q>', 8],
);
my %LENGTH = (
    (map { ($_ => ['C', 1]) } 0xc4, 0xc7, 0xd9),
    (map { ($_ => ['n', 2]) } 0xc5, 0xc8, 0xda, 0xdc, 0xde),
    (map { ($_ => ['N', 4]) } 0xc6, 0xc9, 0xdb, 0xdd, 0xdf),
);

sub _read {
    my ($in, $at, $ndarray, $depth) = @_;
    my $byte = ord _take($in, $at, 1);
    return $byte if $byte < 0x80;
    return $byte - 256 if $byte >= 0xe0;
    return _read_map($in, $at, $byte & 15, $ndarray, $depth) if $byte < 0x90;
    return _read_array($in, $at, $byte & 15, $ndarray, $depth) if $byte < 0xa0;
    return _text(_take($in, $at, $byte & 31)) if $byte < 0xc0;
    if (my $number = $NUMBER{$byte}) {
        return unpack $number->[0], _take($in, $at, $number->[1]);
    }
    return undef if $byte == 0xc0;
    return FALSE() if $byte == 0xc2;
    return TRUE()  if $byte == 0xc3;
    return _read_extension($in, $at, 1 << $byte - 0xd4, $ndarray) if $byte >= 0xd4 && $byte <= 0xd8;
    my $length = $LENGTH{$byte} or _malformed('the byte c1');
    $length = unpack $length->[0], _take($in, $at, $length->[1]);
    return Mlports::Bytes->new(_take($in, $at, $length))    if $byte <= 0xc6;
    return _read_extension($in, $at, $length, $ndarray)   if $byte <= 0xc9;
    return _text(_take($in, $at, $length))                if $byte <= 0xdb;
    return _read_array($in, $at, $length, $ndarray, $depth) if $byte <= 0xdd;
    return _read_map($in, $at, $length, $ndarray, $depth);
}

sub _take {
    my ($in, $at, $count) = @_;
    _malformed('a value that says to be longer than its frame') if $$at + $count > length $$in;
    my $bytes = substr $$in, $$at, $count;
    $$at += $count;
    return $bytes;
}

sub _text {
    my ($bytes) = @_;
    utf8::decode($bytes) or _malformed('a str that is not UTF-8');
    # Perl's own decoding takes more than UTF-8 is: halves of surrogate pairs, and what is past U+10FFFF.
    _malformed('a str that is not UTF-8') if utf8::is_utf8($bytes) && $bytes =~ /[\x{d800}-\x{dfff}]|[^\x{0}-\x{10ffff}]/;
    utf8::upgrade($bytes);
    return $bytes;
}

sub _read_array {
    my ($in, $at, $count, $ndarray, $depth) = @_;
    _room($in, $at, $count, $depth);
    return [map { _read($in, $at, $ndarray, $depth + 1) } 1 .. $count];
}

sub _read_map {
    my ($in, $at, $count, $ndarray, $depth) = @_;
    _room($in, $at, 2 * $count, $depth);
    my %map;
    for (1 .. $count) {
        my $key = _read($in, $at, 0, $depth + 1);
        _malformed('an array or a map as a key') if ref $key eq 'ARRAY' || ref $key eq 'HASH';
        $map{ defined $key ? "$key" : '' } = _read($in, $at, $ndarray, $depth + 1);
    }
    return \%map;
}

sub _room {
    my ($in, $at, $count, $depth) = @_;
    _malformed('nested deeper than ' . DEEPEST) if $depth >= DEEPEST;
    _malformed('a value that says to be longer than its frame') if $$at + $count > length $$in;
    return;
}

sub _read_extension {
    my ($in, $at, $length, $ndarray) = @_;
    my $code = unpack 'c', _take($in, $at, 1);
    my $data = _take($in, $at, $length);
    return _timestamp($data) if $code == -1;
    return _ndarray($data) if $code == 1 && $ndarray;
    Mlports::Violation->throw(InvalidExtension => "extension $code, which was not agreed") if $code >= 1 && $code <= 3;
    return bless { code => $code, data => $data }, 'Mlports::Extension';
}

sub _timestamp {
    my ($data) = @_;
    my $length = length $data;
    my ($seconds, $nanoseconds) =
          $length == 4  ? (unpack('N', $data), 0)
        : $length == 8  ? (unpack('Q>', $data) & 2**34 - 1, unpack('Q>', $data) >> 34)
        : $length == 12 ? (reverse unpack 'Nq>', $data)
        :                 _malformed("a timestamp of $length bytes");
    _malformed("a timestamp with $nanoseconds nanoseconds") if $nanoseconds > 999_999_999;
    return bless [$seconds, $nanoseconds], 'Mlports::Timestamp';
}

sub _ndarray {
    my ($data) = @_;
    my $at = 0;
    my $head = eval { _read(\$data, \$at, 0, 0) };
    my $size = ref $head eq 'ARRAY' && @$head == 2
        ? Mlports::NDArray::elements($head->[1]) * Mlports::NDArray::item_size($head->[0]) : -1;
    my $left = length($data) - $at;
    Mlports::Violation->throw(InvalidExtension => "$left bytes for an ndarray of $size") if $size != $left;
    return Mlports::NDArray->new(@$head, substr $data, $at);
}

sub _malformed {
    my ($reason) = @_;
    Mlports::Violation->throw(MalformedValue => $reason);
}

package Mlports::Bytes;

# A string of bytes, which is sent as bin.

use overload '""' => sub { ${ $_[0] } }, fallback => 1;

sub new {
    my ($class, $bytes) = @_;
    utf8::encode($bytes) if utf8::is_utf8($bytes) && !utf8::downgrade($bytes, 1);
    return bless \$bytes, $class;
}

1;
