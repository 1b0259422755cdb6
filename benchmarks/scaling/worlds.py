"""Which worlds are measured, and how each is started: as a user starts it, from an accelerate YAML.

Every world has processes of its own, so that peak memory is that of one placement. Knows launch
configurations; knows no model.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metatlp.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    "replicated": "cpu_2",
    "zero1": "cpu_2_deepspeed_zero1",
    "zero2": "cpu_2_deepspeed_zero2",
    "zero3": "cpu_2_deepspeed_zero3",
    "fsdp2": "cpu_2_fsdp2",
}
_ALONE = "single_gpu_debug"  # cpu_2.yaml with one process is refused as a likely mistake
_TITLES = {"replicated": "replicated", "fsdp2": "FSDP2"}
_SHAPES = {"replicated": ("1x1", "2x1", "4x1", "1x2", "2x2")}
_SHARDED = ("1x1", "1x2", "2x2")
_TAIL = 30  # lines of a failed world that are shown


@dataclass(frozen=True)
class World:
    """A placement on `groups` (T) TLP groups of `ranks_per_tlp` (R) processes each."""

    placement: str
    groups: int
    ranks_per_tlp: int

    def __str__(self) -> str:
        return f"{self.placement}:{self.shape}"

    @property
    def shape(self) -> str:
        return f"{self.groups}x{self.ranks_per_tlp}"

    @property
    def title(self) -> str:
        return _TITLES.get(self.placement, self.placement.replace("zero", "ZeRO "))

    @property
    def num_processes(self) -> int:
        return self.groups * self.ranks_per_tlp

    @classmethod
    def parse(cls, text: str) -> World:
        """Read `zero1:2x2`. Raises InputError for another form."""
        match = re.fullmatch(r"(\w+):([1-9]\d*)x([1-9]\d*)", text.strip())
        if match is None or match[1] not in CONFIGS:
            raise InputError(
                f"--worlds: cannot read '{text}'; write PLACEMENT:TxR, e.g. zero1:2x2, with "
                f"PLACEMENT one of {', '.join(CONFIGS)}"
            )
        return cls(match[1], int(match[2]), int(match[3]))


def all_worlds() -> list[World]:
    """Up to four processes: replicated in every shape, sharded with one TLP group and with two."""
    return [
        World.parse(f"{placement}:{shape}")
        for placement in CONFIGS
        for shape in _SHAPES.get(placement, _SHARDED)
    ]


def chosen_worlds(text: str) -> list[World]:
    """Apply `--worlds`; without DeepSpeed, `all` leaves its placements out.

    Raises:
        InputError: a world that cannot be read, or started.
    """
    there = find_spec("deepspeed") is not None
    if text == "all":
        return [world for world in all_worlds() if there or "zero" not in world.placement]
    found = [World.parse(each) for each in text.split(",")]
    if not there and any("zero" in world.placement for world in found):
        raise InputError("DeepSpeed is not installed; pip install 'metatlp[deepspeed]' brings it")
    return found


def run_world(
    world: World, script: str, argv: Sequence[str], part: str, file: Path, threads: int
) -> dict[str, Any]:
    """Run the script on a world's processes; returns what its first rank wrote.

    Args:
        part: value of the script's flag --part. file: which the first rank writes.
        threads: of each process.

    Raises:
        InputError: nothing was written; with the end of what the processes said.
    """
    alone = str(world) == "replicated:1x1"
    config = ROOT / "accelerate_configs" / f"{_ALONE if alone else CONFIGS[world.placement]}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--num_processes", str(world.num_processes), script, *argv, "--part", part]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # Have glibc give freed tensors back at once, or the resident set shows what was once needed.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", "131072")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    # Judged by what it wrote: a process of gloo can abort at exit, when all is done.
    if not file.exists():
        tail = "\n".join(done.stdout.splitlines()[-_TAIL:])
        raise InputError(f"{world}: wrote nothing, exit code {done.returncode}\n{tail}")
    return json.loads(file.read_text())
