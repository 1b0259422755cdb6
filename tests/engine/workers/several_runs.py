"""Run a script's main several times in this process (or in each rank of a world).

several_runs.py FILE    FILE holds a JSON list of runs: an argument list of train_meta.py, or
                        {"arguments": [...], "environment": {...}, "script": NAME} with what
                        accelerate launch would have set
"""

import json
import os
import runpy
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

ROOT = Path(__file__).resolve().parents[3]

mains = {}
for run in json.loads(Path(sys.argv[1]).read_text()):
    if isinstance(run, list):
        run = {"arguments": run}
    script = run.get("script", "train_meta.py")
    if script not in mains:
        mains[script] = runpy.run_path(str(ROOT / script))["main"]
    before = dict(os.environ)
    os.environ.update(run.get("environment", {}))
    # Otherwise Accelerate would keep the precision of the first run.
    AcceleratorState._reset_state()
    assert mains[script](run["arguments"]) == 0
    os.environ.clear()
    os.environ.update(before)
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
