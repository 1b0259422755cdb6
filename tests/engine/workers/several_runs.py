"""Run train_meta.main several times in this process (or in each rank of a torchrun world).

    several_runs.py FILE    FILE holds a JSON list of argument lists

One launch for many runs: starting processes is what costs time in these tests.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]

spec = importlib.util.spec_from_file_location("train_meta", ROOT / "train_meta.py")
train_meta = importlib.util.module_from_spec(spec)
sys.modules["train_meta"] = train_meta
spec.loader.exec_module(train_meta)

for arguments in json.loads(Path(sys.argv[1]).read_text()):
    assert train_meta.main(arguments) == 0
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
