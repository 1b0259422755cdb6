"""Run train_meta.main several times in this process (or in each rank of a world).

several_runs.py FILE    FILE holds a JSON list of runs: an argument list, or {"arguments": [...],
                        "environment": {...}} with what accelerate launch would have set
"""

import json
import os
import runpy
import sys
from pathlib import Path

import torch

main = runpy.run_path(str(Path(__file__).resolve().parents[3] / "train_meta.py"))["main"]

for run in json.loads(Path(sys.argv[1]).read_text()):
    if isinstance(run, list):
        run = {"arguments": run, "environment": {}}
    before = dict(os.environ)
    os.environ.update(run["environment"])
    assert main(run["arguments"]) == 0
    os.environ.clear()
    os.environ.update(before)
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
