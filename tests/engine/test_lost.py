"""A rank of four is killed in the middle of a run: the others end and say which one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metatlp.engine import checkpoint

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

STEPS = 12


@pytest.fixture(scope="module")
def flags(meta_flags):
    """Two TLP groups of two ranks."""
    return [
        *(*meta_flags, "--ranks-per-tlp", "2", "--batch-parts", "2", "--reduce", "exact"),
        *("--max-meta-steps", str(STEPS), "--save-every", "3", "--eval-examples", "1"),
        *("--keep", "9", "--resume", "auto"),
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fork, meta_flags, flags):
    """Of one process that was left alone."""
    output = tmp_path_factory.mktemp("whole")
    alone = ["1" if flags[i - 1] == "--ranks-per-tlp" else word for i, word in enumerate(flags)]
    process = fork([*alone, "--output-dir", str(output)])
    assert process.wait() == 0, process.err[-2000:]
    return load_file(output / "checkpoints" / f"step_{STEPS:06d}" / "theta.safetensors")


def wait_for_steps(output: Path, number: int) -> None:
    end = time.monotonic() + 200
    metrics = output / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= number):
        assert time.monotonic() < end, "no metrics"
        time.sleep(0.01)


def checkpoints(output: Path) -> list[int]:
    """The steps of all checkpoints, every one of which is whole."""
    found = checkpoint.paths(output / "checkpoints")
    return [checkpoint.load(path).state["step"] for path in found]


def same(output: Path, whole) -> bool:
    theta = load_file(output / "checkpoints" / f"step_{STEPS:06d}" / "theta.safetensors")
    return all(torch.equal(theta[name], whole[name]) for name in whole)


@pytest.mark.parametrize("victim", [0, 2])
def test_the_others_end_and_name_it(fork, fork_world, flags, whole, tmp_path, victim):
    """Without a launcher that would end them, as processes that SLURM has started."""
    output = tmp_path / "run"
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        **{"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"},
        **{"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"},
    }
    ranks = [
        fork([*flags, "--output-dir", str(output)], RANK=str(r), LOCAL_RANK=str(r), **shared)
        for r in range(4)
    ]
    wait_for_steps(output, 4)
    ranks[victim].kill(signal.SIGKILL)
    killed = time.monotonic()
    codes = [rank.wait(60) for rank in ranks]
    assert time.monotonic() - killed < 60
    assert codes[victim] == -9
    # A rank may abort in gloo's own clean-up, once it has said what there was to say.
    assert all(code in (1, -6) for i, code in enumerate(codes) if i != victim)
    said = "\n".join(rank.err for rank in ranks)
    named = re.findall(r"^train_meta.py: error: process (.*) of 4 lost \(", said, re.M)
    assert named == [str(victim)], said
    assert checkpoints(output)[0] == 3 and max(checkpoints(output)) < STEPS
    fork_world([*flags, "--output-dir", str(output)], 4)
    assert same(output, whole)


def test_torchrun_restarts_by_itself(start, flags, whole, tmp_path):
    output = tmp_path / "run"
    launcher = start(
        "train_meta.py", [*flags, "--output-dir", str(output)], 4, more=["--max-restarts", "1"]
    )
    wait_for_steps(output, 4)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True
    )
    workers = [int(line) for line in children.stdout.split()]
    assert len(workers) == 4
    os.kill(workers[-1], signal.SIGKILL)
    out, err = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, err[-3000:]
    assert re.search(r"resumed \S+ after \d+ meta steps", out)
    assert same(output, whole)
