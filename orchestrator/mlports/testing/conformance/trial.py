"""What a row works with: the program, a running conversation or new ones, all ended when the row is over."""

from __future__ import annotations

from collections.abc import Sequence

from mlports.testing.conformance.conversation import UNKNOWN_METHOD, Conversation
from mlports.testing.conformance.failures import NotTried
from mlports.testing.conformance.subject import FEATURES, Subject, hello
from mlports.testing.conformance.transcript import Piece
from mlports_protocol import DEFAULT_MAX_FRAME, Peer

_SHOWN = 12  # pieces of a conversation that a failure shows


class Trial:
    """One row's try at one program.

    `shared` is a conversation that rows before have used; who leaves it as it was found gives it back, everybody else
    takes `start`.
    """

    def __init__(self, subject: Subject, shared: list[Conversation]) -> None:
        self.subject = subject
        self._shared = shared
        self._begun: list[Conversation] = []
        self._used: list[tuple[Conversation, int]] = []

    @property
    def claims(self) -> Peer:
        """What the program said in its first handshake."""
        return self.subject.claims

    @property
    def bare(self) -> bool:
        return self.claims.bare

    def has(self, method: str) -> bool:
        """Whether the program has this method."""
        return method in self.subject.methods

    def claims_feature(self, feature: str) -> bool:
        return feature in self.claims.features

    def need_feature(self, feature: str) -> None:
        """Raises `NotTried` unless the program claims it."""
        if not self.claims_feature(feature):
            raise NotTried(f"does not claim {feature}")

    def talk(self) -> Conversation:
        """A conversation after its handshake, which must be left in working order."""
        if not self._shared:
            self._shared.append(self.subject.spawn())
            self.subject.greet(self._shared[0], hello())
        talk = self._shared[0]
        self._used.append((talk, talk.transcript.count))
        return talk

    def start(
        self,
        *,
        max_frame: int = DEFAULT_MAX_FRAME,
        features: Sequence[str] = FEATURES,
        fd34: bool = False,
    ) -> Conversation:
        """A process of the row's own, after its handshake."""
        talk = self._own(self.subject.spawn(max_frame, fd34))
        self.subject.greet(talk, hello(max_frame=max_frame, features=list(features)))
        return talk

    def spawn(self) -> Conversation:
        """A process of the row's own to which nothing has been said."""
        return self._own(self.subject.spawn())

    def pieces(self) -> list[Piece]:
        """What went over the wire during this row."""
        return [piece for talk, mark in self._used for piece in talk.transcript.since(mark, _SHOWN)][-_SHOWN:]

    def last_words(self) -> str:
        """The end of standard error in the row's last conversation."""
        return self._used[-1][0].stderr() if self._used else ""

    def settle(self) -> None:
        """Has the shared conversation, if it was used, bring all that it still holds of this row."""
        if any(talk in self._shared for talk, _ in self._used):
            self._shared[0].error(self._shared[0].request(UNKNOWN_METHOD))

    def close(self, good: bool) -> None:
        """Ends what the row began; with `good` the shared conversation stays."""
        for talk in self._begun:
            self.subject.close(talk)
        if self._shared and not good:
            self.subject.close(self._shared.pop())
        if self._shared:
            self._shared[0].give_back()

    def _own(self, talk: Conversation) -> Conversation:
        self._begun.append(talk)
        self._used.append((talk, 0))
        return talk
