"""What a reproduction cost, and with what it was made: workflow.json of every run.

Knows the runner's records; starts nothing.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.report.json_file import number_at, read_json
from metatlp.report.numbers import NONE, duration
from metatlp.report.plan_file import Plan

_TAIL = 2**20  # bytes of metrics.jsonl in which the last record is looked for


@dataclass(frozen=True)
class Spent:
    """A run of the plan, as it was carried out.

    Attributes:
        key, label, kind, command: from the plan. estimated: seconds on a GPU, where known.
        seconds: that it took; None where no record is. versions, device, commit: with what.
        distance: |theta - theta_0| at its end, where it is told. chosen: flag -> value that dev
            scores of other runs chose.
    """

    key: str
    label: str
    kind: str
    command: str
    estimated: float | None
    seconds: float | None
    versions: Mapping[str, str]
    device: str
    commit: str
    distance: float | None
    chosen: Mapping[str, Any]


def read_spent(plan: Plan) -> list[Spent]:
    """Of every run, in the plan's order.

    Raises:
        InputError: a record is damaged.
    """
    found = []
    for key, run in plan.runs.items():
        folder = plan.folder / str(run.get("folder", ""))
        path = folder / "workflow.json"
        record = read_json(path, "how a run ended") if path.exists() else None
        estimate = (run.get("estimate") or {}).get("gpu_seconds")
        device = (record or {}).get("device") or ""
        found.append(
            Spent(
                key,
                str(run.get("label") or key),
                str(run.get("kind") or ""),
                shlex.join(map(str, (record or {}).get("command") or run.get("command") or [])),
                None if estimate is None else float(estimate),
                None if record is None else number_at(record, "seconds", path=path),
                (record or {}).get("versions") or {},
                device if isinstance(device, str) else json.dumps(device, sort_keys=True),
                str((record or {}).get("commit") or ""),
                _last_distance(folder / "metrics.jsonl") if record else None,
                (record or {}).get("chosen") or {},
            )
        )
    return found


def compute_view(spent: list[Spent]) -> dict[str, Any]:
    """For the page: a row per kind of run, the total, and what there is to note."""
    kinds = list(dict.fromkeys(run.kind for run in spent))
    rows = [_row(kind, [run for run in spent if run.kind == kind]) for kind in kinds]
    rows.append(_row("all", spent))
    versions = Counter(
        f"{name} {version}" for run in spent for name, version in sorted(run.versions.items())
    )
    notes = [
        f"{len(spent)} runs are planned; {sum(run.seconds is not None for run in spent)} have a "
        "record of their end (workflow.json)",
        "versions: " + (", ".join(versions) or "not recorded"),
        "devices: " + (_counted([run.device for run in spent if run.device]) or "not recorded"),
        "commits: " + (_counted([run.commit for run in spent if run.commit]) or "not recorded"),
    ]
    chosen = Counter(
        f"{run.kind} {name} {value}" for run in spent for name, value in run.chosen.items()
    )
    if chosen:
        how = ", ".join(f"{what} ({number} runs)" for what, number in chosen.items())
        notes.append(f"chosen by the dev scores of other runs: {how}")
    return {
        "head": ["kind", "runs", "done", "time", "estimated GPU time"],
        "rows": rows,
        "notes": notes,
        "commands": [
            [
                run.label,
                run.kind,
                NONE if run.seconds is None else duration(run.seconds),
                NONE if run.distance is None else f"{run.distance:.3g}",
                run.command,
            ]
            for run in spent
        ],
    }


def _row(kind: str, runs: list[Spent]) -> list[str]:
    done = [run.seconds for run in runs if run.seconds is not None]
    estimates = [run.estimated for run in runs if run.estimated is not None]
    estimated = NONE
    if estimates:
        without = len(runs) - len(estimates)
        estimated = duration(sum(estimates)) + (f" (without {without} runs)" if without else "")
    return [kind, f"{len(runs)}", f"{len(done)}", duration(sum(done)), estimated]


def _counted(names: list[str]) -> str:
    return ", ".join(f"{name} ({number} runs)" for name, number in Counter(names).items())


def _last_distance(path: Path) -> float | None:
    """Of the last record that has one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the first of the tail may be cut
        if isinstance(record, dict) and isinstance(record.get("distance"), (int, float)):
            return float(record["distance"])
    return None
