"""The two ends of a connection, each with its part in the handshake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .codec import Buffer
from .control import hello_params, methods_said, parse_hello, parse_hello_answer
from .errors import HandshakeExpected, WrongState
from .events import IMPLEMENTED, VERSION, Event, Greeted, HelloAsked, MethodInfo, Peer, Probe
from .exchange import Session as Session
from .framing import DEFAULT_MAX_FRAME
from .messages import Request, Response


class OrchestratorSession(Session):
    """The orchestrator's end: says hello first."""

    def __init__(self, max_frame: int = DEFAULT_MAX_FRAME) -> None:
        super().__init__(max_frame)
        self.peer = Peer()
        self._offered: frozenset[str] = frozenset()

    def hello(
        self,
        service: str,
        replica: int,
        config: dict[str, Any],
        features: frozenset[str] = IMPLEMENTED,
        probe: Probe | None = None,
    ) -> list[Buffer]:
        """`$/hello`, the first message. The worker's answer comes as `Greeted`."""
        if self.phase != "new":
            raise WrongState("$/hello was sent already")
        self._offered = features
        params = hello_params(service, replica, config, features, self.decoder.max_frame, probe)
        buffers = self._encode(Request(self._next_id, "$/hello", params))
        self._asked[self._next_id] = None
        self._next_id += 1
        self.phase = "greeting"
        return buffers

    def _receive_answer(self, message: Response) -> Event:
        event = super()._receive_answer(message)
        if self.phase != "greeting":
            return event
        if message.error is not None:
            self.peer = Peer(bare=True)
        else:
            self.peer = parse_hello_answer(message.result)
        self._agree(self.peer.features & self._offered, self.peer.max_frame)
        return Greeted(self.peer)


class WorkerSession(Session):
    """The worker's end: answers hello."""

    def _receive_request(self, message: Request) -> Event:
        if message.method == "$/hello":
            if self.phase != "new":
                raise HandshakeExpected("a second $/hello")
            hello = parse_hello(message.params)
            self.phase = "greeting"
            self._peer_max_frame = hello.max_frame
            return HelloAsked(message.id, hello)
        return super()._receive_request(message)

    def answer_hello(
        self,
        asked: HelloAsked,
        *,
        name: str,
        language: str,
        sdk: str,
        methods: Mapping[str, MethodInfo] | None,
        features: frozenset[str],
        concurrency: int = 1,
    ) -> list[Buffer]:
        """The answer to `$/hello`: what this worker is and can do. Without `methods`, anything may be requested."""
        if self.phase != "greeting":
            raise WrongState("there is no $/hello to be answered")
        buffers = self.answer(
            asked.id,
            result={
                "protocol": VERSION,
                "max_frame": self.decoder.max_frame,
                "name": name,
                "language": language,
                "sdk": sdk,
                "methods": methods_said(methods),
                "features": sorted(features),
                "concurrency": concurrency,
            },
        )
        self._agree(features & asked.hello.features, asked.hello.max_frame)
        return buffers
