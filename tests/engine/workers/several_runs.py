"""Run train_meta.main several times in this process (or in each rank of a world).

several_runs.py FILE    FILE holds a JSON list of argument lists
"""

import json
import runpy
import sys
from pathlib import Path

import torch

main = runpy.run_path(str(Path(__file__).resolve().parents[3] / "train_meta.py"))["main"]

for arguments in json.loads(Path(sys.argv[1]).read_text()):
    assert main(arguments) == 0
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
