#!/usr/bin/perl

# The methods by which `mlports check` looks more closely at an SDK.
use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use FindBin;
use lib "$FindBin::Bin/../mlports";
use Mlports;

my $worker = Mlports->worker('conformance');
my @kept;

$worker->method(echo => sub ($request, $value) { $value }, idempotent => 1);

# Perl adds references, too: their addresses.
$worker->method(
    add => sub ($request, $x, $y) {
        die Mlports->failure(invalid_argument => 'numbers are needed') if ref $x || ref $y;
        $x + $y;
    },
    idempotent => 1
);

$worker->method(fail => sub ($request, $message) { die "$message\n" });
$worker->method(refuse => sub ($request, $code, $message) { die Mlports->failure($code, $message) });
$worker->method(sleep => sub ($request, $seconds) { $request->sleep($seconds) });
$worker->method(print => sub ($request, $text) { print "$text\n"; undef });

$worker->batch(
    root => sub ($request, $xs) {
        [map { $_ < 0 ? Mlports->failure(invalid_argument => "$_ has no square root") : sqrt } @$xs];
    },
    idempotent => 1
);

$worker->stream(count => sub ($request, $n) { $request->emit($_) for 0 .. $n - 1 });

$worker->method(
    total => sub ($request) {
        my ($sum, $item) = (0);
        $sum += $item while $request->next_input(\$item);
        $sum;
    },
    input => 1
);

$worker->method(relay => sub ($request, $target, $params) { $worker->call($request, $target, @$params) });
$worker->method(note => sub ($request, $level, $text) { $worker->log($level, $text); undef });
$worker->method(advance => sub ($request, $n) { $request->progress($_, $n) for 1 .. $n; $n });
$worker->method(mark => sub ($request, $value) { push @kept, $value; undef });
$worker->method(marks => sub ($request) { [@kept] });

$worker->run;
