package Mlports::Connection;

# Frames in, frames out, for one worker that does one thing at a time.

use strict;
use warnings;
use B ();
use POSIX ();

use constant MAX_FRAME => 67_108_864;
use constant READ_SIZE => 65_536;

sub new {
    my ($class, $channel) = @_;
    return bless {
        in  => $channel->[0],
        out => $channel->[1],
        buffer => '', ended => 0, ndarray => 0, max_frame => MAX_FRAME, peer_max_frame => MAX_FRAME,
    }, $class;
}

# Reads what is there, waiting up to $timeout seconds for it (undef: for ever); the messages that it completes.
# Once the stream has ended, {ended} is set. Throws Violation.
sub receive {
    my ($self, $timeout) = @_;
    return if $self->{ended};
    my $bits = '';
    vec($bits, fileno $self->{in}, 1) = 1;
    my $ready = select $bits, undef, undef, $timeout;
    return if $ready <= 0;    # nothing came, or a signal did
    my $count = sysread $self->{in}, $self->{buffer}, READ_SIZE, length $self->{buffer};
    return if !defined $count;
    $self->{ended} = 1 if !$count;
    return $self->_messages;
}

# How many bytes of a message wait for the rest of it.
sub rest { return length $_[0]{buffer} }

sub _messages {
    my ($self) = @_;
    my ($at, $size, @messages) = (0, length $self->{buffer});
    while ($size - $at >= 4) {
        my $length = unpack 'N', substr $self->{buffer}, $at, 4;
        my $wrong = !$length ? 'EmptyFrame' : $length > $self->{max_frame} ? 'FrameTooLarge' : undef;
        if ($wrong) {
            # What came before it is delivered first.
            $self->{fault} = bless { name => $wrong, reason => "a frame of $length bytes" }, 'Mlports::Violation';
            last;
        }
        last if $size - $at - 4 < $length;
        push @messages, substr $self->{buffer}, $at + 4, $length;
        $at += 4 + $length;
    }
    substr($self->{buffer}, 0, $at) = '' if $at;
    return @messages;
}

# The message in a payload, checked. Throws Violation.
sub parse {
    my ($self, $payload) = @_;
    my $message = Mlports::MessagePack::decode($payload, $self->{ndarray});
    _invalid('a message that is no array') if ref $message ne 'ARRAY';
    my ($kind, @rest) = @$message;
    _invalid('a message of an unknown kind') if !is_integer($kind) || $kind < 0 || $kind > 2;
    _invalid('a message that is too short') if @rest < ($kind == 2 ? 2 : 3);
    if ($kind == 1) {
        _id($rest[0]);
        _meta($rest[3]);
        return [1, $rest[0], _error($rest[1], $rest[2]), $rest[2]];
    }
    my $id = $kind == 0 ? _id(shift @rest) : undef;
    my ($method, $params, $meta) = @rest;
    _invalid('a method that is no text') if !is_text($method) || "$method" eq '';
    $method = _text($method);
    _invalid('params that are no array') if ref $params ne 'ARRAY';
    return [$kind, $id, $method, $params, _meta($meta)];
}

sub is_integer {
    my ($value) = @_;
    return defined $value && !ref $value && (B::svref_2object(\$value)->FLAGS & (B::SVf_IOK | B::SVf_POK | B::SVf_NOK)) == B::SVf_IOK;
}

# A string, also one that came as bin (SPEC.md 3.4).
sub is_text {
    my ($value) = @_;
    return 0 if !defined $value;
    return 1 if !ref $value && B::svref_2object(\$value)->FLAGS & B::SVf_POK;
    my $bytes = "$value";
    return ref $value eq 'Mlports::Bytes' && utf8::decode($bytes);
}

sub _text {
    my ($value) = @_;
    my $text = "$value";
    utf8::decode($text) if ref $value;
    return $text;
}

sub is_number {
    my ($value) = @_;
    return defined $value && !ref $value && !(B::svref_2object(\$value)->FLAGS & B::SVf_POK);
}

sub _id {
    my ($id) = @_;
    _invalid('an id that is none') if !is_integer($id) || $id < 0 || $id >= 2**53;
    return $id;
}

sub _meta {
    my ($meta) = @_;
    return {} if !defined $meta;
    _invalid('meta that is no map') if ref $meta ne 'HASH';
    my $deadline = $meta->{deadline_ms};
    _invalid('a deadline_ms that is no number') if defined $deadline && !(is_number($deadline) && $deadline >= 0);
    return $meta;
}

sub _error {
    my ($error, $result) = @_;
    return undef if !defined $error;
    my $good = ref $error eq 'HASH' && is_text($error->{code}) && is_text($error->{message}) && !defined $result
        && (!defined $error->{retryable} || JSON::PP::is_bool($error->{retryable}));
    _invalid('an error without code and message, or with a result') if !$good;
    return { %$error, code => _text($error->{code}), message => _text($error->{message}) };
}

sub _invalid {
    my ($what) = @_;
    Mlports::Violation->throw(InvalidMessage => $what);
}

# Writes one message. Dies with a text for a value that cannot be sent or makes too long a frame.
sub tell {
    my ($self, @message) = @_;
    my $payload = Mlports::MessagePack::encode(\@message, $self->{ndarray});
    my $length = length $payload;
    die "too long: $length bytes, and the orchestrator takes frames of $self->{peer_max_frame} (max_frame)\n"
        if $length > $self->{peer_max_frame};
    my $frame = pack('N', $length) . $payload;
    my $at = 0;
    while ($at < length $frame) {
        my $written = syswrite $self->{out}, $frame, length($frame) - $at, $at;
        if (defined $written) { $at += $written; next }
        next if $!{EINTR};
        if ($!{EAGAIN}) {    # somebody made the descriptor non-blocking
            my $bits = '';
            vec($bits, fileno $self->{out}, 1) = 1;
            select undef, $bits, undef, undef;
            next;
        }
        POSIX::_exit(1);     # nobody reads any more, and there is nobody to tell
    }
    return;
}

# Answers a request, whatever it takes: a result that cannot be sent becomes an error.
sub answer {
    my ($self, $id, $error, $result) = @_;
    return if eval { $self->tell(1, $id, $error, $result); 1 };
    my $why = "$@";
    my $code = $why =~ /^too long/ ? 'resource_exhausted' : 'internal';
    $self->tell(1, $id, { code => $code, message => Mlports::Failure::one_line("the answer cannot be sent: $why") }, undef);
    return;
}

1;
