#!/usr/bin/perl

# A worker: a program whose methods mlports calls, in a process of its own.
use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use FindBin;
use lib "$FindBin::Bin/mlports";
use Mlports;
use Scalar::Util 'looks_like_number';

my $worker = Mlports->worker('@NAME@');
my %line;

# Called once, before the first call, with `config` from mlports.toml: the place to load a model.
$worker->setup(
    sub ($config) {
        %line = (slope => $config->{slope} // 1.0, intercept => $config->{intercept} // 0.0);
    }
);

# A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol.
$worker->method(
    describe => sub ($request) {
        print "somebody asked what this is\n";
        +{ kind => 'line', %line };
    }
);

# A batch method: a list of arguments in, as many results out, so that a model can work on many at once.
# A failure in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
$worker->batch(predict => sub ($request, $xs) { [map { predict_one($_) } @$xs] }, idempotent => 1);

sub predict_one ($x) {
    return Mlports->failure(invalid_argument => 'a number is needed') if !defined $x || ref $x || !looks_like_number($x);
    return $line{slope} * $x + $line{intercept};
}

# A stream method: each item is sent when it is emitted, which waits until the caller takes it.
$worker->stream(
    steps => sub ($request, $n, $seconds = 0.1) {
        for my $number (1 .. $n) {
            $request->sleep($seconds);
            $request->progress($number, $n);
            $request->emit($number);
        }
    }
);

$worker->run;
