"""Which batch each update of ordinary (not meta-) training takes, and the tensors of its parts.

The whole schedule follows from (members, seed) and is laid out at the start, so that any update can
be made without the ones before. Knows no model and no rank. U updates, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from metatlp.data.encoded import EncodedSplit
from metatlp.data.gathered import Concatenation
from metatlp.data.parts import Part, cut
from metatlp.data.streams import BatchStream
from metatlp.grid import TLP
from metatlp.sampling import Sampler
from metatlp.seeds import derive_seed
from metatlp.tasks import TASKS, Padding
from metatlp.tasks.task import Batch


@dataclass(frozen=True)
class Member:
    """What batches are made of: the rows of one or more TLPs of one task.

    Attributes:
        task: task code.
        name: of the TLPs, `pos_en` or `pos_en+hi`.
        rows: of all of them.
        stream: which of them form batch number j.
    """

    task: str
    name: str
    rows: Concatenation
    stream: BatchStream

    @classmethod
    def of(
        cls,
        splits: Mapping[TLP, EncodedSplit],
        batch_size: int,
        seed: int,
        order: str = "epochs",
    ) -> Member:
        """A member of the TLPs of one task.

        Args:
            batch_size, seed, order: as BatchStream's.
        """
        task = next(iter(splits)).task
        assert all(tlp.task == task for tlp in splits)
        joined = TLP(task, "+".join(tlp.lang for tlp in splits))
        rows = Concatenation(splits)
        return cls(task, str(joined), rows, BatchStream(rows, joined, batch_size, seed, order))


@dataclass(frozen=True)
class Schedule:
    """The batches of all updates.

    Attributes:
        members: what batches are made of.
        plan: (U, 2) int64: the number of the member, and of its batch.
    """

    members: Sequence[Member]
    plan: np.ndarray

    def __len__(self) -> int:
        return len(self.plan)

    def member(self, update: int) -> Member:
        return self.members[self.plan[update, 0]]

    def rows(self, update: int) -> np.ndarray:
        """(B,) int64: the member's rows."""
        return self.member(update).stream.rows(int(self.plan[update, 1]))


def shuffled_plan(batches_per_epoch: Sequence[int], num_updates: int, seed: int) -> np.ndarray:
    """Concatenate and shuffle: each epoch has every batch of every member once.

    Args:
        batches_per_epoch: of each member.
    """
    each = np.asarray(batches_per_epoch)
    owner = np.repeat(np.arange(len(each)), each)
    number = np.concatenate([np.arange(n) for n in each])
    epochs = []
    for epoch in range(-(-num_updates // len(owner))):
        bits = np.random.PCG64(derive_seed(seed, "order of updates", epoch))
        order = np.argsort(bits.random_raw(len(owner)), kind="stable")
        epochs.append(np.stack([owner[order], (epoch * each[owner] + number)[order]], axis=1))
    return np.concatenate(epochs)[:num_updates]


def drawn_plan(sampler: Sampler, num_members: int, num_updates: int) -> np.ndarray:
    """The members drawn one by one, each giving its batches in their order."""
    drawn = [sampler.draw(update, 1)[0] for update in range(num_updates)]
    plan = np.stack([np.array(drawn, dtype=np.int64), np.zeros(num_updates, np.int64)], axis=1)
    for member in range(num_members):
        own = plan[:, 0] == member
        plan[own, 1] = np.arange(own.sum())
    return plan


class PartLoader:
    """Builds this rank's parts of each batch, the next update's in a background thread.

    A cache of a pure function: what it gives never depends on what was asked for before.
    """

    def __init__(
        self,
        schedule: Schedule,
        padding: Padding,
        num_parts: int,
        own: Sequence[int],
        pin_memory: bool = False,
    ) -> None:
        """
        Args:
            num_parts: in which every batch is cut. own: the numbers of this rank's.
            pin_memory: put the tensors into page-locked memory, for asynchronous copies to a GPU.
        """
        self.schedule, self._padding, self._pin = schedule, padding, pin_memory
        self._num_parts, self._own = num_parts, own
        self._next: tuple[int, Future[list[Part]]] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parts")

    def take(self, update: int) -> list[Part]:
        """This rank's parts."""
        waiting, self._next = self._next, None
        parts = waiting[1].result() if waiting and waiting[0] == update else self._build(update)
        if update + 1 < len(self.schedule):
            self._next = (update + 1, self._thread.submit(self._build, update + 1))
        return parts

    def close(self) -> None:
        self._next = None
        self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> PartLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _build(self, update: int) -> list[Part]:
        member, rows = self.schedule.member(update), self.schedule.rows(update)

        def collate(own: np.ndarray) -> Batch:
            split = member.rows.take(own)
            return TASKS[member.task].collate(split, np.arange(len(own)), self._padding)

        return cut(rows, self._num_parts, self._own, collate, self._pin)
