"""accelerate_configs/ start the number of processes they say; the known trap does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[1] / "accelerate_configs"
# Each rank writes what it sees: its output could be interleaved with another's.
PROBE = """\
import json, os, sys
import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=not torch.cuda.is_available())
total = accelerator.reduce(torch.ones(1, device=accelerator.device)).item()
seen = {name: os.environ.get(name) for name in ("WORLD_SIZE", "MASTER_ADDR")}
seen |= {"rank": accelerator.process_index, "world": accelerator.num_processes, "total": total}
open(f"{sys.argv[1]}/rank{accelerator.process_index}.json", "w").write(json.dumps(seen))
"""
LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched(tmp_path, *options):
    """What every rank saw, in rank order."""
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    environment = {k: v for k, v in os.environ.items() if k not in LAUNCHER}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        timeout=200,
    )
    return [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rank*.json"))]


@pytest.mark.parametrize(
    ("name", "extra", "world"),
    [
        ("single_gpu_debug.yaml", [], 1),
        ("cpu_2.yaml", [], 2),
        ("multi_gpu.yaml", ["--num_processes", "3"], 3),
    ],
)
def test_processes_started(tmp_path, name, extra, world):
    seen = launched(tmp_path, "--config_file", str(CONFIGS / name), *extra)
    assert [rank["rank"] for rank in seen] == list(range(world))
    assert all(rank["world"] == world and rank["total"] == world for rank in seen)


def test_the_trap_leaves_a_trace(tmp_path):
    # `--cpu --num_processes 2` starts one process. The start-up check knows it by these two
    # variables; if a later Accelerate changes this, the check must change.
    (seen,) = launched(tmp_path, "--cpu", "--num_processes", "2")
    assert seen["world"] == 1 and seen["WORLD_SIZE"] is None and seen["MASTER_ADDR"]
