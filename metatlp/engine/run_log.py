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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metatlp.engine.placement import Placement
from metatlp.errors import InputError

_PACKAGES = ("metatlp", "torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")


class RunLog:
    """The run directory's records. Only the main process writes and prints."""

    def __init__(
        self,
        folder: Path,
        placement: Placement,
        unit: str = "meta step",
        prefix: str = "",
        marks: Sequence[str] = ("metrics.jsonl", "checkpoints"),
    ):
        """
        Args:
            unit: what the progress bar counts.
            marks: what a folder that holds a run has, one of these glob patterns.
            prefix: of the names of what a tracker gets, where several runs share one.
        """
        self.prefix, self.marks = prefix, marks
        self.folder, self.placement, self.unit = folder, placement, unit
        self.metrics = folder / "metrics.jsonl"
        # JSON files that wait for `take_up`, where a run goes on; None: none need to wait.
        self._held: dict[str, Any] | None = None
        self._bar: tqdm | None = None
        # What the main process could not write since the others were last told.
        self.failure: str | None = None

    def say(self, text: str) -> None:
        """A line for people, on standard output, around the progress bar."""
        if self.placement.is_main:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def say_here(self, text: str) -> None:
        """A line about this process alone: from any rank, with its number."""
        rank = self.placement.rank
        tqdm.write(f"[rank {rank}] {text}" if rank else text, file=sys.stdout)
        sys.stdout.flush()

    def check_folder(self, resume: str | None) -> None:
        """Every rank looks, before one writes.

        Raises:
            InputError: the folder holds another run than the one to resume.
        """
        checkpoints = self.folder / "checkpoints"
        goes_on = any(any(self.folder.glob(pattern)) for pattern in self.marks)
        own = resume == "auto" or (
            resume is not None and Path(resume).resolve().parent == checkpoints.resolve()
        )
        if goes_on and not own:
            raise InputError(
                f"--output-dir {self.folder} holds a run; go on with --resume auto, or name another"
            )
        self._held = {} if goes_on else None

    def open(self, arguments: dict[str, Any]) -> None:
        """Write args.json: flags, versions, commit and placement, before any model is built.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.placement.is_main:
            self.write_json("args.json", self.start_record(arguments))

    def take_up(self, num_records: int) -> None:
        """Nothing stands against going on: cut metrics.jsonl to `num_records` lines, and write the
        JSON files that were held back.

        Raises:
            InputError: one of them cannot be read or written.
        """
        if self._held is None:
            return
        held, self._held = self._held, None
        for name, value in held.items():
            self.write_json(name, value)
        lines = self._lines()
        if len(lines) < num_records:
            self.say(f"{self.metrics} holds {len(lines)} of the {num_records} lines before this")
        if self.metrics.exists():
            with _writing(self.folder):
                os.truncate(self.metrics, sum(len(line) for line in lines[:num_records]))

    def start_record(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "arguments": arguments,
            "command": sys.argv,
            "versions": {**{name: _version(name) for name in _PACKAGES}, "python": sys.version},
            "commit": code_commit(),
            "machine": platform.platform(),
            "placement": self.placement.describe(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "earlier_starts": self._earlier_starts(),
        }

    def _earlier_starts(self) -> list[dict[str, Any]]:
        """The records of args.json, oldest first, if the run goes on."""
        path = self.folder / "args.json"
        if self._held is None or not path.exists():
            return []
        try:
            last = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}; move it away to go on") from error
        if not isinstance(last, dict):
            raise InputError(f"{path}: a JSON object was expected; move it away to go on")
        return [*last.pop("earlier_starts", []), last]

    def write_json(self, name: str, value: Any) -> None:
        """A JSON file in the run directory (main process). Raises InputError if it cannot be."""
        if not self.placement.is_main:
            return
        if self._held is not None:
            self._held[name] = value
            return
        beside = self.folder / f".{name}.partial"
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(value, indent=1), encoding="utf-8")
            os.replace(beside, self.folder / name)

    def num_records(self) -> int:
        """Lines in metrics.jsonl. Raises InputError if it cannot be read."""
        return len(self._lines())

    def _lines(self) -> list[bytes]:
        """The whole lines: one that a full disk or a power cut left without its end is none."""
        if not self.metrics.exists():
            return []
        with _writing(self.folder):
            lines = self.metrics.read_bytes().splitlines(keepends=True)
        return [line for line in lines if line.endswith(b"\n")]

    def record(self, entry: dict[str, Any]) -> None:
        """Append one JSON object to metrics.jsonl.

        What fails is kept in `failure`: the ranks learn of it when they next meet.
        """
        if not self.placement.is_main:
            return
        with self._noting_failure(), _writing(self.folder), self.metrics.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")

    def track(self, step: int, values: dict[str, float]) -> None:
        """Send numbers to the tracker of --report-to, if there is one; fails as `record` does."""
        with self._noting_failure(), _tracking():
            named = {self.prefix + name: value for name, value in values.items()}
            self.placement.accelerator.log(named, step=step)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self.failure = self.failure or str(error)

    def raise_failure(self) -> None:
        """Within Placement.together(): what `record` or `track` met on the main process."""
        if self.failure is not None:
            raise InputError(self.failure)

    def progress(self, step: int, of: int, loss: float, tokens_per_second: float) -> None:
        """Move the bar to `step` of `of` finished steps (main process only)."""
        if not self.placement.is_main:
            return
        if self._bar is None:
            self._bar = tqdm(total=of, initial=step - 1, unit=self.unit, smoothing=0.1)
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s")

    def close(self) -> None:
        """End the progress bar and the tracker. Raises InputError if the latter fails."""
        with _tracking():
            for tracker in self.placement.accelerator.trackers:
                tracker.finish()
        self.close_bar()

    def close_bar(self) -> None:
        """End the progress bar."""
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
    with _tracking():
        placement.accelerator.init_trackers("metatlp", config=flat)


@contextmanager
def _tracking() -> Iterator[None]:
    """Make whatever a tracker raises an InputError."""
    try:
        yield
    except Exception as error:
        # Each tracker has errors of its own kinds, and none of them is ours to mend.
        raise InputError(f"--report-to: {type(error).__name__}: {error}") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"--output-dir {folder}: {error.strerror}") from error


def timed() -> Callable[[], float]:
    """Start a clock; the returned function gives the seconds since."""
    begun = time.perf_counter()
    return lambda: time.perf_counter() - begun


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_commit() -> str | None:
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
