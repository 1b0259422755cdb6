"""A small protocol to plan with, and Snakemake."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
ROOT = Path(__file__).resolve().parents[2]

TINY = {
    "description": "A protocol of a test.",
    "budget": "none",
    "tlps": ["pos_en", "pos_es", "ner_en"],
    "external": ["pos_et"],
    "seeds": [0],
    "taus": [1, "inf"],
    "flags": {
        "every": {"demo-scale": 0.0005},
        "training": {"batch-size": 4, "eval-examples": 4},
        "meta": {"meta-batch-size": 2, "inner-steps": 2, "meta-lr": 1, "max-meta-steps": 2},
        "mtl": {"lr": 0.001, "max-updates": 2},
        "baseline": {"lr": 0.001, "updates": 1},
        "finetune": {"lr": 0.001, "updates": 1, "eval-examples": 4},
    },
}


@pytest.fixture
def tiny() -> dict:
    """The content of a protocol, to be changed."""
    return copy.deepcopy(TINY)


@pytest.fixture
def write(tmp_path):
    """Write a protocol's file; its path."""

    def run(content: dict, name: str = "tiny") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return run


@pytest.fixture(scope="session")
def snakemake_command():
    """The command of Snakemake of this Python, which works in `folder`."""

    def make(folder: Path, *words: str) -> list[str]:
        command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "2"]
        command += ["-s", str(ROOT / "workflow" / "Snakefile"), "--directory", str(folder / "work")]
        return [*command, *words]

    return make


@pytest.fixture
def snakemake(tmp_path, snakemake_command):
    """Run the workflow to its end."""

    def run(*words: str) -> subprocess.CompletedProcess:
        command = snakemake_command(tmp_path, *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=280)

    return run
