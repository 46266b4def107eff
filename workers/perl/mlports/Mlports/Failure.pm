package Mlports::Failure;

# Errors with a code of SPEC.md 4.4: what a handler dies with, and what calls of other services die with.

use strict;
use warnings;
use overload '""' => sub { "$_[0]{code}: $_[0]{message}" }, fallback => 1;

sub new {
    my ($class, $code, $message, %more) = @_;
    return bless { code => $code, message => $message, %more }, $class;
}

sub code    { return $_[0]{code} }
sub message { return $_[0]{message} }
sub data    { return $_[0]{data} }

# The protocol's error map for whatever a handler died with.
sub map_of {
    my ($error) = @_;
    if (ref $error && eval { $error->isa('Mlports::Failure') }) {
        my %map = (code => "$error->{code}", message => one_line($error->{message}));
        $map{data} = $error->{data} if defined $error->{data};
        $map{retryable} = Mlports::MessagePack::TRUE() if $error->{retryable};
        return \%map;
    }
    my $type = ref $error || 'die';
    return {
        code    => 'unknown',
        message => one_line(ref $error ? "$type: $error" : "$error"),
        data    => { type => $type, traceback => "$error" },
    };
}

sub one_line {
    my ($text) = @_;
    $text =~ s/\s+/ /g;
    $text =~ s/^ | $//g;
    return substr $text, 0, 1000;
}

package Mlports::Violation;

# The orchestrator broke the protocol: name is that of SPEC.md 13. It ends the worker.

use overload '""' => sub { "$_[0]{name}: $_[0]{reason}" }, fallback => 1;

sub throw {
    my ($class, $name, $reason) = @_;
    die bless { name => $name, reason => $reason }, $class;
}

1;
