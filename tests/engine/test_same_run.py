"""Ranks that do not run the same, and a run that is not the one before."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from metatlp.engine.build import head_specs
from metatlp.engine.same_run import PLACES, RunIdentity, checksum, moved_line
from metatlp.model.multitask import build_model

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = RunIdentity(
    {"tau": 5.0, "inner_lr": 1e-3, "data_dir": "here", "save_every": 2},
    {"pos_en": "aa", "pos_hi": "bb"},
    8,
    "no",
    "cc",
)
DIFFERENCES = [
    ({"arguments": {**IDENTITY.arguments, "inner_lr": 2.0}}, "--inner-lr 2.0, not 0.001"),
    ({"arguments": {**IDENTITY.arguments, "data_dir": "there", "save_every": 3}}, None),
    ({"mixed_precision": "bf16"}, "mixed precision bf16, not no"),
    ({"data": {"pos_en": "aa", "pos_hi": "b"}}, "other data for pos_hi"),
    ({"data": {"pos_en": "aa"}}, "other data for pos_hi"),
    ({"num_steps": 9}, "9 steps, not 8"),
    ({"theta_0": "c"}, "other initial parameters: what --model names is not the same"),
]


@pytest.mark.parametrize(("change", "words"), DIFFERENCES)
def test_the_first_difference_is_named(change, words):
    assert dataclasses.replace(IDENTITY, **change).difference(IDENTITY) == words


def test_identity_through_a_checkpoint():
    state = json.loads(json.dumps({"step": 3, **IDENTITY.as_json()}))
    assert RunIdentity.of_checkpoint(state) == IDENTITY
    assert "save_every" not in PLACES and IDENTITY.difference(IDENTITY, PLACES) is None


def test_checksum_sees_one_bit(encoder_dir):
    one, other = (build_model(str(encoder_dir), head_specs(["pos"]), seed=1) for _ in range(2))
    assert checksum(one) == checksum(other)
    parameter, _ = other.named_uses()["encoder.embeddings.LayerNorm.bias"]
    assert parameter[3] == 0.0
    parameter.data[3] = -0.0
    assert checksum(one) != checksum(other)


def test_moved_line():
    here, there = ({"device": "cpu", "threads_per_process": n} for n in (1, 2))
    assert moved_line(here, dict(here)) is None
    assert moved_line(here, there) == (
        "note: the checkpoint was made on cpu, 1 threads per process, this is cpu, 2 threads; last "
        "bits may differ"
    )


def script_for(folder: Path, second: list[str]) -> Path:
    """train_meta.py whose ranks work in folders 0 and 1, and the second of which has more flags."""
    script = folder / "own_world.py"
    script.write_text(
        "import os, runpy, sys\n"
        f"os.chdir(os.path.join({str(folder)!r}, os.environ['RANK']))\n"
        f"sys.argv += {second!r} if os.environ['RANK'] == '1' else []\n"
        f"runpy.run_path({str(ROOT / 'train_meta.py')!r}, run_name='__main__')\n"
    )
    return script


@pytest.fixture
def machines(grid_dir, encoder_dir, tmp_path) -> Path:
    """Folders 0 and 1, each with a `grid` and an `encoder` of its own."""
    for rank in "01":
        shutil.copytree(grid_dir, tmp_path / rank / "grid")
        shutil.copytree(encoder_dir, tmp_path / rank / "encoder")
    return tmp_path


def change_nothing(machine: Path) -> None:
    pass


def change_data(machine: Path) -> None:
    path = machine / "grid/udpos/train-hi.tsv"
    path.write_text(path.read_text().replace("dog", "cat"))


def change_encoder(machine: Path) -> None:
    path = machine / "encoder/model.safetensors"
    tensors = load_file(path)
    tensors["embeddings.word_embeddings.weight"][7, 3] += 1e-3
    save_file(tensors, path, {"format": "pt"})


LOCAL = ["--data-dir", "grid", "--model", "encoder", "--max-meta-steps", "2"]


@pytest.mark.parametrize(
    ("change", "second", "words"),
    [
        (change_nothing, ["--seed", "1"], "--seed 1, not 0"),
        (change_nothing, ["--eval-every", "1"], "--eval-every 1, not 0"),
        (change_data, [], "other data for pos_hi"),
        (change_encoder, [], "other initial parameters: what --model names is not the same"),
    ],
)
def test_ranks_that_do_not_run_the_same_are_refused(
    fork_world, meta_flags, machines, change, second, words
):
    change(machines / "1")
    output = machines / "run"
    flags = [*meta_flags, *LOCAL, "--output-dir", str(output)]
    ranks = fork_world(flags, 2, script_for(machines, second), codes=[2])
    errors = "".join(rank.err for rank in ranks)
    assert "Traceback" not in errors
    assert [line for line in errors.splitlines() if line.startswith("train_meta.py: ")] == [
        f"train_meta.py: error: process 1 differs from process 0: {words}; start all with the same "
        "flags, data and --model"
    ]
    assert not (output / "metrics.jsonl").exists()


def test_another_encoder_is_refused_on_resuming(fork, meta_flags, encoder_dir, tmp_path):
    encoder = tmp_path / "encoder"
    shutil.copytree(encoder_dir, encoder)
    flags = [*meta_flags, "--model", str(encoder), "--max-meta-steps", "1", "--resume", "auto"]
    flags += ["--selection", "task:pos", "--output-dir", str(tmp_path / "run")]
    first = fork(flags)
    assert first.wait() == 0, first.err
    state = json.loads((tmp_path / "run/checkpoints/step_000001/state.json").read_text())
    assert state["mixed_precision"] == "no"
    assert state["placement"] == {"device": first_device(), "threads_per_process": 1}

    change_encoder(tmp_path)
    refused = fork(flags)
    assert refused.wait() == 2
    assert refused.err.splitlines()[-1].endswith(
        "step_000001 was made with other initial parameters: what --model names is not the same"
    )


def first_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def test_another_precision_or_number_of_threads_on_resuming(fork, meta_flags, tmp_path):
    flags = [*meta_flags, "--selection", "task:pos", "--resume", "auto"]
    flags += ["--max-meta-steps", "1", "--output-dir", str(tmp_path / "run")]
    assert fork(flags, ACCELERATE_MIXED_PRECISION="bf16").wait() == 0
    refused = fork(flags, ACCELERATE_MIXED_PRECISION="no")
    assert refused.wait() == 2
    line = refused.err.splitlines()[-1]
    assert line.endswith("step_000001 was made with mixed precision bf16, not no")
    # The variable OMP_NUM_THREADS is read where a process begins, long before a fork of it.
    script = tmp_path / "two_threads.py"
    script.write_text(
        "import runpy, torch\n"
        "torch.set_num_threads(2)\n"
        f"runpy.run_path({str(ROOT / 'train_meta.py')!r}, run_name='__main__')\n"
    )
    moved = fork(flags, script, ACCELERATE_MIXED_PRECISION="bf16")
    assert moved.wait() == 0, moved.err
    assert moved.out.count("note: the checkpoint was made on ") == 1
