"""train_meta.py with no data given: the demo is made once, trained on, and said to be one."""

from __future__ import annotations

import json

import pytest
import torch

from metatlp.data.demo_source import DemoGrid
from metatlp.engine.arguments.presets import TINY_DEMO, TINY_PRETRAINING
from metatlp.engine.demo import encoder_folder
from metatlp.export.command import main as export_main

NAMES = ("ner", "nli", "pa", "pos", "qa")


@pytest.fixture(scope="module")
def at_once(fork, tmp_path_factory):
    """The cache of two runs that began at once on an empty one, and the runs."""
    cache = tmp_path_factory.mktemp("demo")
    flags = ["--debug", "--dry-run", "--cache-dir", str(cache)]
    runs = [fork(flags), fork(flags)]
    codes = [run.wait() for run in runs]
    assert codes == [0, 0], [run.err[-3000:] for run in runs]
    return cache, runs


@pytest.fixture(scope="module")
def trained(fork, at_once, tmp_path_factory):
    """The folder of a run on that cache, and what it said."""
    folder = tmp_path_factory.mktemp("run") / "demo"
    run = fork(["--debug", "--cache-dir", str(at_once[0]), "--output-dir", str(folder)])
    assert run.wait() == 0, run.err[-3000:]
    return folder, run.out


def test_two_runs_at_once_make_one_demo(at_once):
    cache, runs = at_once
    made = sorted(path.name for path in (cache / "demo").iterdir() if path.suffix != ".lock")
    assert [name.partition("-")[0] for name in made] == ["encoder", "grid"]
    assert not [name for name in made if name.endswith(".partial")]
    for line in ("demo: writing the grid", "demo: making the encoder"):
        assert sum(run.out.count(line) for run in runs) == 1


def test_the_first_line_says_so_and_the_last_what_next(trained, at_once):
    lines = trained[1].splitlines()
    assert lines[0].startswith("demo: no real data, but the project's own grid of artificial")
    for word in ("encoder", "--data-dir DIR", "--data hub", "--model", str(at_once[0] / "demo")):
        assert word in lines[0]
    assert "24 TLPs from the demo grid of artificial languages" in trained[1]
    assert lines[-1].startswith("next: ") and "--data hub --model" in lines[-1]
    assert "demo: writing" not in trained[1] and "demo: making" not in trained[1]


def test_what_the_run_leaves(trained, at_once):
    folder, _ = trained
    arguments = json.loads((folder / "args.json").read_text())["arguments"]
    own = {"data": "demo", "model": "demo", "tokenizer": "demo", "demo_seed": 0}
    expected = own | TINY_DEMO | TINY_PRETRAINING | {"demo_label_noise": 0.0}
    assert {name: arguments[name] for name in expected} == expected
    assert sorted(path.name for path in (folder / "models").iterdir()) == list(NAMES)
    scores = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["dev"]
    assert {tlp.partition("_")[0] for tlp in scores} == set(NAMES) and len(scores) == 24
    source = json.loads((folder / "data.json").read_text())
    assert "demo grid" in source["source"]
    # The demo's sentences fit its preset: nothing is split, truncated or repaired.
    kinds = {
        kind
        for split in source["splits"].values()
        for tlp in split.values()
        for kind, number in tlp["counts"].items()
        if number
    }
    assert kinds <= {"read", "windows", "examples_over_max"}
    steps = TINY_PRETRAINING["pretrain_steps"]
    assert encoder_folder(at_once[0], 0, steps).is_dir()


def test_a_run_resumes_on_the_same_demo_only(trained, at_once, fork):
    flags = ["--debug", "--cache-dir", str(at_once[0]), "--output-dir", str(trained[0])]
    run = fork([*flags, "--resume", "auto", "--pretrain-steps", "0"])
    assert run.wait() == 2 and "made with --pretrain-steps 10, not 0" in run.err
    before = (trained[0] / "metrics.jsonl").read_text().splitlines()[:3]
    run = fork([*flags, "--resume", "auto"])
    assert run.wait() == 0, run.err[-3000:]
    assert (trained[0] / "metrics.jsonl").read_text().splitlines()[:3] == before


def test_the_default_preset_is_said(fork, at_once):
    cache = ["--cache-dir", str(at_once[0])]
    tiny = ["--demo-scale", "0.0005", "--pretrain-steps", "10", "--epochs", "7", "--dry-run"]
    run = fork([*cache, *tiny])
    assert run.wait() == 0, run.err[-3000:]
    line = run.out.splitlines()[1]
    assert line.startswith("preset demo, the default on this data: ") and "--epochs 7.0" in line


def test_a_checkpoint_on_the_demo_is_exported(trained, tmp_path):
    """Its encoder is found in the cache; the card says that nobody speaks these languages."""
    run, output = trained[0], tmp_path / "out"
    newest = max((run / "checkpoints").glob("step_*"))
    assert export_main(["--run", str(newest), "--output-dir", str(output), "--tasks", "pos"]) == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        found = (output / "pos" / name).read_bytes()
        assert found == (run / "models" / "pos" / name).read_bytes()
    card = (output / "pos" / "README.md").read_text()
    assert "artificial languages" in card and "language:" not in card and "base_model" not in card


def test_a_cache_that_cannot_be_written(train_meta, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="^--cache-dir .*file.*: cannot be used"):
        train_meta.main(["--debug", "--cache-dir", str(tmp_path / "file"), "--dry-run"])
    torch.autograd.set_detect_anomaly(False)


def test_the_generators_errors_name_the_flags_of_the_run(tmp_path):
    with pytest.raises(ValueError, match="^--demo-scale -1: "):
        DemoGrid(scale=-1).build(tmp_path, print)


def test_so_does_the_one_that_only_a_build_meets(tmp_path, monkeypatch):
    # One draw for an example is not enough for long.
    monkeypatch.setattr("metatlp.data.demo.splits.MAX_TRIES", 1)
    with pytest.raises(ValueError, match=r"^--demo-scale: no \d+th different "):
        DemoGrid().build(tmp_path, print)


def test_the_default_learns(train_meta, tmp_path):
    # What a first run does, on less data: the shallow tasks are learned within seconds.
    flags = ["--selection", "task:pos,ner", "--sampler", "temp", "--tau", "2"]
    flags += ["--demo-scale", "0.005", "--max-meta-steps", "60", "--eval-examples", "25"]
    flags += ["--cache-dir", str(tmp_path / "cache"), "--output-dir", str(tmp_path / "run")]
    assert train_meta.main(flags) == 0
    arguments = json.loads((tmp_path / "run" / "args.json").read_text())["arguments"]
    assert arguments["pretrain_steps"] == 0 and arguments["preset"] == "demo"
    scores = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["dev"]
    # The most frequent tag gives 0.20 of the words, `O` no entity.
    pos = [entry["accuracy"] for tlp, entry in scores.items() if tlp.startswith("pos")]
    ner = [entry["entity_f1"] for tlp, entry in scores.items() if tlp.startswith("ner")]
    assert sum(pos) / len(pos) > 0.6 and sum(ner) / len(ner) > 0.2
