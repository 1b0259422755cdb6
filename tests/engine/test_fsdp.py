"""Parameters sharded by FSDP2 in real processes, beside an arena in one process."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AlbertConfig

from metatlp.engine.parameters.rows import lay_out, rows_of

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

WORKER = "tests/engine/workers/fsdp_checks.py"
# TLP groups x ranks: processes, ranks per TLP.
MESHES = {"2 x 2": (4, 2), "1 x 3": (3, 3), "1 x 1": (1, 1)}


def test_rows_are_cut_as_fsdp_cuts_them():
    """Seven rows over three ranks, two over three, and every row once."""
    assert [rows_of(7, 3, member) for member in range(3)] == [(0, 3), (3, 6), (6, 7)]
    assert [rows_of(2, 3, member) for member in range(3)] == [(0, 1), (1, 2), (2, 2)]
    assert [rows_of(9, 4, member) for member in range(4)] == [(0, 3), (3, 6), (6, 9), (9, 9)]


def test_vectors_are_laid_out_by_segment():
    """By hand: an encoder's 5 x 20 matrix and a head of two, on the last of three ranks."""
    both, qa = frozenset({"pos", "qa"}), frozenset({"qa"})
    uses = {"head": (torch.Size([2]), qa), "w": (torch.Size([5, 20]), both)}
    uses |= {"b": (torch.Size([3]), both)}
    last = lay_out(uses, 3, 2)
    assert [(p.name, p.begin, p.end, p.offset) for p in last.pieces.own] == [
        ("w", 80, 100, 0),
        ("b", 2, 3, 32),
        ("head", 2, 2, 64),
    ]
    assert [(s.name, s.start, s.stop) for s in last.segments] == [("pos+qa", 0, 64), ("qa", 64, 64)]
    assert last.length == 64 and list(last.pieces.shapes) == ["head", "w", "b"]
    assert [lay_out(uses, 3, member).length for member in range(2)] == [128, 128]


@pytest.fixture(scope="session")
def albert_dir(tmp_path_factory):
    """The configuration of an encoder whose layers are one and the same."""
    folder = tmp_path_factory.mktemp("albert")
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40}
    config = AlbertConfig(vocab_size=50, embedding_size=16, num_hidden_layers=3, **sizes)
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=MESHES)
def measured(request, fork, fork_world, encoder_dir, albert_dir, tmp_path_factory):
    """What every rank of a mesh measured."""
    world, ranks_per_tlp = MESHES[request.param]
    output = tmp_path_factory.mktemp("fsdp")
    arguments = [str(encoder_dir), str(albert_dir), str(ranks_per_tlp), str(output)]
    if world > 1:
        fork_world(arguments, world, WORKER)
    else:
        alone = fork(arguments, WORKER)
        assert alone.wait() == 0, alone.err[-3000:]
    return [json.loads((output / f"{rank}.json").read_text()) for rank in range(world)]


def test_slots_end_where_those_on_an_arena_end(measured):
    """Two meta steps of six, with dropout in parts, parts of weight 0, decay and clipping."""
    for found in (rank["slots"] for rank in measured):
        assert 0 < found["clipped"] < 12
        assert max(found[name] for name in ("theta", "exp_avg", "exp_avg_sq", "steps")) < 1e-5
        # By how far theta went, a hundredth of its norm. Gradients that are zero in theory have
        # another rounding error on each side, and AdamW's division makes more of it.
        assert found["moved"] < 1e-4
        assert found["padding"] == 0.0


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_back_at_the_start_the_logits_are_bitwise_those_at_the_start(measured, precision):
    for found in (rank[f"back {precision}"] for rank in measured):
        assert found == {"moved": True, "back": True}


def test_heads_of_other_tasks_stay_or_move_by_their_momentum(measured):
    for found in (rank["idle"] for rank in measured):
        assert found["heads"] > 0 and found["still"] and found["steps"]
        assert found["momentum"] < 1e-5


def test_gradients_are_added_to_a_row_and_leave_no_trace(measured):
    for found in (rank["added"] for rank in measured):
        assert max(found["dropout False"], found["dropout True"]) < 1e-5
        assert not found["trace"]


def test_recomputed_activations_and_reused_layers_give_the_same_gradient(measured):
    for rank in measured:
        assert rank["recomputed"]["error"] < 1e-6
        assert rank["reused"]["error"] < 1e-5


def test_bf16_is_that_of_the_passes_only(measured):
    for found in (rank["bf16"] for rank in measured):
        assert found["masters"] == 0.0
        # Gradients of a whole model, each of whose layers rounds to 8 bits.
        assert 1e-4 < found["error"] < 3e-2 and math.isfinite(found["error"])
