"""Builds the tensors of episodes in a background thread, so that the model does not wait.

The loader is a cache of a pure function: what it gives never depends on what was scheduled or when.
Knows no rank and no device but the pinning of host memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from metatlp.data.encoded import EncodedSplit
from metatlp.data.parts import Part, cut
from metatlp.data.streams import BatchStream
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Padding
from metatlp.tasks.task import Batch


class EpisodeLoader:
    """Episodes of several TLPs.

    Args:
        streams: of the TLPs that may be asked for.
        padding: of the tokenizer.
        k: batches per episode (inner steps).
        num_parts: in which every batch is cut. own: the numbers of those that are wanted.
        max_waiting: scheduled episodes kept; the oldest falls out, and is built when taken.
        pin_memory: put the tensors into page-locked memory, for asynchronous copies to a GPU.
    """

    def __init__(
        self,
        streams: Mapping[TLP, BatchStream],
        padding: Padding,
        k: int,
        max_waiting: int = 64,
        pin_memory: bool = False,
        num_parts: int = 1,
        own: Sequence[int] = (0,),
    ) -> None:
        self._streams, self._padding, self._k, self._pin = streams, padding, k, pin_memory
        self._num_parts, self._own = num_parts, own
        self._max_waiting = max_waiting
        self._waiting: OrderedDict[tuple[TLP, int], Future[list[list[Part]]]] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="episodes")

    def schedule(self, tlp: TLP, episode: int) -> None:
        """Start building an episode, unless that has been done."""
        if (tlp, episode) not in self._waiting:
            self._waiting[tlp, episode] = self._thread.submit(self._build, tlp, episode)
            if len(self._waiting) > self._max_waiting:
                self._waiting.popitem(last=False)[1].cancel()

    def take(self, tlp: TLP, episode: int) -> list[list[Part]]:
        """The k batches of an episode, in parts; waits for it, or builds what was not scheduled.

        Raises:
            Whatever its building raised in the thread.
        """
        future = self._waiting.pop((tlp, episode), None)
        return self._build(tlp, episode) if future is None else future.result()

    def close(self) -> None:
        """Stop the thread; what was scheduled is given up."""
        self._waiting.clear()
        self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> EpisodeLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _build(self, tlp: TLP, episode: int) -> list[list[Part]]:
        stream = self._streams[tlp]
        split = stream.split
        assert isinstance(split, EncodedSplit)

        def collate(rows: np.ndarray) -> Batch:
            return TASKS[tlp.task].collate(split, rows, self._padding)

        batches = stream.episode(episode, self._k)
        return [cut(rows, self._num_parts, self._own, collate, self._pin) for rows in batches]
