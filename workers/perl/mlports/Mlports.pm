package Mlports;

# The SDK for worker programs in Perl. It needs nothing but Perl.
#
#     use Mlports;
#
#     my $worker = Mlports->worker('digits');
#     $worker->method(double => sub { my ($request, $x) = @_; 2 * $x });
#     $worker->run;
#
# Use it before anything that prints: from then on standard output belongs to the protocol, and what prints prints on
# standard error.

use strict;
use warnings;

our $VERSION = '0.1.0';

use Mlports::Failure;
use Mlports::MessagePack;
use Mlports::NDArray;
use Mlports::Stdio;
use Mlports::Connection;
use Mlports::Request;
use Mlports::Worker;

Mlports::Stdio::take() if ($ENV{MLPORTS_WORKER} // '') eq '1';

# A worker program called $name.
sub worker {
    my ($class, $name) = @_;
    return Mlports::Worker->new($name);
}

# An error with a chosen code, to die with: code, message, and data => …, retryable => 1.
sub failure {
    my ($class, $code, $message, %more) = @_;
    return Mlports::Failure->new($code, $message, %more);
}

# A string of bytes, which is sent as such whatever is in it.
sub bytes {
    my ($class, $bytes) = @_;
    return Mlports::Bytes->new($bytes);
}

sub true  { return Mlports::MessagePack::TRUE() }
sub false { return Mlports::MessagePack::FALSE() }

1;
