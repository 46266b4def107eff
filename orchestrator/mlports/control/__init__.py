"""The control socket: how other processes reach a running orchestrator.

A Unix socket `control.sock` in the state directory (mode 0600), which speaks the worker protocol with the parts
exchanged: whoever connects sends requests `service.method`, and the orchestrator answers. Its own requests:

    $/status []                    what `Orchestrator.status()` gives
    $/events [recent]              a stream of events: the `recent` latest ones (a number), then those that follow
    $/shutdown []                  stops the orchestrator; answered when it begins, and hung up when it is done
"""

from __future__ import annotations

from mlports.control.client import Client, connect
from mlports.control.server import ControlServer, serve
from mlports.control.state import StateDir

__all__ = ["Client", "ControlServer", "StateDir", "connect", "serve"]
