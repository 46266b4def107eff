"""A Python program as a worker: of this project's orchestrator, and of an Erlang node by `open_port`."""
