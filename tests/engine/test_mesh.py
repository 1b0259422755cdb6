"""The mesh: whom a rank works with, and what of its tensors travels."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from metatlp.engine import mesh as meshes
from metatlp.engine.mesh import build_mesh


@pytest.fixture
def fake_world():
    """This process is rank 5 of six; nothing is sent."""
    dist.init_process_group("fake", store=FakeStore(), rank=5, world_size=6)
    yield
    dist.destroy_process_group()


def test_ranks_of_a_group_follow_one_another(fake_world):
    mesh = build_mesh(5, 6, 2, torch.device("cpu"))
    assert (mesh.groups, mesh.group, mesh.member) == (3, 2, 1)
    assert dist.get_process_group_ranks(mesh.within) == [4, 5]
    assert dist.get_process_group_ranks(mesh.across) == [1, 3, 5]
    assert [mesh.rank_of(member) for member in range(2)] == [4, 5]
    assert dist.get_process_group_ranks(mesh.alone) == [5] and mesh.alone is mesh.alone


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_a_tensor_on_the_collectives_device_travels_as_it_is(fake_world, monkeypatch, device):
    """Accelerate names a device with its number, tensors leave it out."""
    sent = []
    monkeypatch.setattr(meshes, "_PIECE", 4)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, *_, **__: sent.append(tensor))
    tensor = torch.zeros(9)
    mesh = build_mesh(5, 6, 2, torch.device(device))
    assert mesh.sum_within(tensor) is tensor and sent[0] is tensor and len(sent) == 1


def test_a_tensor_elsewhere_travels_in_pieces(fake_world, monkeypatch):
    lengths = []
    monkeypatch.setattr(meshes, "_PIECE", 4)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, *_, **__: lengths.append(len(tensor)))
    mesh = build_mesh(5, 6, 2, torch.device("meta"))
    with pytest.raises(NotImplementedError, match="meta"):  # nothing comes back from there
        mesh.sum_across(torch.zeros(9))
    assert lengths == [4]
