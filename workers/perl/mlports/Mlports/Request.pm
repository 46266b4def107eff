package Mlports::Request;

# What a handler knows of the request that it works on; its first argument.

use strict;
use warnings;
use Time::HiRes ();

use constant AHEAD => 16;    # items of a streamed argument that may be on their way

sub now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub new {
    my ($class, $worker, $id, $method, $params, $meta) = @_;
    my $left = $meta->{deadline_ms};
    return bless {
        worker => $worker, id => $id, method => $method, params => $params, meta => $meta, credit => $meta->{credit},
        expires => defined $left ? now() + $left / 1000 : undef, items => [], granted => 0, ended => 0, cancelled => 0,
    }, $class;
}

sub config          { return $_[0]{worker}{config} }
sub traceparent     { return $_[0]{meta}{traceparent} }
sub idempotency_key { return $_[0]{meta}{idempotency_key} }

# Seconds that the caller will still wait; undef for as long as it takes.
sub deadline {
    my ($self) = @_;
    return defined $self->{expires} ? $self->{expires} - now() : undef;
}

# Whether nobody wants the answer any more: looks at what the orchestrator has said meanwhile.
sub cancelled {
    my ($self) = @_;
    $self->{worker}->look(0);
    return $self->{cancelled};
}

# Dies when nobody wants the answer any more, and when its time is over.
sub check {
    my ($self) = @_;
    die Mlports->failure(cancelled => 'the caller does not want the answer any more') if $self->cancelled;
    my $left = $self->deadline;
    die Mlports->failure(deadline_exceeded => 'the deadline passed') if defined $left && $left <= 0;
    return;
}

# Waits for so many seconds; dies as check does, as soon as there is reason to.
sub sleep {
    my ($self, $seconds) = @_;
    my $ends = now() + $seconds;
    while (1) {
        $self->check;
        my $left = $ends - now();
        return $seconds if $left <= 0;
        my $deadline = $self->deadline;
        $self->{worker}->look(defined $deadline && $deadline < $left ? $deadline : $left);
    }
}

# Tells how far the work has come: numbers, and a text.
sub progress {
    my ($self, $done, $total, $text) = @_;
    $self->{worker}{connection}->tell(2, '$/progress', [$self->{id}, $done, $total, $text // '']) if defined $self->{id};
    return;
}

# One item of the answer of a streaming method; waits until the caller takes it.
sub emit {
    my ($self, $item) = @_;
    $self->check;
    if (!defined $self->{credit}) {
        push @{ $self->{collected} }, $item;
        return;
    }
    while ($self->{credit} <= 0) {
        $self->{worker}->look(undef);
        $self->check;
        # The end of the input: nobody will ever take it.
        die Mlports->failure(cancelled => 'nobody takes the items any more') if $self->{credit} <= 0 && $self->{worker}{connection}{ended};
    }
    $self->{credit}--;
    $self->{worker}{connection}->tell(2, '$/item', [$self->{id}, $item]);
    return;
}

# The next item of the streamed argument, put into $$item; false behind the last.
sub next_input {
    my ($self, $item) = @_;
    while (1) {
        $self->check;
        $self->_grant;
        if (@{ $self->{items} }) {
            $$item = shift @{ $self->{items} };
            return 1;
        }
        return 0 if $self->{ended};
        die Mlports->failure(unavailable => 'the streamed argument was cut off') if $self->{worker}{connection}{ended};
        $self->{worker}->look(undef);
    }
}

sub _grant {
    my ($self) = @_;
    my $ahead = $self->{granted} + @{ $self->{items} };
    return if $self->{ended} || $ahead > AHEAD / 2;
    $self->{granted} += AHEAD - $ahead;
    $self->{worker}{connection}->tell(2, '$/input_credit', [$self->{id}, AHEAD - $ahead]);
    return;
}

1;
