"""benchmarks/bench_scaling.py: flags, bytes counted beside the formulas, efficiencies by hand."""

import importlib
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from metatlp.engine.arguments.command_line import parse_flags
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.averaging import Averaged, AveragingConfig
from metatlp.engine.cost import Cost
from metatlp.engine.mesh import build_mesh
from metatlp.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def part():
    return lambda name: importlib.import_module(f"scaling.{name}")


@pytest.fixture
def mesh():
    """Two TLP groups of two ranks, of which this process is the first; nothing is sent."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield build_mesh(0, 4, 2, torch.device("cpu"))
    dist.destroy_process_group()


def parse(*argv):
    bench = importlib.import_module("bench_scaling")
    return parse_flags((DataArguments, bench.BenchArguments), bench.defaults, "", argv)


def test_quick_gives_way_to_flags():
    data, bench = parse("--quick", "--k", "5")
    assert (data.selection, bench.k, bench.worlds) == (
        "pos_en,ner_en",
        5,
        "replicated:1x1,fsdp2:1x2",
    )
    with pytest.raises(InputError, match="--bandwidth 0"):
        parse("--bandwidth", "0")


def test_worlds_up_to_four_processes(part):
    worlds = part("worlds")
    names = [str(world) for world in worlds.all_worlds()]
    assert names[:5] == [f"replicated:{shape}" for shape in ("1x1", "2x1", "4x1", "1x2", "2x2")]
    assert names[5:8] == ["zero1:1x1", "zero1:1x2", "zero1:2x2"] and len(names) == 17
    for name in worlds.CONFIGS.values():
        assert (worlds.ROOT / "accelerate_configs" / f"{name}.yaml").exists()
    for wrong in ("zero4:1x2", "fsdp2:0x2", "fsdp2"):
        with pytest.raises(InputError, match="--worlds: cannot read"):
            worlds.chosen_worlds(f"replicated:1x1,{wrong}")


def test_bytes_of_a_ring_by_hand(part):
    sent = part("counted").sent
    assert sent("allreduce_", 1000, 4) == 1500
    assert sent("_allgather_base_", 1000, 4) == 750
    assert sent("_reduce_scatter_base_", 1000, 4) == 750
    assert sent("broadcast_", 1000, 2) == 500
    assert sent("allreduce_", 1000, 1) == 0


def test_sides_of_a_mesh(part):
    side = part("counted").side
    assert [side(ranks, 2) for ranks in ([0, 1], [2, 3], [1, 3], [0, 1, 2, 3], [1, 2])] == [
        "within",
        "within",
        "across",
        "both",
        "both",
    ]
    assert side([0, 1, 2], 1) == "across" and side([0, 1, 2, 3], 4) == "within"


@pytest.mark.parametrize("reduce, width", [("fp32", 4), ("exact", 8), ("bf16", 2)])
def test_counted_all_reduces_are_those_of_the_formula(part, mesh, reduce, width):
    vectors = [Averaged(torch.zeros(1024), reduce == "exact", mesh, True) for _ in range(3)]
    with part("counted").Counted(2) as counted:
        for vector in vectors:
            vector.reduce(torch.bfloat16 if reduce == "bf16" else None)
    (row,) = counted.rows()
    expected = Cost(1024, AveragingConfig(reduce=reduce), mesh).communication
    # Three vectors, of each of which a rank of two averages half.
    assert row["whole"] == expected == 3 * 512 * width
    assert row["sent"] == 2 * 1 / 2 * expected
    assert (row["where"], row["operator"], row["calls"]) == ("across", "allreduce_", 3)


def test_each_collective_counts_its_whole_tensor(part, mesh):
    tensor = torch.zeros(8)
    with part("counted").Counted(2) as counted:
        dist.all_gather([torch.zeros(8), torch.zeros(8)], tensor, group=mesh.within)
        dist.reduce_scatter(torch.zeros(8), [tensor, tensor], group=mesh.within)
        dist.broadcast(tensor, 0, group=mesh.within)
        dist.all_reduce(tensor)
        dist.barrier()
    found = {(row["where"], row["operator"]): row["sent"] for row in counted.rows()}
    assert found == {
        ("within", "allgather_"): 32,
        ("within", "reduce_scatter_"): 32,
        ("within", "broadcast_"): 16,
        ("both", "allreduce_"): 2 * 3 / 4 * 32,
    }
    assert counted.total("within", lambda traffic: traffic.sent) == 80


def test_backward_passes_are_counted_and_nothing_is_left_out(part, mesh):
    counted = part("counted").Counted(2)
    x = torch.ones(4, requires_grad=True)
    x.register_hook(lambda grad: dist.all_reduce(grad, group=mesh.within) and None)
    with counted:
        x.sum().backward()
    assert counted.total("within", lambda traffic: traffic.whole) == 16
    with pytest.raises(AssertionError, match="alltoall_base_ is not counted"), counted:
        dist.all_to_all_single(torch.zeros(4), torch.zeros(4))


def costs(part, **changes):
    given = {"seconds": [3.0, 1.0], "tokens": [3.0, 1.0], "rest": 0.0, "payload": 8}
    return part("simulate").Costs(**given | {"bandwidth": float("inf")} | changes)


def test_efficiency_by_hand(part):
    simulate = part("simulate")
    queue = [0, 1, 1, 1]  # 3, 1, 1 and 1 seconds

    def loads(way, measured):
        parts = simulate.spread_by(way, queue, measured, 2)
        return [sum(measured.seconds[queue[i]] for i in one) for one in parts]

    free = costs(part)
    assert loads("balanced", free) == [3, 3] and loads("round robin", free) == [4, 2]
    assert simulate.efficiency("balanced", [queue], free, 2) == 1.0
    assert simulate.efficiency("round robin", [queue], free, 2) == 6 / 8
    # Alone 6 + 1 seconds; on two ranks 3 + 1, and 1 for 8 bytes at 8 bytes per second.
    slow = costs(part, rest=1.0, bandwidth=8.0)
    assert simulate.efficiency("balanced", [queue], slow, 2) == 7 / (2 * 5)
    # Tokens that mislead: two long for one long and one short.
    misled = costs(part, tokens=[1.0, 3.0])
    assert loads("balanced", misled) == [2, 4] and loads("balanced by seconds", misled) == [3, 3]
    # One slot for four ranks; over two meta steps, seconds are added up.
    assert simulate.efficiency("balanced", [[0]], free, 4) == 1 / 4
    assert simulate.efficiency("balanced", [queue, [0]], free, 2) == 9 / (2 * 6)


def test_slots_that_are_enough_by_hand(part):
    simulate = part("simulate")

    def draw(m):
        return [[1] * m]

    # s slots of a second for each of two ranks, and a second of all-reduce: s / (s + 1).
    found = simulate.enough_slots("balanced", draw, costs(part, bandwidth=8.0), 2)
    assert found == (24, pytest.approx(12 / 13))
    assert simulate.enough_slots("balanced", draw, costs(part), 2) == (2, 1.0)
    assert simulate.enough_slots("balanced", draw, costs(part, bandwidth=0.01), 2) is None
    assert simulate.round_robin(5, 2) == [[0, 2, 4], [1, 3]]
