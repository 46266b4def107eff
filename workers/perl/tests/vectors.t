#!/usr/bin/perl

# The golden vectors of the protocol, as far as they are about bytes and values.
use strict;
use warnings;
use feature 'signatures';
no warnings qw(experimental::signatures recursion);
use FindBin;
use JSON::PP;
use Test::More;
use Mlports;

# What Perl has no types for: keys are strings, and 2^64 and odd times have none either.
my %LACKING = map { ($_ => 1) } qw(map-int-keys map-odd-keys map-nil-key map-bool-keys map-bin-key);

open my $file, '<:raw', "$FindBin::Bin/../../../protocol/vectors/frames.json" or die $!;
my $frames = JSON::PP->new->utf8->max_depth(2000)->decode(do { local $/; <$file> })->{vectors};

# Fed byte by byte by a pipe of its own, as the connection reads it.
sub decoded ($vector) {
    pipe my $read, my $write or die $!;
    syswrite $write, pack 'H*', $vector->{hex};
    close $write;
    my $connection = Mlports::Connection->new([$read, undef]);
    $connection->{ndarray} = 1;
    $connection->{max_frame} = $vector->{max_frame} // Mlports::Connection::MAX_FRAME();
    my @messages;
    my $good = eval {
        while (!$connection->{ended} && !$connection->{fault}) {
            push @messages, $connection->parse($_) for $connection->receive(undef);
        }
        die $connection->{fault} if $connection->{fault};
        Mlports::Violation->throw(TruncatedFrame => '') if $vector->{eof} && $connection->rest;
        1;
    };
    return (\@messages, $good ? undef : ref $@ eq 'Mlports::Violation' ? $@->{name} : "died: $@");
}

sub wanted ($message) {
    my %of = %$message;
    return [1, $of{id}, value($of{error}), value($of{result})] if $of{type} eq 'response';
    return [$of{type} eq 'request' ? 0 : 2, $of{id}, $of{method}, value($of{params}), value($of{meta}) // {}];
}

sub value ($json) {
    return [map { value($_) } @$json] if ref $json eq 'ARRAY';
    return $json if ref $json ne 'HASH';
    my ($tag, $content) = %$json;
    return $content + 0 if $tag eq 'int';
    return { inf => 9**9**9, -inf => -9**9**9, nan => -sin(9**9**9), '-0.0' => -0.0 }->{$content} // float($content) if $tag eq 'float';
    return Mlports->bytes(pack 'H*', $content) if $tag eq 'bin';
    return { map { (key(value($_->[0])) => value($_->[1])) } @$content } if $tag eq 'map';
    return bless [@$content], 'Mlports::Timestamp' if $tag eq 'timestamp';
    return Mlports::NDArray->new($content->{dtype}, $content->{shape}, pack 'H*', $content->{hex}) if $tag eq 'ndarray';
    return bless { code => $content->[0], data => pack('H*', $content->[1]) }, 'Mlports::Extension';
}

sub key ($key) { return $key // '' }
sub float ($text) { return unpack 'd', pack 'd', $text }

# A value by what tells it from all others: 1 from 1.0, str from bin, NaN like NaN.
sub shown ($value) {
    return 'nil' if !defined $value;
    return '[' . join(',', map { shown($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(',', map { "$_:" . shown($value->{$_}) } sort keys %$value) . '}' if ref $value eq 'HASH';
    return 'nan' if !ref $value && $value =~ /^-?nan$/i;
    return 'array' . shown([@$value{qw(dtype shape)}]) . unpack 'H*', $value->{data} if ref $value eq 'Mlports::NDArray';
    return unpack 'H*', Mlports::MessagePack::encode($value);
}

sub has_order ($value) {
    return ref $value eq 'HASH' ? keys %$value > 1 || grep { has_order($_) } values %$value
        : ref $value eq 'ARRAY' ? grep { has_order($_) } @$value : 0;
}

sub frame (@message) {
    splice @message, 1, 1 if $message[0] == 2;
    pop @message if $message[0] != 1 && !%{ $message[-1] };
    my $payload = Mlports::MessagePack::encode(\@message, 1);
    return pack('N', length $payload) . $payload;
}

for my $vector (grep { !$_->{segments} } @$frames) {
    my ($name, $lacking) = ($vector->{name}, $vector->{optional} || $LACKING{ $vector->{name} });
    my ($messages, $error) = decoded($vector);
    my @wanted = map { wanted($_) } @{ $vector->{messages} // [] };
    my $fault = $vector->{error};
    $fault = 'FrameTooLarge' if ($fault // '') eq 'StdoutPolluted';    # which a worker does not tell from it
    is($error, $fault, "$name: its fault") if !$lacking;
    is(shown($messages), shown(\@wanted), "$name: its messages") if !$lacking;
    # A response's meta is dropped, and the order of a hash's keys is Perl's own.
    next if $lacking || !$vector->{encode} || $name eq 'response-meta' || grep { has_order($_) } @wanted;
    is(unpack('H*', join '', map { frame(@$_) } @wanted), $vector->{hex}, "$name: written");
}
done_testing;
