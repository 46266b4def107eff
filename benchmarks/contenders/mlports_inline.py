"""mlports with the worker's handlers on a thread of its own process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.contender import ECHO_WORKER, ONE, Modes, Unavailable
from benchmarks.contenders.mlports_async import MlportsAsync

if TYPE_CHECKING:
    from mlports import Config


class MlportsInline(MlportsAsync):
    """The same calls to the same worker, without a process or a pipe between."""

    name: ClassVar[str] = "mlports-inline"
    title: ClassVar[str] = "mlports, inline"
    modes: ClassVar[Modes] = {"64 B": (ONE, "256")}

    def _configure(self) -> Config:
        from mlports import Config, ServiceConfig

        if "transport" not in ServiceConfig.model_fields:
            raise Unavailable("this mlports has no `transport`")
        # Not written out, because versions without it refuse the word.
        inline: dict[str, Any] = {"transport": "inline"}
        return Config(service={"echo": ServiceConfig(command=[sys.executable, str(ECHO_WORKER)], **inline)})
