package Mlports::Worker;

# A worker program: its methods, and the loop that answers for them, one request after the other.
#
# There are no threads: what the orchestrator says while a handler runs is read when that asks for it (cancelled, check,
# sleep, emit, next_input, call), and before the next request is begun. So it does not claim `ping`.

use strict;
use warnings;

my @FEATURES = qw(batch cancel input ndarray stream);

sub new {
    my ($class, $name) = @_;
    return bless {
        name => $name, handlers => {}, setup => sub { }, phase => 'new', config => {}, jobs => [], open => {},
        calls => {}, next_id => 0, stopping => 0,
    }, $class;
}

# What is done once, with the service's config (a hash), before the first call: the place to load a model.
sub setup {
    my ($self, $handler) = @_;
    $self->{setup} = $handler;
    return $self;
}

# Arguments in, a value out: sub { my ($request, @arguments) = @_; … }. Options: idempotent => 1 (twice does the same as
# once, so that a call may be repeated after a crash), input => 1 (there is a streamed argument: $request->next_input).
sub method { my ($self, $name, $handler, %options) = @_; return $self->_add($name, 'plain', $handler, %options) }

# A reference to a list of arguments in (of lists, where calls have several), one to as many results out; a failure in a
# result's place is that item's error.
sub batch { my ($self, $name, $handler, %options) = @_; return $self->_add($name, 'batch', $handler, %options) }

# Items are given by $request->emit.
sub stream { my ($self, $name, $handler, %options) = @_; return $self->_add($name, 'stream', $handler, %options) }

sub _add {
    my ($self, $name, $kind, $handler, %options) = @_;
    die "$name: names beginning with \$/ are the protocol's\n" if $name =~ m{^\$/};
    $self->{handlers}{$name} = { kind => $kind, code => $handler, %options };
    return $self;
}

# A line for the orchestrator's log; level is debug, info, warning or error.
sub log {
    my ($self, $level, $text, %fields) = @_;
    $self->{connection}->tell(2, '$/log', ["$level", "$text", \%fields]);
    return;
}

# The result of "service.method" of another service, for the handler of $request. Dies with a Failure.
# A last argument {timeout => seconds} in a call to `call_within`; the request's own deadline holds too.
sub call { my ($self, $request, $target, @params) = @_; return $self->call_within($request, undef, $target, @params) }

sub call_within {
    my ($self, $request, $timeout, $target, @params) = @_;
    my $left = $request->deadline;
    $left = $timeout if defined $timeout && (!defined $left || $timeout < $left);
    my $ends = defined $left ? Mlports::Request::now() + $left : undef;
    my %meta;
    $meta{deadline_ms} = $left > 0 ? $left * 1000 : 0 if defined $left;
    $meta{traceparent} = $request->traceparent if defined $request->traceparent;
    $meta{parent} = $request->{id} if defined $request->{id};
    my $id = $self->{next_id}++;
    $self->{calls}{$id} = undef;
    $self->{connection}->tell(0, $id, $target, \@params, %meta ? \%meta : ());
    my $answer = $self->_wait_for($id, $request, $ends, $target);
    my ($error, $result) = @$answer;
    return $result if !defined $error;
    die Mlports->failure($error->{code}, $error->{message}, data => $error->{data}, retryable => !!$error->{retryable});
}

# The same without an answer.
sub cast {
    my ($self, $target, @params) = @_;
    $self->{connection}->tell(2, $target, \@params);
    return;
}

sub _wait_for {
    my ($self, $id, $request, $ends, $target) = @_;
    while (!defined $self->{calls}{$id}) {
        my $left = defined $ends ? $ends - Mlports::Request::now() : undef;
        my $ended = $self->{connection}{ended};
        if ($request->{cancelled} || $ended || defined $left && $left <= 0) {
            delete $self->{calls}{$id};
            $self->{connection}->tell(2, '$/cancel', [$id]) if !$ended;
            die Mlports->failure(cancelled => 'the caller does not want the answer any more') if $request->{cancelled};
            die Mlports->failure(unavailable => "$target was not answered: the orchestrator is gone") if $ended;
            die Mlports->failure(deadline_exceeded => "$target did not answer in time");
        }
        $self->look($left);
    }
    return delete $self->{calls}{$id};
}

