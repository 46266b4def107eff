"""How many calls travel together: in one frame, in one request of a `map`, in one batch of a batch method."""

from __future__ import annotations

from mlports.core.batching.auto_size import AutoSize
from mlports.core.batching.columns import columns_of
from mlports.core.batching.frames import ChunkSize, frame_size
from mlports.core.batching.keys import batch_key
from mlports.core.batching.rule import MOST_IN_BATCH, BatchRule

__all__ = ["MOST_IN_BATCH", "AutoSize", "BatchRule", "ChunkSize", "batch_key", "columns_of", "frame_size"]
