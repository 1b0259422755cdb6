"""train_meta.py end to end on the small grid: it learns, and what it writes can be used."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from metatlp.data.cache import encode_split
from metatlp.data.xtreme import XtremeFolder
from metatlp.grid import TLP
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import scores
from metatlp.tasks.task import Limits, Padding, model_inputs

STEPS = 30
BASE = ["--max-meta-steps", "3"]
RUNS = {
    "learns": ["--max-meta-steps", str(STEPS), "--inner-lr", "5e-3", "--eval-every", "10"],
    "plain": BASE,
    "checkpointed": [*BASE, "--gradient-checkpointing"],
    "authors": [*BASE, "--preset", "authors-code"],
    "debug": ["--debug", "--meta-batch-size", "5"],
    "fixed": [*BASE, "--sampler", "fixed"],
}
LIMITS = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, fork, meta_flags):
    """Name -> output folder; all runs are made in one process."""
    folder = tmp_path_factory.mktemp("runs")
    weights = folder / "weights.json"
    weights.write_text(json.dumps({"pos_en": 1.0, "qa_es": 3.0}))
    flags = []
    for name, more in RUNS.items():
        own = [*meta_flags, *more, "--output-dir", str(folder / name)]
        if name == "fixed":
            temp = own.index("--sampler")
            assert own[temp : temp + 4] == ["--sampler", "temp", "--tau", "5"]
            own[temp : temp + 4] = ["--weights-file", str(weights), "--selection", "pos_en,qa_es"]
        flags.append(own)
    (folder / "runs.json").write_text(json.dumps(flags))
    done = fork([str(folder / "runs.json")], "tests/engine/workers/several_runs.py")
    assert done.wait() == 0, done.err[-6000:]
    return folder


def records(folder, kind="slots"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if kind in record]


def theta(folder, step=3):
    return load_file(folder / "checkpoints" / f"step_{step:06d}" / "theta.safetensors")


def test_the_loss_falls_and_the_scores_rise(runs):
    steps = records(runs / "learns")
    mean = [sum(r["loss"] for r in part) / len(part) for part in (steps[:5], steps[-5:])]
    assert mean[1] < 0.75 * mean[0]
    first, *_, last = records(runs / "learns", "dev")
    assert [r["step"] for r in records(runs / "learns", "dev")] == [10, 20, 30]
    assert last["dev"]["pos_en"]["accuracy"] > max(0.6, first["dev"]["pos_en"]["accuracy"])


def test_metrics_hold_what_is_promised(runs):
    steps = records(runs / "learns")
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    for record in steps:
        assert record["tokens"] == sum(slot["tokens"] for slot in record["slots"])
        assert record["seconds"] > 0 and len(record["slots"]) == 5
        for slot in record["slots"]:
            assert slot["loss"] == pytest.approx(sum(slot["losses"]) / 2)
        assert record["loss"] == pytest.approx(sum(s["loss"] for s in record["slots"]) / 5)
        assert all(0 <= slot["clipped"] <= 1 and slot["tlp"] for slot in record["slots"])
    assert [r["lr"] for r in steps] == pytest.approx([5e-3 * (1 - t / STEPS) for t in range(STEPS)])
    distances = [record["distance"] for record in steps]
    assert 0 < distances[0] < distances[-1]


def test_the_exported_models_score_what_the_run_says(runs, grid_dir, encoder_dir, tmp_path):
    """An exported model loads with transformers alone and reproduces the dev scores."""
    last = records(runs / "learns", "dev")[-1]["dev"]
    source = XtremeFolder(grid_dir)
    for name in ("pos_hi", "nli_fr", "qa_en"):
        tlp = TLP.parse(name)
        task, folder = TASKS[tlp.task], runs / "learns" / "models" / tlp.task
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = task.auto_class.from_pretrained(folder).eval()
        split = encode_split(source, tlp, "dev", tokenizer, LIMITS, tmp_path)
        predictions = []
        for row in range(split.num_rows):
            batch = task.collate(split, torch.tensor([row]).numpy(), Padding.of(tokenizer))
            with torch.no_grad():
                predictions += task.predict(model(**model_inputs(batch)), batch)
        terms = task.terms(tlp, split, predictions, source.read(tlp, "dev").examples)
        assert scores(terms) == pytest.approx(last[name]), name


def test_gradient_checkpointing_changes_nothing_but_memory(runs):
    plain, again = theta(runs / "plain"), theta(runs / "checkpointed")
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_the_authors_preset_is_another_run(runs):
    arguments = json.loads((runs / "authors" / "args.json").read_text())["arguments"]
    assert (arguments["inner_state"], arguments["dropout"]) == ("carry", 0.0)
    plain, authors = theta(runs / "plain"), theta(runs / "authors")
    assert any(not torch.equal(plain[name], authors[name]) for name in plain)


def test_fixed_weights_draw_only_what_they_weigh(runs):
    drawn = {slot["tlp"] for record in records(runs / "fixed") for slot in record["slots"]}
    assert drawn == {"pos_en", "qa_es"}


def test_debug_trains_a_little_with_every_task(runs):
    assert len(records(runs / "debug")) == 3


def test_data_json_counts_everything_read(runs):
    splits = json.loads((runs / "learns" / "data.json").read_text())["splits"]
    assert splits["train"]["pos_en"]["counts"]["read"] == 40
    assert splits["train"]["nli_fr"]["examples"] == 80
    assert splits["dev"]["qa_es"]["counts"]["read"] == 6


def test_bf16_autocast_keeps_float32_masters(fork, meta_flags, tmp_path):
    flags = [*meta_flags, *BASE, "--output-dir"]
    half = fork([*flags, str(tmp_path / "bf16")], ACCELERATE_MIXED_PRECISION="bf16")
    full = fork([*flags, str(tmp_path / "fp32")], ACCELERATE_MIXED_PRECISION="no")
    assert (half.wait(), full.wait()) == (0, 0), half.err[-3000:] + full.err[-3000:]
    assert "mixed precision bf16" in half.out
    half, full = theta(tmp_path / "bf16"), theta(tmp_path / "fp32")
    assert all(tensor.dtype == torch.float32 for tensor in half.values())
    error = sum((half[n] - full[n]).double().square().sum() for n in full)
    norm = sum(full[n].double().square().sum() for n in full)
    # Other gradients, so other steps, but of the same length: 18 steps of at most 1e-3.
    assert 0 < (error / norm).sqrt() < 0.05


DIVERGES = ["--inner-lr", "1", "--grad-clip", "5", "--weight-decay", "1e30"]
DIVERGES += ["--max-meta-steps", "50", "--save-every", "1"]


def assert_diverged(errors: str, run) -> None:
    lines = [line for line in errors.splitlines() if "diverged: meta step" in line]
    assert len(lines) == 1 and "--inner-lr" in lines[0]
    for file in (run / "checkpoints").glob("*/theta.safetensors"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())


@pytest.mark.parametrize("reduce", ["exact", "fp32"])
@pytest.mark.parametrize("world", [1, 2])
def test_divergence_is_one_line_and_the_last_checkpoint_stays(
    fork_world, meta_flags, tmp_path, reduce, world
):
    flags = [*meta_flags, *DIVERGES, "--reduce", reduce, "--output-dir", str(tmp_path / "run")]
    errors = "".join(rank.err for rank in fork_world(flags, world, codes=[1]))
    assert "Traceback" not in errors
    assert_diverged(errors, tmp_path / "run")


def test_divergence_under_torchrun(launch, meta_flags, tmp_path):
    flags = [*meta_flags, *DIVERGES, "--output-dir", str(tmp_path / "run")]
    done = launch("train_meta.py", flags, 2)
    assert done.returncode == 1
    # torchrun has a traceback of its own; none of ours may stand in it.
    assert 'train_meta.py", line' not in done.stderr
    assert_diverged(done.stderr, tmp_path / "run")
