"""A run that was killed, stopped or moved ends with the bits of one that was not."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from transformers import BertConfig

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
# A TLP of every task, and few dev examples.
FEW = ["--selection", "qa_es,nli_fr,pa_en,pos_hi,ner_zh", "--eval-examples", "2"]
EVERY = [*FEW, "--save-every", "2", "--eval-every", "3"]
RUNS = {
    "average": [
        *("--inner-state", "average", "--draw", "systematic", "--outer-momentum", "0.9"),
        *("--reduce", "exact"),
    ],
    "reset": ["--inner-state", "reset", "--draw", "multinomial"],
    "multidds": [
        *("--sampler", "multidds", "--dev-tlps", "task:pos", "--dds-every", "3", "--dds-lr", "1"),
        *("--reward-smoothing", "0.5", "--dds-baseline", "ema", "--reward-dropout", "on"),
    ],
    "carry": ["--inner-state", "carry", "--draw", "systematic", "--idle-heads", "momentum"],
}


def poll(condition, seconds: float = 180.0, between: float = 0.002):
    """The first true value of `condition`; the wait is bounded."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(between)
    return value


def records(folder: Path) -> list[dict]:
    """metrics.jsonl without what may differ: times, and which rank held a slot."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
        line.pop("passes_by_rank", None)
        for slot in line.get("slots", []):
            del slot["rank"]
    return lines


def tensors(folder: Path) -> dict[str, bytes]:
    """The newest checkpoint and the exported models, byte for byte."""
    newest = max((folder / "checkpoints").glob("step_*"))
    found = [*newest.glob("*.safetensors"), *folder.glob("models/*/*.safetensors")]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def assert_same(folder: Path, whole: Path, note: str = "") -> None:
    assert tensors(folder).keys() == tensors(whole).keys(), note
    differing = [name for name, bits in tensors(whole).items() if tensors(folder)[name] != bits]
    assert differing == [], note
    assert records(folder) == records(whole), note


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@pytest.fixture(scope="module")
def flags(meta_flags) -> list[str]:
    return [*meta_flags, *EVERY, "--max-meta-steps", str(STEPS)]


@pytest.fixture(scope="module")
def to_end(fork):
    """Run to the end; the Fork."""

    def run(arguments, folder, code=0):
        process = fork([*arguments, "--output-dir", str(folder)])
        assert process.wait() == code, process.err
        return process

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, to_end, flags) -> Path:
    """The uninterrupted run that most tests compare with, all its checkpoints kept."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    to_end([*flags, "--keep", "9"], folder)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_killed_at_a_random_moment(tmp_path, fork, to_end, grid_flags, meta_flags, name):
    base = grid_flags if "multidds" in RUNS[name] else meta_flags
    arguments = [*base, *EVERY, "--max-meta-steps", str(STEPS), *RUNS[name]]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = fork([*arguments, "--output-dir", str(whole)])
    poll(lambda: (whole / "metrics.jsonl").exists())
    begun = time.monotonic()
    assert uninterrupted.wait() == 0, uninterrupted.err
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    duration = time.monotonic() - begun
    for _ in range(2):  # the second time a resumed run is killed
        process = fork([*arguments, "--output-dir", str(folder), "--resume", "auto"])
        poll(lambda run=process: (folder / "metrics.jsonl").exists() or run.ended())
        time.sleep(rng.uniform(0, duration))
        process.kill(signal.SIGKILL)
        process.wait()
    resumed = to_end([*arguments, "--resume", "auto"], folder)
    assert_same(folder, whole, f"seed {seed}: {resumed.out}")
    moments = {"theta", "exp_avg", "exp_avg_sq", "inner_steps"} if name != "reset" else {"theta"}
    velocity = {"velocity"} if name == "average" else set()
    saved = {p.stem for p in (folder / "checkpoints/step_000008").glob("*.safetensors")}
    assert saved == moments | velocity


