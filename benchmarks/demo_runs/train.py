"""One run of the demo in a process of its own, as a user starts it. Knows no score."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from metatlp.engine.run_log import timed
from metatlp.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FLAGS = ("--selection", "all", "--sampler", "temp", "--tau", "2")
# Set by this script, or without the demo's scores at the end.
OWNED = ("--seed", "--output-dir", "--data", "--data-dir", "--resume", "--dry-run")


def check_passed_on(flags: Sequence[str]) -> None:
    """Raises InputError for a flag that the benchmark needs for itself."""
    for word in flags:
        name = word.partition("=")[0].replace("_", "-")
        if name in OWNED:
            raise InputError(f"{name} cannot be passed on to train_meta.py here")


def train_command(processes: int, flags: Sequence[str]) -> list[str]:
    """What a user types. A flag in `flags` wins over an equal one before it."""
    launch = ["accelerate", "launch"]
    if processes == 2:
        launch += ["--config_file", "accelerate_configs/cpu_2.yaml"]
    return [*launch, "train_meta.py", *DEFAULT_FLAGS, *flags]


def train(processes: int, seed: int, flags: Sequence[str], folder: Path) -> float:
    """Run to the end; what the run prints goes to standard error.

    Args:
        folder: of the run. Unless the flags name a cache, it has one of its own beside it, so that
            the time is that of a machine on which nothing has been made yet.

    Returns:
        Seconds from the start of the launcher to its end.

    Raises:
        InputError: the run did not end well.
    """
    flags = [*flags, "--seed", str(seed), "--output-dir", str(folder)]
    if not any(word.partition("=")[0] in ("--cache-dir", "--cache_dir") for word in flags):
        flags += ["--cache-dir", str(folder.with_name(f"{folder.name}-cache"))]
    _, *words = train_command(processes, flags)
    # The launcher of this Python, whichever is first on the PATH.
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *words]
    elapsed = timed()
    code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
    seconds = elapsed()
    if code:
        raise InputError(f"seed {seed}: the run ended with exit code {code}; see its lines above")
    if not (folder / "models").is_dir():
        raise InputError(f"seed {seed}: the run was stopped before its end; no models in {folder}")
    return seconds
