"""The plan of a protocol: its runs and its cells, as plan.json has them.

Deterministic: the same protocol and settings give the same bytes.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.reproduction.ablations import AblationCells
from metatlp.reproduction.estimate import Estimator
from metatlp.reproduction.protocol import Protocol
from metatlp.reproduction.protocol_file import load_protocol
from metatlp.reproduction.runs import KINDS, RESULTS, Run
from metatlp.reproduction.systems import Systems
from metatlp.reproduction.tables import CLAIMED, TARGETS, Cell, Tables, runs_of

FORMAT = 1
ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = ROOT / "workflow" / "protocols"


@dataclass(frozen=True)
class Plan:
    """Attributes:
    runs: key -> run; those that a run starts from come before it.
    rows: target -> row -> what it is called.
    """

    protocol: Protocol
    runs: Mapping[str, Run]
    cells: tuple[Cell, ...]
    rows: Mapping[str, Mapping[str, str]]
    estimator: Estimator

    @classmethod
    def of(cls, protocol: Protocol, estimator: Estimator) -> Plan:
        tables = Tables(Systems(protocol))
        cells = tables.cells()
        if protocol.ablations:
            for seed in protocol.ablations.seeds:
                cells += AblationCells(tables, protocol.ablations, seed).cells()
        runs = {run.key: run for run in runs_of(cells)}
        folders = Counter(run.folder for run in runs.values())
        assert max(folders.values()) == 1, "two runs with one folder"
        return cls(protocol, runs, tuple(cells), tables.rows, estimator)

    def runs_for(self, target: str) -> list[Run]:
        """All that a target, or `all`, needs."""
        if target == "all":
            return list(self.runs.values())
        wanted = CLAIMED if target == "claims" else (target,)
        return runs_of(cell for cell in self.cells if cell.target in wanted)

    def targets(self) -> list[str]:
        """Those that the protocol has cells of."""
        found = {cell.target for cell in self.cells}
        return [t for t in TARGETS if t in found or t == "claims"]

    def as_json(self, out: Path) -> dict[str, Any]:
        """plan.json. out: OUT, as commands name it."""
        return {
            "format": FORMAT,
            "protocol": self.protocol.as_json(),
            "runs": self._runs(out),
            "cells": [cell.as_json() for cell in self.cells],
            "rows": self.rows,
        }

    def _runs(self, out: Path) -> dict[str, Any]:
        read = [(flag, each.run.key) for run in self.runs.values() for flag, each in run.models()]
        used, matched = {key for _, key in read}, {k for flag, k in read if flag == "match-updates"}

        def dropped(run: Run) -> list[str]:
            if self.protocol.keep == "all":
                return []
            tuned = run.kind in ("baseline", "finetune") and run.key not in used
            checkpoints = [] if run.key in matched else ["checkpoints"]
            return checkpoints + (["*/seed_*/models"] if tuned else [])

        return {key: self._run(run, out) | {"drop": dropped(run)} for key, run in self.runs.items()}

    def _run(self, run: Run, out: Path) -> dict[str, Any]:
        return {
            "kind": run.kind,
            "script": run.script,
            "flags": run.words(out),
            "command": run.command(self.protocol.launch, out),
            "folder": run.folder,
            "result": RESULTS[run.script],
            "needs": [need.key for need in run.needs],
            "choices": run.choices,
            "label": run.label,
            "estimate": self.estimator.of(run),
        }

    def write(self, out: Path) -> Path:
        """Write OUT/plan.json, unless it is there with the same content.

        Raises:
            InputError: it cannot be written.
        """
        path = out / "plan.json"
        text = json.dumps(self.as_json(shown(out)), indent=1, sort_keys=True) + "\n"
        try:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                out.mkdir(parents=True, exist_ok=True)
                beside = out / ".plan.json.partial"
                beside.write_text(text, encoding="utf-8")
                os.replace(beside, path)
        except OSError as error:
            raise InputError(f"output {out}: {error.strerror}") from error
        return path

    def summary(self, out: Path, target: str = "all") -> list[str]:
        """Two lines: how many runs of which kind a target needs, and what is left costs."""
        runs = self.runs_for(target)
        done = [run for run in runs if (out / run.folder / "workflow.json").exists()]
        left = [run for run in runs if run not in done]
        counts = Counter(run.kind for run in runs)
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        return [
            f"{self.protocol.name}, {target}: {len(runs)} runs ({kinds}); "
            f"{len(done)} done, {len(left)} to do",
            self.estimator.line(left, self.protocol),
        ]


def shown(path: Path) -> Path:
    """A path as commands name it, which are started from the project's folder."""
    whole = path.resolve()
    return whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole


def find_protocol(name: str) -> Path:
    """A YAML file, or one of workflow/protocols by its name.

    Raises:
        InputError: there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    if not (PROTOCOLS / f"{name}.yaml").exists():
        known = ", ".join(sorted(each.stem for each in PROTOCOLS.glob("*.yaml")))
        raise InputError(f"--config protocol={name}: name a YAML file, or one of {known}")
    return PROTOCOLS / f"{name}.yaml"


def make_plan(name: str, settings: Mapping[str, str]) -> Plan:
    """The plan of a protocol.

    Args:
        settings: as `load_protocol`; paths among them are made whole, or relative to the project.

    Raises:
        InputError: with the file and the key.
    """
    placed = {key: _placed(value) for key, value in settings.items()}
    protocol = load_protocol(find_protocol(name), placed)
    return Plan.of(protocol, Estimator.load(protocol))


def _placed(value: Any) -> str:
    text = str(value)
    return str(shown(Path(text))) if "/" in text and Path(text).exists() else text