# Answers until the orchestrator says stop or closes the stream, then ends the program with status 0. What breaks the
# protocol ends it with status 1.
sub run {
    my ($self) = @_;
    local $SIG{INT} = 'IGNORE';     # at a terminal every process gets it: the orchestrator decides
    local $SIG{PIPE} = 'IGNORE';    # the write that fails ends the program
    $self->{connection} = Mlports::Connection->new(Mlports::Stdio::take());
    if (!eval { $self->_work; 1 }) {
        my $error = $@;
        print STDERR "$error\n";
        POSIX::_exit(1);
    }
    STDOUT->flush;
    POSIX::_exit(0);
}

sub _work {
    my ($self) = @_;
    while (1) {
        $self->look(0);
        if (my $job = shift @{ $self->{jobs} }) { $self->_do($job); next }
        return if $self->{stopping} || $self->{connection}{ended};
        $self->look(undef);
    }
}

# Reads what the orchestrator has said, waiting up to $timeout seconds for it, and sorts it. Throws Violation.
sub look {
    my ($self, $timeout) = @_;
    my $connection = $self->{connection};
    for my $payload ($connection->receive($timeout)) {
        my $message = $connection->parse($payload);
        if    ($message->[0] == 0) { $self->_on_request(@$message[1 .. 4]) }
        elsif ($message->[0] == 1) { $self->_on_answer(@$message[1 .. 3]) }
        else                       { $self->_on_notification(@$message[2 .. 4]) }
    }
    die $connection->{fault} if $connection->{fault};
    Mlports::Violation->throw(TruncatedFrame => 'the input ends inside a frame') if $connection->{ended} && $connection->rest;
    return;
}

# -- requests

sub _on_request {
    my ($self, $id, $method, $params, $meta) = @_;
    return $self->_on_hello($id, $params) if $self->{phase} eq 'new' && $method eq '$/hello';
    Mlports::Violation->throw(DuplicateId => "request id $id is still in use") if $self->{open}{$id};
    Mlports::Violation->throw(HandshakeExpected => "$method in phase $self->{phase}")
        if $self->{phase} ne 'ready' || $method eq '$/hello';
    return $self->{connection}->answer($id, undef, undef) if $method eq '$/ping';
    my $handler = $self->{handlers}{$method}
        or return $self->_refuse($id, unimplemented => "the worker $self->{name} has no method '$method'");
    return $self->_refuse($id, unavailable => 'the worker is told to stop', retryable => Mlports->true) if $self->{stopping};
    my $problem = _problem($handler, $params, $meta);
    return $self->_refuse($id, invalid_argument => "$method: $problem") if $problem;
    $self->{open}{$id} = Mlports::Request->new($self, $id, $method, $params, $meta);
    push @{ $self->{jobs} }, $self->{open}{$id};
    return;
}

sub _refuse {
    my ($self, $id, $code, $text, %more) = @_;
    $self->{connection}->answer($id, { code => $code, message => $text, %more }, undef);
    return;
}

# What is wrong with a request's meta for this handler; nothing where all is well.
sub _problem {
    my ($handler, $params, $meta) = @_;
    my ($credit, $batch, $input) = @$meta{qw(credit batch input)};
    Mlports::Violation->throw(InvalidMessage => 'a credit that is none')
        if defined $credit && !(Mlports::Connection::is_integer($credit) && $credit >= 0);
    return 'it takes a streamed argument' if $handler->{input} && !$input;
    return 'it takes no streamed argument' if $input && !$handler->{input};
    return if !defined $batch;
    return 'a batch neither streams nor takes a streamed argument' if defined $credit || $input;
    my $good = Mlports::Connection::is_integer($batch) && $batch >= 1 && $batch == @$params && !grep { ref ne 'ARRAY' } @$params;
    return $good ? undef : 'a batch of n is an array of n lists of arguments';
}

