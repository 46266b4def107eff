"""Every contender, by the name that `--only` takes. Importing this imports none of the peers."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contenders.c_pipe import CPipe
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.dask_actor import DaskActor
from benchmarks.contenders.erlang import ErlangRaw, ErlangWorker
from benchmarks.contenders.memory_copy import MemoryCopy
from benchmarks.contenders.mlports_async import MlportsAsync
from benchmarks.contenders.mlports_blocking import MlportsBlocking
from benchmarks.contenders.mlports_inline import MlportsInline
from benchmarks.contenders.mp_pipe import MpPipe
from benchmarks.contenders.pools import Loky, ProcessPool
from benchmarks.contenders.ray_actor import RayActor

CONTENDERS: Mapping[str, type[Contender]] = {
    "mlports": MlportsAsync,
    "mlports-blocking": MlportsBlocking,
    "mlports-inline": MlportsInline,
    "c": CPipe,
    "memcpy": MemoryCopy,
    "pipe": MpPipe,
    "ppe": ProcessPool,
    "loky": Loky,
    "erlang": ErlangWorker,
    "erlang-raw": ErlangRaw,
    "ray": RayActor,
    "dask": DaskActor,
}
