"""SIGTERM and SIGINT, sent to real processes: what is saved, what is said, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metatlp.engine.signals import Stopped, StopRequest

ROOT = Path(__file__).resolve().parents[2]
MANY = 400  # meta steps: far more than are made before a signal arrives
BOTH = [signal.SIGTERM, signal.SIGINT]
NOTHING = "stopped before the first meta step; there was nothing to save"
LATE = "stopped after the last meta step, which is saved, but before the last evaluation and the "


def poll(condition, seconds: float = 180.0, between: float = 0.002):
    """The first true value of `condition`; the wait is bounded."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(between)
    return value


@pytest.fixture(scope="module")
def flags(meta_flags) -> list[str]:
    return [*meta_flags, "--save-every", "0", "--eval-examples", "1", "--epochs", "1000"]


def begun(folder: Path) -> bool:
    """Whether the first meta step is done."""
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and metrics.stat().st_size > 0


def assert_stopped(folder: Path, out: str, number: signal.Signals) -> None:
    """The last step that was recorded is the one that was saved and told of."""
    step = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert 0 < step < MANY
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step_{step:06d}"]
    assert (
        f"{number.name}: stopped after meta step {step} of {MANY} and saved; go on with the same "
        "command and --resume auto"
    ) in out.splitlines()


@pytest.mark.parametrize("number", BOTH)
def test_the_running_step_is_finished_and_saved(tmp_path, fork, flags, number):
    run = fork([*flags, "--max-meta-steps", str(MANY), "--output-dir", str(tmp_path)])
    poll(lambda: begun(tmp_path) or run.ended())
    run.kill(number)
    assert run.wait() == 0, run.err
    assert "Traceback" not in run.err
    assert_stopped(tmp_path, run.out, number)


@pytest.fixture
def in_a_long_step(tmp_path, fork, flags):
    """A run within a meta step of many seconds, that has had one signal and ignored some more."""

    def run(number):
        arguments = [*flags, "--inner-steps", "5000", "--meta-batch-size", "1", "--resume", "auto"]
        process = fork([*arguments, "--max-meta-steps", "2", "--output-dir", str(tmp_path)])
        poll(lambda: "starting at step 0" in process.out or process.ended())
        for _ in range(3):
            process.kill(number)
            time.sleep(0.1)
        return process

    return run


@pytest.mark.parametrize("number", BOTH)
def test_repetitions_are_one_request_and_a_second_one_acts_at_once(in_a_long_step, number):
    run = in_a_long_step(number)
    if run.ended() and NOTHING in run.out:  # the signal came between the line and the first step
        run = in_a_long_step(number)
    assert not run.ended(), run.err
    time.sleep(2.0)  # that long signals count as one request
    for _ in range(20):
        run.kill(number)
        time.sleep(1.0)
        if run.ended():
            break
    # As Python ends without a handler of ours: by the signal, or by KeyboardInterrupt.
    assert run.wait() == (-signal.SIGTERM if number == signal.SIGTERM else 130)
    assert "stopped" not in run.out and "saved" not in run.out


def test_before_the_first_step(tmp_path, fork, flags):
    folder, cache = tmp_path / "run", tmp_path / "cache"
    arguments = [*flags, "--max-meta-steps", "1", "--cache-dir", str(cache)]
    run = fork([*arguments, "--output-dir", str(folder)])
    poll(lambda: (folder / "args.json").exists() or run.ended())
    run.kill(signal.SIGTERM)
    assert run.wait() == 0, run.err
    assert f"SIGTERM: {NOTHING}" in run.out.splitlines()
    assert not (folder / "checkpoints").exists() and not begun(folder)
    # The same command starts the run: neither the folder nor the cache stands in its way.
    again = fork([*arguments, "--output-dir", str(folder)])
    assert again.wait() == 0, again.err
    assert "finished 1 meta steps" in again.out