sub _do {
    my ($self, $request) = @_;
    my $handler = $self->{handlers}{ $request->{method} };
    if (!defined $request->{id}) {
        eval { $handler->{code}->($request, @{ $request->{params} }); 1 }
            or $self->log(error => "the cast to $request->{method} failed: " . Mlports::Failure::map_of($@)->{message});
        return;
    }
    my $result = eval { [undef, $self->_outcome($handler, $request)] };
    if (!$result) {
        my $error = $@;
        die $error if ref $error eq 'Mlports::Violation';
        $result = [Mlports::Failure::map_of($error), undef];
    }
    delete $self->{open}{ $request->{id} };
    $self->{connection}->answer($request->{id}, @$result);
    return;
}

sub _outcome {
    my ($self, $handler, $request) = @_;
    my $left = $request->deadline;
    die Mlports->failure(deadline_exceeded => "the deadline of $request->{method} passed before it began")
        if defined $left && $left <= 0;
    my ($params, $is_batch) = ($request->{params}, defined $request->{meta}{batch});
    return [map { _pair($_) } @{ _results($handler, $request, $params) }] if $is_batch && $handler->{kind} eq 'batch';
    return [map { my $item = $_; _pair(sub { $self->_one($handler, $request, $item) }) } @$params] if $is_batch;
    return $self->_one($handler, $request, $params);
}

sub _one {
    my ($self, $handler, $request, $params) = @_;
    if ($handler->{kind} eq 'batch') {
        my $result = _results($handler, $request, [$params])->[0];
        die $result if _is_failure($result);
        return $result;
    }
    delete $request->{collected};
    my $result = $handler->{code}->($request, @$params);
    return $result if $handler->{kind} ne 'stream';
    return defined $request->{credit} ? undef : $request->{collected} // [];
}

sub _results {
    my ($handler, $request, $items) = @_;
    my $list = (grep { @$_ != 1 } @$items) ? $items : [map { $_->[0] } @$items];
    my $results = $handler->{code}->($request, $list);
    my $count = ref $results eq 'ARRAY' ? @$results : 'no';
    return $results if $count eq @$items;
    die Mlports->failure(internal => "the batch method gave $count results for " . @$items);
}

# [error, result] of a result, or of what a sub gives.
sub _pair {
    my ($given) = @_;
    my $result = $given;
    if (ref $given eq 'CODE' && !eval { $result = $given->(); 1 }) {
        die $@ if ref $@ eq 'Mlports::Violation';
        return [Mlports::Failure::map_of($@), undef];
    }
    return _is_failure($result) ? [Mlports::Failure::map_of($result), undef] : [undef, $result];
}

sub _is_failure { return ref $_[0] eq 'Mlports::Failure' }

# -- the handshake