@pytest.fixture(scope="module")
def large_encoder(encoder_dir, tmp_path_factory) -> Path:
    """A configuration whose embeddings take a while to write: 20 MB per vector."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(encoder_dir, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    config = BertConfig.from_pretrained(folder)
    config.vocab_size = 150_000
    config.save_pretrained(folder)
    return folder


def killed_in_the_write(fork, arguments, folder: Path, step: int) -> bool:
    """Kill a run as soon as it writes its checkpoint of `step`; whether that came in time."""
    partial = folder / "checkpoints" / f".step_{step:06d}.partial"
    process = fork([*arguments, "--output-dir", str(folder), "--resume", "auto"])
    poll(lambda: partial.exists() or process.ended(), between=0.0005)
    process.kill(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return partial.exists()


def test_killed_while_a_checkpoint_is_written(tmp_path, fork, to_end, meta_flags, large_encoder):
    arguments = [*meta_flags, "--model", str(large_encoder), "--from-config", "--save-every", "2"]
    arguments += ["--max-meta-steps", "5", "--eval-examples", "1", "--selection", "task:pos"]
    whole = tmp_path / "whole"
    to_end(arguments, whole)
    for attempt in range(10):
        folder = tmp_path / f"killed-{attempt}"
        # First with no checkpoint before it, then with one.
        if all(killed_in_the_write(fork, arguments, folder, step) for step in (2, 4)):
            break
    else:
        pytest.fail("never hit the write of a checkpoint in ten attempts")
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == [".step_000004.partial", "step_000002"]
    resumed = to_end([*arguments, "--resume", "auto"], folder)
    assert "step_000002 after 2 meta steps" in resumed.out
    assert_same(folder, whole)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["step_000004", "step_000005"]


def stopped_step(output: str) -> int:
    line = next(line for line in output.splitlines() if line.startswith("SIGTERM: stopped after"))
    assert line.endswith("saved; go on with the same command and --resume auto")
    return int(line.split()[5])


def test_moved_between_one_rank_and_two(tmp_path, fork, fork_ranks, fork_world, to_end, grid_flags):
    arguments = [*grid_flags, *FEW, "--max-meta-steps", "24", "--outer-momentum", "0.9"]
    arguments += ["--sampler", "multidds", "--dev-tlps", "pos_en,pos_hi", "--dds-every", "5"]
    arguments += ["--dds-baseline", "ema", "--reward-smoothing", "0.5", "--dds-lr", "1"]
    arguments += ["--reduce", "exact", "--eval-every", "7"]
    whole, up, down = (tmp_path / name for name in ("whole", "up", "down"))
    to_end(arguments, whole)

    one = fork([*arguments, "--output-dir", str(up)])
    poll(lambda: (up / "metrics.jsonl").exists() or one.ended())
    one.kill(signal.SIGTERM)
    assert one.wait() == 0, one.err
    assert 0 < stopped_step(one.out) < 24
    fork_world([*arguments, "--output-dir", str(up), "--resume", "auto"], 2)
    assert_same(up, whole)
    starts = json.loads((up / "args.json").read_text())
    assert starts["placement"]["processes"] == 2
    assert [s["placement"]["processes"] for s in starts["earlier_starts"]] == [1]

    two = fork_ranks([*arguments, "--output-dir", str(down)], 2)
    # After a step, not after the probabilities that are recorded first: a rank that has not begun
    # its first step ends at once, and the other one fails for want of it.
    metrics = down / "metrics.jsonl"
    poll(lambda: (metrics.exists() and '"slots"' in metrics.read_text()) or two[0].ended())
    two[1].kill(signal.SIGTERM)
    assert [rank.wait() for rank in two] == [0, 0], two[0].err
    assert 0 < stopped_step(two[0].out) < 24
    to_end([*arguments, "--resume", "auto"], down)
    assert_same(down, whole)


def test_an_evaluation_that_a_stop_forestalled_is_made_up(tmp_path, fork, to_end, meta_flags):
    arguments = [*meta_flags, *FEW, "--max-meta-steps", "20", "--eval-every", "1"]
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    to_end(arguments, whole)
    process = fork([*arguments, "--output-dir", str(folder)])
    poll(lambda: (folder / "metrics.jsonl").exists() or process.ended())
    process.kill(signal.SIGTERM)
    assert process.wait() == 0, process.err
    assert records(folder)[-1].keys() >= {"slots"}, "stopped before the evaluation"
    assert stopped_step(process.out) < 20
    to_end([*arguments, "--resume", "auto"], folder)
    assert_same(folder, whole)


def test_a_named_checkpoint(tmp_path, to_end, flags, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    third = folder / "checkpoints/step_000004"
    resumed = to_end([*flags, "--keep", "9", "--resume", str(third)], folder)
    assert f"resumed {third} after 4 meta steps" in resumed.out
    assert resumed.out.count("set aside, being of a later step: ") == 2
    assert_same(folder, whole)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == [f"step_{step:06d}" for step in (2, 4, 6, 8)]

    # Into a folder of its own: the run's second half, while the first stays as it was.
    before, fresh = tree(whole), tmp_path / "fresh"
    to_end([*flags, "--resume", str(whole / "checkpoints/step_000004")], fresh)
    assert tensors(fresh) == tensors(whole)
    assert records(fresh) == [record for record in records(whole) if record["step"] > 4]
    assert tree(whole) == before


def test_after_a_rewind_the_later_checkpoints_do_not_come_back(
    tmp_path, fork, to_end, flags, whole
):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    third = folder / "checkpoints/step_000004"
    process = fork([*flags, "--resume", str(third), "--output-dir", str(folder)])
    poll(lambda: "resumed" in process.out or process.ended())
    process.kill(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = to_end([*flags, "--resume", "auto"], folder)
    assert "step_000008 after" not in resumed.out
    assert_same(folder, whole)


def test_a_finished_run_takes_no_further_step(tmp_path, to_end, flags, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    before = tree(folder)
    resumed = to_end([*flags, "--resume", "auto"], folder)
    assert "step_000008 after 8 meta steps" in resumed.out
    after = tree(folder)
    assert after.keys() == before.keys()
    # args.json tells of the new start, metrics.jsonl of how long the last evaluation took; the
    # records of the data and the costs and the models are written again.
    again = {
        "args.json",
        "cost.json",
        "data.json",
        "metrics.jsonl",
        *(name for name in before if name.startswith("models/")),
    }
    assert {k: v for k, v in after.items() if k not in again} == {
        k: v for k, v in before.items() if k not in again
    }
    assert_same(folder, whole)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, to_end, flags, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    damaged = folder / "checkpoints/step_000008/exp_avg.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    resumed = to_end([*flags, "--keep", "9", "--resume", "auto"], folder)
    assert f"checkpoint passed over: {damaged}: damaged" in resumed.out
    assert "step_000006 after 6 meta steps" in resumed.out
    assert_same(folder, whole)


def test_auto_without_a_checkpoint_starts(tmp_path, to_end, flags, whole):
    folder = tmp_path / "run"
    started = to_end([*flags, "--resume", "auto"], folder)
    assert f"--resume auto: no checkpoint in {folder / 'checkpoints'}; starting at" in started.out
    assert_same(folder, whole)
    assert json.loads((folder / "args.json").read_text())["earlier_starts"] == []


@pytest.fixture(scope="module")
def other_data(grid_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "grid"
    shutil.copytree(grid_dir, folder)
    path = folder / "udpos/train-hi.tsv"
    path.write_text(path.read_text().replace("dog", "cat"))
    return folder


def test_ranks_that_find_different_checkpoints_are_refused(tmp_path, fork_world, flags, whole):
    # As on two machines whose --output-dir is not shared.
    script = tmp_path / "own_folder.py"
    script.write_text(
        "import os, runpy, sys\n"
        "sys.argv[-1] += os.environ['RANK']\n"
        f"runpy.run_path({str(ROOT / 'train_meta.py')!r}, run_name='__main__')\n"
    )
    shutil.copytree(whole, tmp_path / "run0")
    before = tree(tmp_path / "run0")
    arguments = [*flags, "--resume", "auto", "--output-dir", str(tmp_path / "run")]
    ranks = fork_world(arguments, 2, script, codes=[2])
    errors = "".join(rank.err for rank in ranks)
    assert errors.count("not all processes find the same checkpoints") == 1
    assert tree(tmp_path / "run0") == before
    assert not (tmp_path / "run1").exists()


CHANGES = {
    "tau": ["--tau", "4"],
    "seed": ["--seed", "1"],
    "inner_lr": ["--inner-lr", "2e-3"],
    "max_meta_steps": ["--max-meta-steps", "9"],
    "outer_momentum": ["--outer-momentum", "0.5"],
    "batch_size": ["--batch-size", "5"],
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_flags_are_refused(tmp_path, to_end, flags, whole, name):
    before = tree(whole)
    refused = to_end([*flags, *CHANGES[name], "--resume", "auto"], whole, code=2)
    assert_one_line(refused.err, f" was made with --{name.replace('_', '-')} ")
    assert tree(whole) == before


def test_other_data_is_refused(to_end, flags, whole, other_data):
    before = tree(whole)
    refused = to_end([*flags, "--data-dir", str(other_data), "--resume", "auto"], whole, code=2)
    assert_one_line(refused.err, " was made with other data for pos_hi")
    assert tree(whole) == before


def test_a_folder_that_holds_a_run_is_not_started_in(tmp_path, to_end, flags, whole):
    before = tree(whole)
    foreign = tmp_path / "elsewhere"
    shutil.copytree(whole / "checkpoints", foreign)
    for more in ([], ["--resume", str(foreign / "step_000004")]):
        refused = to_end([*flags, *more], whole, code=2)
        assert_one_line(refused.err, "holds a run; go on with --resume auto, or name another")
    assert tree(whole) == before


def assert_one_line(err: str, part: str) -> None:
    """The last line of standard error, and no traceback."""
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert "error: " in line and part in line