@pytest.mark.parametrize("number", BOTH)
def test_in_the_last_evaluation(tmp_path, fork, flags, number):
    arguments = [*flags, "--max-meta-steps", "2", "--eval-batch-size", "1", "--eval-examples", "12"]
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        run = fork([*arguments, "--output-dir", str(folder)])
        poll(lambda f=folder, r=run: (f / "checkpoints/step_000002").exists() or r.ended())
        run.kill(number)
        assert run.wait() == 0, run.err
        if "finished" not in run.out:
            break
    assert any(line.startswith(f"{number.name}: {LATE}") for line in run.out.splitlines()), run.out
    assert "Traceback" not in run.err
    resumed = fork([*arguments, "--output-dir", str(folder), "--resume", "auto"])
    assert resumed.wait() == 0, resumed.err
    assert "finished 2 meta steps" in resumed.out
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], "dev" in r) for r in records] == [(1, False), (2, False), (2, True)]
    assert {path.name for path in (folder / "models").iterdir()} == {
        "qa",
        "nli",
        "pa",
        "pos",
        "ner",
    }


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ACCELERATE = ["accelerate.commands.launch", "--config_file"]
TWO = [*ACCELERATE, str(ROOT / "accelerate_configs/cpu_2.yaml")]
ONE = [*ACCELERATE, str(ROOT / "accelerate_configs/single_gpu_debug.yaml")]


def everyone(launcher: int, workers: list[int], number: int) -> None:
    """As a scheduler does that signals every process of a job."""
    for pid in (launcher, *workers):
        os.kill(pid, number)


def one_worker(launcher: int, workers: list[int], number: int) -> None:
    os.kill(workers[-1], number)


def group(launcher: int, workers: list[int], number: int) -> None:
    """As a terminal does on Ctrl-C."""
    os.killpg(launcher, number)


# Launcher, who gets which signal, the launcher's exit code: docs/resume.md has the table.
LAUNCHES = {
    "torchrun-everyone": (TORCHRUN, everyone, signal.SIGTERM, 1),
    "torchrun-one-worker": (TORCHRUN, one_worker, signal.SIGTERM, 0),
    "accelerate-two-ctrl-c": (TWO, group, signal.SIGINT, 1),
    "accelerate-one-group": (ONE, group, signal.SIGTERM, -signal.SIGTERM),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_under_launchers(tmp_path, flags, name):
    launcher, send, number, code = LAUNCHES[name]
    folder, out, err = tmp_path / "run", tmp_path / "out", tmp_path / "err"
    arguments = [*flags, "--max-meta-steps", str(MANY), "--output-dir", str(folder)]
    command = [sys.executable, "-m", *launcher, str(ROOT / "train_meta.py"), *arguments]
    with out.open("w") as to_out, err.open("w") as to_err:
        process = subprocess.Popen(command, stdout=to_out, stderr=to_err, start_new_session=True)
    workers: list[int] = []
    try:
        poll(lambda: begun(folder) or process.poll() is not None)
        assert process.poll() is None, err.read_text()[-6000:]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        workers = [int(pid) for pid in children.split()]
        assert len(workers) == (1 if launcher is ONE else 2)
        send(process.pid, workers, number)
        assert process.wait(timeout=60) == code
        # accelerate's launcher of one process does not wait for it.
        poll(lambda: not any(map(running, workers)))
    finally:
        for pid in filter(running, [process.pid, *workers]):
            os.kill(pid, signal.SIGKILL)
    assert_stopped(folder, out.read_text(), number)


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and b"train_meta.py" in (
        Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def test_all_ranks_stop_if_one_was_asked_to_before_the_first_step():
    """Whether the others hear it, or find that the rank has left."""

    def heard(names):
        return [*names, "SIGTERM"]

    def left(names):
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("connection closed by peer")

    def broken(names):
        raise RuntimeError("connection closed by peer")

    for gather, name in ((heard, "SIGTERM"), (left, "SIGINT")):
        with (
            StopRequest("nothing to save") as stop,
            pytest.raises(Stopped, match=f"{name}: nothing to save"),
        ):
            stop.after_step(gather)
    with StopRequest("nothing to save") as stop, pytest.raises(RuntimeError, match="closed"):
        stop.after_step(broken)
    with StopRequest("nothing to save") as stop:
        stop.after_step(lambda names: [*names, None])
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == "SIGTERM"