sub _on_hello {
    my ($self, $id, $params) = @_;
    my $hello = $params->[0];
    _check_hello($hello);
    $self->{phase} = 'greeting';
    my $connection = $self->{connection};
    $connection->{max_frame} = $connection->{peer_max_frame} = $hello->{max_frame} // Mlports::Connection::MAX_FRAME;
    $self->{config} = $hello->{config} // {};
    $self->{setup}->($self->{config});
    $connection->{ndarray} = !!grep { $_ eq 'ndarray' } @{ $hello->{features} // [] };
    $self->{phase} = 'ready';
    $connection->answer($id, undef, {
        protocol => 1, max_frame => $connection->{max_frame}, name => $self->{name}, language => 'perl',
        sdk => "mlports-perl $Mlports::VERSION", methods => $self->_methods, features => \@FEATURES, concurrency => 1,
    });
    return;
}

sub _methods {
    my ($self) = @_;
    my %methods;
    for my $name (keys %{ $self->{handlers} }) {
        my $handler = $self->{handlers}{$name};
        $methods{$name} = {
            (map { ($_ => $handler->{kind} eq $_ ? Mlports->true : Mlports->false) } qw(batch stream)),
            idempotent => $handler->{idempotent} ? Mlports->true : Mlports->false,
            $handler->{input} ? (input => Mlports->true) : (),
        };
    }
    return \%methods;
}

sub _check_hello {
    my ($hello) = @_;
    my $integer = \&Mlports::Connection::is_integer;
    my $text = \&Mlports::Connection::is_text;
    my $versions = ref $hello eq 'HASH' ? $hello->{protocol} : undef;
    my $good = ref $versions eq 'HASH' && $integer->($versions->{min}) && $integer->($versions->{max})
        && (!defined $hello->{max_frame} || $integer->($hello->{max_frame}) && $hello->{max_frame} >= 1 && $hello->{max_frame} < 2**31)
        && (!defined $hello->{features} || ref $hello->{features} eq 'ARRAY' && !grep { !$text->($_) } @{ $hello->{features} })
        && (!defined $hello->{service} || $text->($hello->{service}))
        && (!defined $hello->{replica} || $integer->($hello->{replica}) && $hello->{replica} >= 0)
        && (!defined $hello->{config} || ref $hello->{config} eq 'HASH');
    Mlports::Violation->throw(InvalidHello => 'a field of $/hello is wrong') if !$good;
    my ($min, $max) = @$versions{qw(min max)};
    Mlports::Violation->throw(UnsupportedVersion => "this SDK speaks version 1, the orchestrator $min to $max") if $min > 1 || $max < 1;
    return;
}

# -- notifications and answers

sub _on_notification {
    my ($self, $method, $params, $meta) = @_;
    Mlports::Violation->throw(HandshakeExpected => "$method in phase $self->{phase}") if $self->{phase} ne 'ready';
    if ($method =~ m{^\$/}) { $self->_on_control($method, @$params) }
    elsif (my $handler = $self->{handlers}{$method}) {
        push @{ $self->{jobs} }, Mlports::Request->new($self, undef, $method, $params, $meta) if !$handler->{input};
    }
    else { $self->log(warning => "a cast to $method, which this worker does not have, was dropped") }
    return;
}

my %CONTROL = map { ($_ => 1) } qw($/cancel $/credit $/input $/input_end);

sub _on_control {
    my ($self, $method, $id, @more) = @_;
    $self->{stopping} = 1 if $method eq '$/stop';
    return if !$CONTROL{$method};
    my $good = Mlports::Connection::is_integer($id) && $id >= 0
        && ($method ne '$/credit' || Mlports::Connection::is_integer($more[0]) && $more[0] >= 1)
        && ($method ne '$/input' || @more);
    Mlports::Violation->throw(InvalidMessage => "params of $method") if !$good;
    my $request = $self->{open}{$id} or return;
    if    ($method eq '$/cancel')    { $self->_cancel($request) }
    elsif ($method eq '$/credit')    { $request->{credit} += $more[0] if defined $request->{credit} }
    elsif ($method eq '$/input_end') { $request->{ended} = 1 }
    else {
        Mlports::Violation->throw(CreditExceeded => "an item for request $id beyond its credit") if $request->{granted}-- <= 0;
        push @{ $request->{items} }, $more[0];
    }
    return;
}

sub _cancel {
    my ($self, $request) = @_;
    $request->{cancelled} = 1;
    my @others = grep { $_ != $request } @{ $self->{jobs} };
    return if @others == @{ $self->{jobs} };    # it is at work, and told when it asks
    $self->{jobs} = \@others;
    delete $self->{open}{ $request->{id} };
    $self->_refuse($request->{id}, cancelled => 'the caller does not want the answer any more');
    return;
}

sub _on_answer {
    my ($self, $id, $error, $result) = @_;
    Mlports::Violation->throw(UnknownId => "an answer to request $id, which was never made") if $id >= $self->{next_id};
    $self->{calls}{$id} = [$error, $result] if exists $self->{calls}{$id};    # else it was given up
    return;
}

1;
