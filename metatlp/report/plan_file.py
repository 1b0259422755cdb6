"""plan.json: which runs a reproduction has, and which file every number of its tables stands in.

    {"format": 1, "protocol": {...}, "runs": {KEY: {...}}, "cells": [{...}, ...], "rows": {...}}

Knows the plan's form; knows no score.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report.json_file import read_json

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """Where one run's share of a number stands.

    Attributes:
        target: the table or figure. row: of it. tlp: its column; None in table1 and figure2.
        seed: of the training; None where tlp is. candidate: what tells it from others that dev
            chooses among.
        run: key of the run. file: relative to the results' folder. split: that was scored.
        system: name inside a scores.json.
        reference: row that differences are taken from.
    """

    target: str
    row: str
    tlp: TLP | None
    seed: int | None
    candidate: str
    run: str
    file: str
    split: str
    system: str | None = None
    reference: str | None = None

    def __str__(self) -> str:
        chosen = "" if self.candidate == "{}" else f" {self.candidate}"
        return f"{self.target} {self.row} {self.tlp} seed {self.seed}{chosen}"


@dataclass(frozen=True)
class Plan:
    """A plan, with the folder that its files lie in.

    Attributes:
        protocol: name, compare_with_paper, description, and whatever else decides the runs.
        runs: key -> kind, script, command, folder, label, estimate.
        labels: target -> row -> what a reader understands, where the plan says it.
    """

    folder: Path
    protocol: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Any]]
    cells: tuple[Cell, ...]
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def compared(self) -> bool:
        """Whether its numbers may be compared with the paper's."""
        return self.protocol["compare_with_paper"]

    def of(self, target: str, splits: Collection[str] | None = None) -> list[Cell]:
        """The cells of a table or figure."""
        return [
            cell
            for cell in self.cells
            if cell.target == target and (splits is None or cell.split in splits)
        ]


def read_plan(folder: Path) -> Plan:
    """folder/plan.json.

    Raises:
        InputError: it is missing, damaged, or of another format.
    """
    path = folder / "plan.json"
    found = read_json(path, "the plan of the runs")
    if found.get("format") != FORMAT:
        raise InputError(f"{path}: format {found.get('format')}; this version reads {FORMAT}")
    for key, kind in {"protocol": dict, "runs": dict, "cells": list}.items():
        if not isinstance(found.get(key), kind):
            raise InputError(f"{path}: damaged (no {key})")
    protocol, rows = found["protocol"], found.get("rows", {})
    if not isinstance(protocol.get("compare_with_paper"), bool) or "name" not in protocol:
        raise InputError(f"{path}: damaged (protocol needs name and compare_with_paper)")
    cells = tuple(
        _cell(path, number, cell, found["runs"]) for number, cell in enumerate(found["cells"])
    )
    return Plan(folder, protocol, found["runs"], cells, rows)


def _cell(path: Path, number: int, cell: Any, runs: Mapping[str, Any]) -> Cell:
    try:
        tlp = cell.get("tlp")
        found = Cell(
            target=str(cell["target"]),
            row=str(cell["row"]),
            tlp=TLP.parse(tlp) if tlp else None,
            seed=None if cell["seed"] is None else int(cell["seed"]),
            candidate=json.dumps(cell.get("candidate") or {}, sort_keys=True),
            run=str(cell["run"]),
            file=str(cell["file"]),
            split=str(cell["split"]),
            system=cell.get("system"),
            reference=cell.get("reference"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cells[{number}]: damaged ({error})") from error
    if found.run not in runs:
        raise InputError(f"{path}: cells[{number}]: no run {found.run} in the plan")
    return found


def describe_candidate(candidate: str) -> str:
    """`tau 2, lr 1e-4` of a cell's candidate; empty where there was nothing to choose."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(candidate).items())
