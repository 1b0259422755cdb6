"""train_mtl.py: what it trains on, its checkpoints and their mean; killed, stopped and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from metatlp.engine.models import find_models
from metatlp.engine.provenance import read

SCRIPT = "train_mtl.py"
RUN = [
    *("--max-updates", "12", "--save-every", "3", "--keep", "9", "--eval-every", "5"),
    *("--lr", "3e-2", "--select", "best"),  # so high that it is best early
]


def records(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def tensors(folder):
    files = [*folder.glob("checkpoints/*/*.safetensors"), *folder.glob("*/*/*.safetensors")]
    files += folder.glob("averaged/models/*/*.safetensors")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(fork, supervised_flags, tmp_path_factory):
    """A run that nothing stopped, with the mean of its last three checkpoints."""
    folder = tmp_path_factory.mktemp("mtl") / "whole"
    run = fork(
        [*supervised_flags, *RUN, "--average-last", "3", "--output-dir", str(folder)], SCRIPT
    )
    assert run.wait() == 0, run.err[-3000:]
    return folder, run.out


def test_the_first_lines_say_what_is_trained(whole):
    out = whole[1]
    assert "12 updates = 0.109 epochs of 110 batches, of the TLPs of a task concatenated" in out
    assert "10 TLPs from XTREME folder" in out and "models in" in out


def test_every_line_of_the_metrics(whole):
    lines = records(whole[0])
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == [3, 5, 6, 9, 10, 12]
    assert sum(line["updates"] for line in trained) == 12
    names = Counter(name for line in trained for name in line["losses"])
    assert set(names) <= {"qa_en+es", "nli_en+fr", "pa_en+de", "pos_en+hi", "ner_en+zh"}
    distances = [line["distance"] for line in trained]
    assert distances[-1] > distances[0] > 0
    dev = [line for line in lines if "dev" in line]
    assert [line["step"] for line in dev] == [5, 10, 12] and len(dev[0]["dev"]) == 10


def test_the_best_of_the_evaluations_is_exported(whole):
    folder = whole[0]
    state = json.loads((folder / "checkpoints/step_000012/state.json").read_text())
    scores = {step: score for step, score in state["curve"]}
    assert set(scores) == {5, 10}  # the last one comes after the last checkpoint
    assert state["best"]["update"] == 5 and scores[5] > scores[10]
    last, best = (
        load_file(folder / f"checkpoints/step_000012/{kind}.safetensors")
        for kind in ("theta", "best")
    )
    exported = load_file(folder / "models/pos/model.safetensors")
    names = {name: f"encoder.{name.removeprefix('bert.')}" for name in exported}
    names = {name: own if own in best else f"head.pos.{name}" for name, own in names.items()}
    assert all(torch.equal(exported[name], best[own]) for name, own in names.items())
    assert not all(torch.equal(exported[name], last[own]) for name, own in names.items())
    dev = next(r["dev"] for r in records(folder) if r["step"] == 5 and "dev" in r)
    history = read(folder / "models" / "pos")
    assert history.system == "mtl" and history.selected_on == {"update": history.trained_on}
    assert history.scores["dev"] == dev
    assert len(history.trained_on) == 10 and history.scores["dev"].keys() == set(history.trained_on)


def test_the_mean_of_the_last_checkpoints(whole):
    folder = whole[0]
    thetas = [
        load_file(folder / f"checkpoints/step_{step:06d}/theta.safetensors") for step in (6, 9, 12)
    ]
    assert find_models(str(folder / "averaged")).keys() == {"qa", "nli", "pa", "pos", "ner"}
    exported = load_file(folder / "averaged/models/pos/model.safetensors")
    checked = 0
    for name, tensor in exported.items():
        own = f"encoder.{name.removeprefix('bert.')}"
        own = own if own in thetas[0] else f"head.pos.{name}"
        mean = torch.stack([theta[own].double() for theta in thetas]).mean(0)
        assert torch.equal(tensor, mean.float()), name
        checked += 1
    assert checked == len(exported) > 10
    assert read(folder / "averaged/models/pos").system == "mtl-averaged"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_stopped_it_goes_on_bit_for_bit(whole, fork, supervised_flags, tmp_path, number):
    folder = tmp_path / "run"
    flags = [*supervised_flags, *RUN, "--average-last", "3", "--output-dir", str(folder)]
    first = fork(flags, SCRIPT)
    end = time.monotonic() + 120
    while not (folder / "checkpoints" / "step_000006").exists():
        assert time.monotonic() < end and not first.ended(), first.err[-3000:]
        time.sleep(0.002)
    first.kill(number)
    code = first.wait()
    if number == signal.SIGTERM:
        assert code == 0 and "saved; go on with the same command and --resume auto" in first.out
    else:
        assert code == -number
    second = fork([*flags, "--resume", "auto"], SCRIPT)
    assert second.wait() == 0, second.err[-3000:]
    assert f"resumed {folder}/checkpoints/step_" in second.out
    found, expected = tensors(folder), tensors(whole[0])
    if number == signal.SIGTERM:  # stopped between two checkpoints, it wrote one there
        assert found.keys() >= expected.keys()
        found = {name: found[name] for name in expected}
    assert found == expected
    ends = [[r for r in records(f) if "dev" in r] for f in (folder, whole[0])]
    assert ends[0] == ends[1]
    if number == signal.SIGKILL:
        assert records(folder) == records(whole[0])


def test_other_flags_or_data_are_no_resumption(whole, fork, supervised_flags, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    flags = [*supervised_flags, *RUN, "--average-last", "3", "--output-dir", str(folder)]
    for more, message in (
        (["--lr", "2e-3"], "was made with --lr 0.03, not 0.002"),
        (["--save-every", "4"], "was made with --save-every 3, not 4"),  # what is averaged
        (["--eval-every", "4"], "was made with --eval-every 5, not 4"),  # it chooses
        (["--batch-parts", "2"], "was made with --batch-parts 1, not 2"),
    ):
        run = fork([*flags, "--resume", "auto", *more], SCRIPT)
        assert run.wait() == 2 and message in run.err, run.err[-2000:]
    run = fork(flags, SCRIPT)
    assert run.wait() == 2 and "holds a run; go on with --resume auto" in run.err
    assert tensors(folder) == tensors(whole[0])


def test_as_many_updates_as_a_meta_run(fork, supervised_flags, meta_flags, tmp_path):
    meta = fork(
        [*meta_flags, "--max-meta-steps", "2", "--output-dir", str(tmp_path / "meta")],
    )
    assert meta.wait() == 0, meta.err[-3000:]
    matched = [*supervised_flags, "--sampler", "temp", "--tau", "5", "--dry-run"]
    run = fork([*matched, "--match-updates", str(tmp_path / "meta")], SCRIPT)
    assert run.wait() == 0, run.err[-3000:]
    # m = 5, k = 2
    assert f"20 updates, the inner steps of {tmp_path / 'meta'}, = " in run.out
    assert "each of a TLP drawn with tau 5" in run.out
    assert f"20 updates, the inner steps of {tmp_path / 'meta'}, = " in run.out
    state = tmp_path / "meta/checkpoints/step_000002/state.json"
    state.write_text(state.read_text().replace('"step": 2', '"step": 1'))
    run = fork([*matched, "--match-updates", str(tmp_path / "meta")], SCRIPT)
    assert run.wait() == 2 and "has made 1 of its 2 meta steps; finish it first" in run.err
    run = fork([*supervised_flags, *RUN, "--average-last", "5", "--dry-run"], SCRIPT)
    assert run.wait() == 2
    assert "--average-last 5: 12 updates give 4 checkpoints with --save-every 3" in run.err
    run = fork([*matched, "--match-updates", str(tmp_path)], SCRIPT)
    assert run.wait() == 2
    assert f"error: --match-updates {tmp_path}: " in run.err and "no checkpoint" in run.err
