#!/bin/sh
# Starts a worker in R, which can neither move file descriptors nor ignore a signal by itself:
#
#     sh mlports/run.sh Rscript --vanilla worker.R
#
# Its frames go by descriptors 3 and 4, what it prints goes to standard error, and Ctrl-C is left to the orchestrator.
trap '' INT
if [ "${MLPORTS_TRANSPORT:-}" != fd34 ]; then
    exec 3<&0 4>&1 </dev/null >&2
fi
unset MLPORTS_TRANSPORT MLPORTS_WORKER
export MLPORTS_FRAMES=3,4
# R sets a handler of its own for Ctrl-C, so that only blocking it helps; where env can (GNU's).
if env --block-signal=INT true 2>/dev/null; then
    exec env --block-signal=INT "$@"
fi
exec "$@"
