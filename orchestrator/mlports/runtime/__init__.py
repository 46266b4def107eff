"""The drivers that carry decisions out: processes, pipes, timers, sockets."""
