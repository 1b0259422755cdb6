"""The other tests of this folder again, with Triton's interpreter in the place of plain torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from metatlp.kernels import implementation

FILES = ("by_hand", "against_float64", "fixed_point", "arguments", "same_bits", "adamw_candidate")


def test_on_the_cpu_plain_torch_does_the_work():
    assert implementation(torch.device("cpu")) == "plain torch"


def test_the_kernels_interpreted():
    """test_same_bits.py asserts that Triton does the work there."""
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not gpu"]
    command += ["-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(folder / f"test_{name}.py") for name in FILES)],
        capture_output=True,
        text=True,
        cwd=folder.parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    last = done.stdout.splitlines()[-1]
    # All of them: nothing skipped, nothing deselected but what is for a CUDA device.
    passed = re.search(r"(\d+) passed", last)
    assert passed and int(passed[1]) > 600, last
    assert "skipped" not in last, last
