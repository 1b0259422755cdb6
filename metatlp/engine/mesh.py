"""The ranks as a grid: TLP groups, and the ranks of a group, which train one TLP together.

Rank = group * R + member, so that a group lies on one machine where it can. Knows ranks and process
groups; knows no model and no slot. T: groups; R: ranks per TLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

# How long a rank waits for another in a collective. PyTorch's own limits (10 minutes with NCCL, 30
# with gloo) are for gradients; here ranks wait for the slowest evaluation, encoding or save.
TIMEOUT = timedelta(hours=6)
_PIECE = 2**24  # elements that go to the collectives' device at once


@dataclass(frozen=True)
class Mesh:
    """Where a rank stands.

    Attributes:
        groups: T. ranks_per_tlp: R. group, member: of this rank.
        device: of the collectives; a tensor that lies elsewhere (offloaded) goes there in pieces.
        within: the process group of this TLP group's ranks; None if R is 1.
        across: the process group of the ranks with this member's number, one of every TLP group;
            None if T is 1.
    """

    groups: int = 1
    ranks_per_tlp: int = 1
    group: int = 0
    member: int = 0
    device: torch.device = torch.device("cpu")
    within: dist.ProcessGroup | None = None
    across: dist.ProcessGroup | None = None

    @cached_property
    def alone(self) -> dist.ProcessGroup:
        """The process group of this rank only, for libraries that ask for one."""
        if not dist.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        made = dist.new_group([dist.get_rank()], use_local_synchronization=True)
        return cast(dist.ProcessGroup, made)

    @property
    def leads(self) -> bool:
        """Whether this rank speaks for its TLP group."""
        return self.member == 0

    def describe(self, of_a_group: str) -> str:
        """`2 TLP groups x 4 shards`. of_a_group: what a group is made of, `rank` or `shard`."""
        counts = (self.groups, "TLP group"), (self.ranks_per_tlp, of_a_group)
        return " x ".join(f"{n} {what}{'s' if n > 1 else ''}" for n, what in counts)

    def rank_of(self, member: int) -> int:
        """The rank of a member of this TLP group."""
        return self.group * self.ranks_per_tlp + member

    def sum_within(self, tensor: Tensor) -> Tensor:
        """Sum in place over this TLP group, all of whose ranks take part."""
        return _reduce(tensor, self.within, self.device)

    def max_within(self, tensor: Tensor) -> Tensor:
        """Largest in place over this TLP group, all of whose ranks take part."""
        return _reduce(tensor, self.within, self.device, dist.ReduceOp.MAX)

    def sum_across(self, tensor: Tensor) -> Tensor:
        """Sum in place over the same member of every TLP group; all of these ranks take part."""
        return _reduce(tensor, self.across, self.device)

    def gather_within(self, item: Any) -> list[Any]:
        """That of every rank of this TLP group, in their order; all of them take part."""
        if self.within is None:
            return [item]
        found: list[Any] = [None] * self.ranks_per_tlp
        dist.all_gather_object(found, item, group=self.within)
        return found


def build_mesh(rank: int, world: int, ranks_per_tlp: int, device: torch.device) -> Mesh:
    """The mesh of the default process group. Every rank takes part.

    Args:
        ranks_per_tlp: R, a divisor of the world.
        device: of the collectives.
    """
    assert world % ranks_per_tlp == 0
    groups = world // ranks_per_tlp
    group, member = divmod(rank, ranks_per_tlp)
    within = across = None
    # Every rank makes all of the groups, in one order: torch asks for it.
    if ranks_per_tlp > 1:
        for g in range(groups):
            made = dist.new_group([g * ranks_per_tlp + i for i in range(ranks_per_tlp)], TIMEOUT)
            within = made if g == group else within
    if groups > 1:
        for i in range(ranks_per_tlp):
            made = dist.new_group([g * ranks_per_tlp + i for g in range(groups)], TIMEOUT)
            across = made if i == member else across
    return Mesh(groups, ranks_per_tlp, group, member, device, within, across)


def _reduce(
    tensor: Tensor,
    group: dist.ProcessGroup | None,
    device: torch.device,
    op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM,
) -> Tensor:
    if group is None:
        return tensor
    # The index may be missing in either; a process has one GPU.
    if tensor.device.type == device.type:
        dist.all_reduce(tensor, op, group=group)
        return tensor
    for piece in tensor.view(-1).split(_PIECE):
        there = piece.to(device)
        dist.all_reduce(there, op, group=group)
        piece.copy_(there)
    return tensor
