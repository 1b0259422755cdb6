"""The ranks as a grid: TLP groups, and the ranks of a group, which train one TLP together.

Rank = group * R + member, so that a group lies on one machine where it can. Knows ranks and process
groups; knows no model and no slot. T: groups; R: ranks per TLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Mesh:
    """Where a rank stands.

    Attributes:
        groups: T. ranks_per_tlp: R. group, member: of this rank.
        within: the process group of this TLP group's ranks; None if R is 1.
        across: the process group of the ranks with this member's number, one of every TLP group;
            None if T is 1.
    """

    groups: int = 1
    ranks_per_tlp: int = 1
    group: int = 0
    member: int = 0
    within: dist.ProcessGroup | None = None
    across: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this rank speaks for its TLP group."""
        return self.member == 0

    def describe(self) -> str:
        """`2 TLP groups x 4 ranks`."""
        groups = f"{self.groups} TLP group{'s' if self.groups > 1 else ''}"
        return f"{groups} x {self.ranks_per_tlp} rank{'s' if self.ranks_per_tlp > 1 else ''}"

    def rank_of(self, member: int) -> int:
        """The rank of a member of this TLP group."""
        return self.group * self.ranks_per_tlp + member

    def sum_within(self, tensor: Tensor) -> Tensor:
        """Sum in place over this TLP group, all of whose ranks take part."""
        if self.within is not None:
            dist.all_reduce(tensor, group=self.within)
        return tensor

    def max_within(self, tensor: Tensor) -> Tensor:
        """Largest in place over this TLP group, all of whose ranks take part."""
        if self.within is not None:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.within)
        return tensor

    def sum_across(self, tensor: Tensor) -> Tensor:
        """Sum in place over the same member of every TLP group; all of these ranks take part."""
        if self.across is not None:
            dist.all_reduce(tensor, group=self.across)
        return tensor


def build_mesh(rank: int, world: int, ranks_per_tlp: int) -> Mesh:
    """The mesh of the default process group. Every rank takes part.

    Args:
        ranks_per_tlp: R, a divisor of the world.
    """
    assert world % ranks_per_tlp == 0
    groups = world // ranks_per_tlp
    group, member = divmod(rank, ranks_per_tlp)
    within = across = None
    # Every rank makes all of the groups, in one order: torch asks for it.
    if ranks_per_tlp > 1:
        for g in range(groups):
            made = dist.new_group([g * ranks_per_tlp + i for i in range(ranks_per_tlp)])
            within = made if g == group else within
    if groups > 1:
        for i in range(ranks_per_tlp):
            made = dist.new_group([g * ranks_per_tlp + i for g in range(groups)])
            across = made if i == member else across
    return Mesh(groups, ranks_per_tlp, group, member, within, across)


def total_norm(mesh: Mesh, squares: Tensor) -> Tensor:
    """Root of the sum of () squares over the TLP group's shards. Its ranks take part."""
    return torch.sqrt(mesh.sum_within(squares))
