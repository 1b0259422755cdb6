"""accelerate_configs/ start the number of processes they say; here those of a machine with GPUs.

Elsewhere, through train_meta.py: single_gpu_debug and cpu_2 in engine/test_signals.py, those of
DeepSpeed and FSDP2 and the known trap, `--cpu --num_processes 2`, in engine/test_launches.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "accelerate_configs"
# Each rank writes what it sees: its output could be interleaved with another's.
PROBE = """\
import json, sys
import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=not torch.cuda.is_available())
total = accelerator.reduce(torch.ones(1, device=accelerator.device)).item()
seen = {"rank": accelerator.process_index, "world": accelerator.num_processes, "total": total}
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


def test_processes_started(tmp_path):
    config = str(CONFIGS / "multi_gpu.yaml")
    seen = launched(tmp_path, "--config_file", config, "--num_processes", "3")
    assert [rank["rank"] for rank in seen] == [0, 1, 2]
    assert all(rank["world"] == 3 and rank["total"] == 3 for rank in seen)
