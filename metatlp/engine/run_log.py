"""What a run writes for people and programs: args.json, metrics.jsonl, progress, trackers.

Knows files and the terminal; knows no model.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metatlp.engine.placement import Placement
from metatlp.errors import InputError

_PACKAGES = ("metatlp", "torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")


class RunLog:
    """The run directory's records. Only the main process writes and prints."""

    def __init__(self, folder: Path, placement: Placement, num_steps: int = 0):
        self.folder, self.placement = folder, placement
        self.metrics = folder / "metrics.jsonl"
        self._bar: tqdm | None = None
        self._num_steps = num_steps

    def say(self, text: str) -> None:
        """A line for people, on standard output, around the progress bar."""
        if self.placement.is_main:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def write_arguments(self, arguments: dict[str, Any]) -> None:
        """args.json: the resolved flags, versions, commit and placement, before any model is built.

        Raises:
            InputError: the folder cannot be written.
        """
        if not self.placement.is_main:
            return
        record = {
            "arguments": arguments,
            "command": sys.argv,
            "versions": {**{name: _version(name) for name in _PACKAGES}, "python": sys.version},
            "commit": _commit(),
            "machine": platform.platform(),
            "placement": self.placement.describe(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "args.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--output-dir {self.folder}: {error.strerror}") from error

    def keep_metrics(self, before_step: int) -> None:
        """Drop the records of steps that a resumed run will do again (and of a torn last line)."""
        if not (self.placement.is_main and self.metrics.exists()):
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            record = _parsed(line)
            if record is not None and record["step"] < before_step:
                kept.append(line + "\n")
        beside = self.metrics.with_suffix(".partial")
        beside.write_text("".join(kept), encoding="utf-8")
        os.replace(beside, self.metrics)

    def record(self, entry: dict[str, Any]) -> None:
        """Append one JSON object to metrics.jsonl."""
        if self.placement.is_main:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def track(self, step: int, values: dict[str, float]) -> None:
        """Send numbers to the tracker of --report-to, if there is one."""
        self.placement.accelerator.log(values, step=step)

    def progress(self, step: int, loss: float, tokens_per_second: float) -> None:
        """Move the bar to `step` finished meta steps (main process only)."""
        if not self.placement.is_main:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=self._num_steps, initial=step - 1, unit="step", desc="meta", smoothing=0.1
            )
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def start_tracker(placement: Placement, report_to: str, arguments: dict[str, Any]) -> None:
    """Start the tracker of --report-to through Accelerate.

    Raises:
        InputError: its package is missing or it cannot start.
    """
    if report_to == "none":
        return
    flat = {k: v for k, v in arguments.items() if isinstance(v, (int, float, str, bool))}
    try:
        placement.accelerator.init_trackers("metatlp", config=flat)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"--report-to {report_to}: {error}") from error


def timed() -> Callable[[], float]:
    """Start a clock; the returned function gives the seconds since."""
    begun = time.perf_counter()
    return lambda: time.perf_counter() - begun


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
