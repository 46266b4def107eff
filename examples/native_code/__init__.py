"""Native code in the orchestrator's own process, and in a worker's: what it gains, and what it risks."""
