"""Bytes that a rank sends, counted from the collectives that run, whoever called them.

Every collective of torch.distributed, DeepSpeed and FSDP2 is an operator of c10d; a dispatch mode
sees them all, and refuses one that it cannot count. Knows ranks; knows no model.
n: ranks of a process group; B: bytes of the whole tensor, which a rank of it may hold 1/n of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operator -> which of its arguments is the whole tensor, or are its whole tensors.
_WHOLE = {
    "allreduce_": 0,
    "allreduce_coalesced_": 0,
    "allgather_": 0,
    "_allgather_base_": 0,
    "allgather_into_tensor_coalesced_": 0,
    "reduce_scatter_": 1,
    "_reduce_scatter_base_": 1,
    "reduce_scatter_tensor_coalesced_": 1,
    "broadcast_": 0,
    "reduce_": 0,
}
_WITHOUT_DATA = ("barrier", "monitored_barrier_", "wait_tensor")


@dataclass
class Traffic:
    """Of this rank: calls, bytes of the whole tensors (B), and bytes sent."""

    calls: int = 0
    whole: int = 0
    sent: float = 0.0


def sent(operator: str, whole: int, ranks: int) -> float:
    """Bytes that each rank sends where a ring does the work.

    All-reduce: 2 (n-1)/n B. All-gather, reduce-scatter: (n-1)/n B. Broadcast and reduce: (n-1) B
    in all, put down to the n ranks evenly. What a backend does in fact may be more.

    Args:
        whole: B. ranks: n.
    """
    rounds = 2 if operator.startswith("allreduce") else 1
    return rounds * (ranks - 1) / ranks * whole


def side(ranks: Sequence[int], ranks_per_tlp: int) -> str:
    """Where a process group lies in the mesh: `within` a TLP group, `across` them, or `both`."""
    if len({rank // ranks_per_tlp for rank in ranks}) == 1:
        return "within"
    return "across" if len({rank % ranks_per_tlp for rank in ranks}) == 1 else "both"


class Counted(TorchDispatchMode):
    """Counts the collectives that this rank calls in it, those of backward passes too.

    Every operator becomes slower by it: nothing should be timed inside.
    """

    def __init__(self, ranks_per_tlp: int):
        super().__init__()
        self.ranks_per_tlp = ranks_per_tlp
        self.found: dict[tuple[str, str], Traffic] = defaultdict(Traffic)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if "c10d" in func.namespace:
            self._count(func.namespace, func._schema.name.split("::")[1], args)
        return func(*args, **(kwargs or {}))

    def _count(self, namespace: str, name: str, args: tuple[Any, ...]) -> None:
        if name in _WITHOUT_DATA:
            return
        assert namespace == "c10d" and name in _WHOLE, f"{namespace}::{name} is not counted"
        ranks = dist.get_process_group_ranks(_group(args))
        if len(ranks) == 1:
            return
        whole = num_bytes(args[_WHOLE[name]])
        traffic = self.found[side(ranks, self.ranks_per_tlp), name]
        traffic.calls += 1
        traffic.whole += whole
        traffic.sent += sent(name, whole, len(ranks))

    def total(self, where: str, of: Callable[[Traffic], float], name: str = "") -> float:
        """The sum over the operators of one side, or over those whose names begin so."""
        items = self.found.items()
        return sum(of(t) for (at, found), t in items if at == where and found.startswith(name))

    def rows(self) -> list[dict[str, Any]]:
        """One per side and operator, for the results file."""
        return [
            {"where": where, "operator": name} | asdict(traffic)
            for (where, name), traffic in sorted(self.found.items())
        ]


def num_bytes(tensors: Any) -> int:
    """Of a tensor, or of all in a list of them, or in a list of such lists."""
    if isinstance(tensors, Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(num_bytes(each) for each in tensors)


def _group(args: tuple[Any, ...]) -> dist.ProcessGroup:
    """The process group among an operator's arguments."""
    objects = [arg for arg in args if isinstance(arg, torch.ScriptObject)]
    (boxed,) = [each for each in objects if "ProcessGroup" in str(each._type())]
    return dist.ProcessGroup.unbox(boxed)
