"""The hybrid architecture: a stream, a pipeline, a Python model, an orchestrator, and clients over HTTP."""
