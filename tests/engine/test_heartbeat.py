"""A rank that is lost is found and named by one of the others, and whatever else happens is not."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metatlp.engine import checkpoint
from metatlp.engine.heartbeat import SILENT, SUSPECT, Heartbeat

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]
QUICK = "tests/engine/workers/heartbeats.py"
STEPS = 8
LOST = "rank {} of 3 lost (no sign of life for "
ENDED = "rank {} of 3 ended before the others, for a reason of its own; "
NO_STORE = "rank 0 of 3 lost (the processes' store has not answered for "
# What three ranks do, their exit codes, and how the one line begins that is told; rank 0 holds the
# store of the processes. No rank that is stopped has a code.
CASES = {
    "killed": ("work die work", (1, -9, 1), LOST.format(1)),
    "killed-0": ("die work work", (-9, 1, 1), NO_STORE),
    "stopped": ("work stop work", (1, None, 1), LOST.format(1)),
    "stopped-0": ("stop work work", (None, 1, 1), NO_STORE),
    "own-error": ("work err work", (1, 1, 1), ENDED.format(1)),
    "own-error-0": ("err work work", (1, 1, 1), ENDED.format(0)),
    "own-refusal": ("work refuse work", (1, 2, 1), ENDED.format(1)),
    "agreed-refusal": ("agree agree agree", (2, 2, 2), None),
    "signalled": ("be_signalled be_signalled be_signalled", (0, 0, 0), None),
    "slow": ("work be_slow work", (0, 0, 0), None),
    "slow-0": ("be_slow work work", (0, 0, 0), None),
    "late": ("work work end_late", (0, 0, 0), None),
    "late-0": ("end_late work work", (0, 0, 0), None),
}


def told(ranks) -> list[str]:
    """The lines about a rank that is not there."""
    return re.findall(
        r"^heartbeats.py: error: (.* (?:lost \(|ended).*)$", "\n".join(r.err for r in ranks), re.M
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def worlds(fork):
    """All cases at once: they wait most of the time."""
    begun = {}
    for name, (parts, _, _) in CASES.items():
        shared = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        begun[name] = [
            fork(parts.split(), QUICK, RANK=str(r), LOCAL_RANK=str(r), **shared) for r in range(3)
        ]
    return begun


@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of_a_world(worlds, name):
    ranks, (parts, codes, line) = worlds[name], CASES[name]
    for rank, code in zip(ranks, codes, strict=True):
        assert code is None or rank.wait(60) == code, rank.err[-3000:]
    lines = told(ranks)
    if line is None:
        assert lines == []
    else:
        assert len(lines) == 1 and lines[0].startswith(line), lines
        assert lines[0].endswith("go on with the same command and --resume auto")
    if None in codes:
        stopped = ranks[codes.index(None)]
        stopped.kill(signal.SIGCONT)
        assert stopped.wait(60) == 1
        # Rank 0 holds the store, and finds the others gone.
        assert told([stopped]) == [] or stopped is ranks[0]
    errors = [rank.err for rank, part in zip(ranks, parts.split(), strict=True) if part == "err"]
    assert all("RuntimeError: of my own, about gloo" in err for err in errors)


def round_of(heartbeats, beats: int) -> list[str]:
    """The lines that ranks tell which beat that often, one after the other; they stop then."""
    said = [each.beat() for _ in range(beats) for each in heartbeats]
    return [line for line in said if line is not None]


def test_beats():
    store = torch.distributed.HashStore()

    def world(name: str) -> list[Heartbeat]:
        return [Heartbeat(torch.distributed.PrefixStore(name, store), r, 4) for r in range(4)]

    # All were suspended together, and one of them longer than the others.
    ranks = world("suspended")
    assert round_of(ranks, 3) == round_of(ranks[:2], SILENT - 1) == round_of(ranks, 3) == []
    # Rank 0 finds two, the others hear that it has been told; a failed collective makes it quicker.
    for failed, beats in ((False, SILENT), (True, SUSPECT)):
        ranks = world(f"lost {failed}")
        round_of(ranks, 1)
        ranks[1].beat(failed)
        assert round_of([ranks[0], ranks[1]], beats) == []
        line, heard = round_of([ranks[0], ranks[1]], 1)
        assert line.startswith(f"ranks 2, 3 of 4 lost (no sign of life for {beats} seconds: ")
        assert heard == ""
    # The others find rank 0.
    ranks = world("zero")
    round_of(ranks, 1)
    assert round_of(ranks[1:], SILENT - 1) == []
    first, *others = round_of(ranks[1:], 1)
    assert first.startswith("rank 0 of 4 lost (") and others == ["", ""]
    # One that has finished is not missed, one that has ended otherwise is not called lost.
    ranks = world("ends")
    round_of(ranks, 1)
    ranks[2].end(finished=True)
    assert ranks[0].beating().keys() == {1, 3}
    assert round_of([ranks[0], ranks[1], ranks[3]], 2 * SILENT) == []
    ranks[3].end(finished=False)
    assert ranks[0].beating().keys() == {1}
    lines = round_of(ranks[:2], SILENT + 1)
    assert lines[0].startswith("rank 3 of 4 ended before the others, for a reason of its own; ")
    assert set(lines[1:]) == {""}


@pytest.fixture(scope="module")
def flags(meta_flags):
    """A TLP group has two ranks."""
    return [
        *(*meta_flags, "--ranks-per-tlp", "2", "--batch-parts", "2", "--reduce", "exact"),
        *("--max-meta-steps", str(STEPS), "--save-every", "2", "--eval-examples", "1"),
        *("--keep", "9", "--resume", "auto"),
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fork, flags):
    """theta of one process that was left alone."""
    output = tmp_path_factory.mktemp("whole")
    alone = ["1" if flags[i - 1] == "--ranks-per-tlp" else word for i, word in enumerate(flags)]
    process = fork([*alone, "--output-dir", str(output)])
    assert process.wait() == 0, process.err[-2000:]
    return theta(output)


def theta(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "checkpoints" / f"step_{STEPS:06d}" / "theta.safetensors")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def wait_for_third_step(output: Path) -> None:
    """A checkpoint has been saved then."""
    metrics, end = output / "metrics.jsonl", time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert time.monotonic() < end, "no metrics"
        time.sleep(0.01)


def test_a_killed_rank_of_two_groups(fork, fork_world, flags, whole, tmp_path):
    """Without a launcher that would end the others, as processes that SLURM has started."""
    shared = {"WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = [*flags, "--output-dir", str(tmp_path)]
    ranks = [
        fork(
            [str(ROOT / "train_meta.py"), *arguments],
            QUICK,
            RANK=str(r),
            LOCAL_RANK=str(r),
            **shared,
        )
        for r in range(4)
    ]
    wait_for_third_step(tmp_path)
    ranks[2].kill(signal.SIGKILL)
    killed = time.monotonic()
    assert [rank.wait(60) for rank in ranks] == [1, 1, -9, 1]
    assert time.monotonic() - killed < 30
    said = "\n".join(rank.err for rank in ranks)
    named = re.findall(r"^train_meta.py: error: (.*)$", said, re.M)
    assert len(named) == 1 and named[0].startswith("rank 2 of 4 lost ("), said
    assert "Traceback" not in said
    saved = [checkpoint.load(path) for path in checkpoint.paths(tmp_path / "checkpoints")]
    assert 2 <= max(each.state["step"] for each in saved) < STEPS
    ranks = fork_world(arguments, 4)
    assert "resumed" in ranks[0].out
    assert same(theta(tmp_path), whole)


def test_torchrun_restarts_by_itself(start, flags, whole, tmp_path):
    arguments = [str(ROOT / "train_meta.py"), *flags, "--output-dir", str(tmp_path)]
    launcher = start(QUICK, arguments, 2, more=["--max-restarts", "1"])
    wait_for_third_step(tmp_path)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 2
    os.kill(int(children[-1]), signal.SIGKILL)
    out, err = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, err[-3000:]
    assert re.search(r"resumed \S+ after [2-7] meta steps", out)
    assert len(re.findall(r"error: rank \d of 2 lost \(", err)) == 1, err[-3000:]
    assert same(theta(tmp_path), whole)
