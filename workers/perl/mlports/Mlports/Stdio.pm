package Mlports::Stdio;

# Keeps the protocol's stream for the protocol.

use strict;
use warnings;
use POSIX ();

my $channel;

# The handles that carry frames, [read, write], taken away from everybody else, once: where descriptors 0 and 1 were are
# an empty input and standard error then, so that a print, also one by a C library, cannot get between two frames. With
# MLPORTS_TRANSPORT=fd34 descriptors 3 and 4 carry the frames. Programs that the worker starts do not inherit them.
sub take {
    return $channel if $channel;
    my $transport = delete $ENV{MLPORTS_TRANSPORT} // '';
    delete $ENV{MLPORTS_WORKER};    # programs that the worker starts are not workers
    my ($in, $out) = $transport eq 'fd34' ? (_open(3, 4)) : (_open(POSIX::dup(0), POSIX::dup(1)));
    if ($transport ne 'fd34') {
        my $null = POSIX::open('/dev/null', POSIX::O_RDONLY());
        POSIX::dup2($null, 0);
        POSIX::close($null);
        POSIX::dup2(2, 1);
        my $selected = select STDOUT;
        $| = 1;
        select $selected;
    }
    return $channel = [$in, $out];
}

sub _open {
    my ($read, $write) = @_;
    open my $in,  '<&=', $read  or die "descriptor $read: $!\n";
    open my $out, '>&=', $write or die "descriptor $write: $!\n";
    for my $handle ($in, $out) {
        binmode $handle;
        fcntl $handle, 2, 1;        # F_SETFD, FD_CLOEXEC
    }
    return ($in, $out);
}

1;
