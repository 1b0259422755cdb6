"""The learning rate that dev chooses: of the runs that try some, the one with the best mean score.

Reads metrics.jsonl of finished runs; knows no table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError

# The headline metric of a task, as in metatlp.tasks, which takes seconds to import.
HEADLINE = {"qa": "f1", "nli": "accuracy", "pa": "accuracy", "pos": "accuracy", "ner": "accuracy"}


def choose(
    out: Path, choices: Mapping[str, Mapping[str, Sequence[str]]], runs: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    """Choose for each flag.

    Args:
        choices: flag -> candidate -> keys of runs.
        runs: of plan.json.

    Returns:
        Flag -> candidate; of equals the first. Flag -> candidate -> mean dev score (fraction).
    """
    scores = {
        flag: {c: _mean([dev_score(out / runs[key]["folder"]) for key in keys])
               for c, keys in candidates.items()}
        for flag, candidates in choices.items()
    }  # fmt: skip
    return {flag: max(each, key=each.__getitem__) for flag, each in scores.items()}, scores


def dev_score(folder: Path) -> float:
    """The mean over the TLPs of the headline metric, as the run's last evaluation has it.

    Raises:
        InputError: it has none.
    """
    path = folder / "metrics.jsonl"
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    found = [entry["dev"] for entry in entries if "dev" in entry]
    if not found or not found[-1]:
        raise InputError(f"{path}: no dev scores to choose a learning rate by")
    return _mean([s[HEADLINE[tlp.partition("_")[0]]] for tlp, s in found[-1].items()])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
