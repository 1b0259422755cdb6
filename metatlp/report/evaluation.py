"""What an evaluation reports: tables on the screen, and scores.json, scores.md and scores.csv.

Knows what was scored and which systems were; computes no score.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metatlp.engine.scoring.jobs import Job
from metatlp.engine.scoring.scoring import Scored
from metatlp.engine.scoring.systems import TRAINED, System
from metatlp.engine.scoring.terms_file import write_terms
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report.scores import (
    MARKS,
    NO_LABELS,
    Comparison,
    estimate,
    markdown_lines,
    screen_lines,
)
from metatlp.tasks import TASKS

FILES = ("scores.csv", "scores.md", "scores.json")  # the last one says that all are there
_CSV = ("system", "task", "lang", "split", "metric", "value", "low", "high", "examples", "seen")


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        systems: in the order of --model; differences are to the first.
        scored: every job, and what came of it.
        confidence: of the intervals.
        notes: what a reader has to know: what was left out, or cut.
        record: where and with what it was made, JSON-able.
    """

    systems: Sequence[System]
    scored: Mapping[Job, Scored]
    confidence: float
    notes: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def comparisons(self) -> list[Comparison]:
        """One per split."""
        metrics = {code: task.metric for code, task in TASKS.items()}
        return [
            Comparison.of(
                split,
                metrics,
                {system.name: self._headlines(system, split) for system in self.systems},
                self.confidence,
                {system.name: self._marks(system) for system in self.systems},
                self._unlabelled(split),
            )
            for split in dict.fromkeys(job.split for job in self.scored)
        ]

    def _headlines(self, system: System, split: str) -> dict[TLP, Any]:
        return {
            job.tlp: scored.metrics[TASKS[job.tlp.task].metric]
            for job, scored in self.scored.items()
            if (job.system, job.split) == (system.name, split) and scored.metrics
        }

    def _unlabelled(self, split: str) -> set[TLP]:
        there = ((job, scored) for job, scored in self.scored.items() if job.split == split)
        return {job.tlp for job, scored in there if not scored.metrics}

    def _marks(self, system: System) -> dict[str, str]:
        own = {job.tlp for job in self.scored if job.system == system.name}
        return {str(tlp): mark_of(system, tlp) for tlp in own}

    def screen(self) -> list[str]:
        """The tables and what has to be known of them."""
        lines = []
        for comparison in self.comparisons():
            lines += [f"== {comparison.split} ==", *screen_lines(comparison), ""]
        return [*lines, *self.footnotes()]

    def footnotes(self) -> list[str]:
        """What was left out, what the marks mean, and how to read the tables."""
        comparisons = self.comparisons()
        marked = {mark for comparison in comparisons for mark in _marks_in(comparison)}
        lines = [*self.notes, *(_unlabelled_line(each) for each in comparisons if each.unlabelled)]
        lines += [f"{mark}: {MARKS[mark]}" for mark in MARKS if mark in marked]
        lines += [line for system in self.systems for line in self._seen_lines(system)]
        if len(self.systems) > 1:
            lines.append(
                f"differences: paired bootstrap over examples, against {self.systems[0].name}; "
                f"*: 0 is outside the {self.confidence:.0%} interval"
            )
        return lines

    def _seen_lines(self, system: System) -> Iterator[str]:
        """Which data of the languages scored the system has seen, if any."""
        uses: dict[str, list[str]] = {}
        for job in self.scored:
            if job.system == system.name:
                for use, found in (system.seen(job.tlp) or {}).items():
                    names = uses.setdefault(use, [])
                    names += [name for name in found if name not in names]
        for use, names in uses.items():
            did = "was trained on" if use == TRAINED else f"had its {use} chosen by"
            yield f"{system.name} {did} {', '.join(names)}"

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            **self.record,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "systems": {system.name: system.as_json() for system in self.systems},
            "scores": {system.name: self._scores(system) for system in self.systems},
            "tables": {c.split: c.as_json() for c in self.comparisons()},
        }

    def _scores(self, system: System) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for job, scored in self.scored.items():
            if job.system == system.name:
                found.setdefault(job.split, {})[str(job.tlp)] = {
                    "examples": scored.examples,
                    "labelled": bool(scored.metrics),
                    "seen": system.seen(job.tlp),
                    "metrics": {
                        name: estimate(sample, self.confidence)
                        for name, sample in scored.metrics.items()
                    },
                }
        return found

    def markdown(self) -> str:
        """The page: tables with every interval, and the notes."""
        lines = ["# Scores", ""]
        if "command" in self.record:
            lines += [f"Command: `{' '.join(self.record['command'])}`", ""]
        lines += [f"In brackets: {self.confidence:.0%} intervals, bootstrap over examples.", ""]
        for comparison in self.comparisons():
            lines += [f"## {comparison.split}", "", *markdown_lines(comparison)]
        return "\n".join([*lines, *(f"- {line}" for line in self.footnotes())]).rstrip() + "\n"

    def csv(self) -> str:
        """A line for each metric of each job; one without numbers where there are no labels."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_CSV)
        by_name = {system.name: system for system in self.systems}
        for job, scored in self.scored.items():
            where = (job.system, job.tlp.task, job.tlp.lang, job.split)
            about = (scored.examples, mark_of(by_name[job.system], job.tlp))
            for name, sample in scored.metrics.items():
                numbers = estimate(sample, self.confidence).values()
                writer.writerow([*where, name, *(f"{n:.6f}" for n in numbers), *about])
            if not scored.metrics:
                writer.writerow([*where, NO_LABELS, "", "", "", *about])
        return text.getvalue()

    def terms(self) -> dict[str, np.ndarray]:
        """SYSTEM/TLP/SPLIT/METRIC -> (N, L, 2)."""
        return {
            f"{job.system}/{job.tlp}/{job.split}/{name}": part
            for job, scored in self.scored.items()
            for name, part in scored.terms.items()
        }

    def write(self, folder: Path) -> None:
        """The files and terms.npz; scores.json comes last.

        Raises:
            InputError: the folder cannot be written.
        """
        record = json.dumps(self.as_json(), indent=1, ensure_ascii=False)
        try:
            write_terms(folder, self.terms())
            for name, text in zip(FILES, (self.csv(), self.markdown(), record), strict=True):
                beside = folder / f".{name}.partial"
                beside.write_text(text, encoding="utf-8")
                os.replace(beside, folder / name)
        except OSError as error:
            raise InputError(f"--output-dir {folder}: {error.strerror or error}") from error


def check_output(folder: Path) -> None:
    """Before hours of work. Raises InputError: it holds scores, or cannot be made."""
    if (folder / FILES[-1]).exists():
        raise InputError(f"--output-dir {folder} holds {FILES[-1]} already; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output-dir {folder}: {error.strerror or error}") from error


def mark_of(system: System, tlp: TLP) -> str:
    """A key of MARKS; empty for a language that the system has not seen."""
    seen = system.seen(tlp)
    if seen is None:
        return "?"
    if not seen:
        return ""
    return "t" if any(str(tlp) in names for names in seen.values()) else "l"


def _unlabelled_line(comparison: Comparison) -> str:
    names = ", ".join(map(str, comparison.unlabelled))
    done = "predicted, not scored, and left out of the means"
    return f"{NO_LABELS} in the {comparison.split} files of {names}: {done}"


def _marks_in(comparison: Comparison) -> set[str]:
    return {mark for marks in comparison.marks.values() for mark in marks.values() if mark}
