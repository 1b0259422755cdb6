"""The paper's own numbers, from CSV files that the user has: table1.csv to table4.csv.

Columns: task, lang, and train_size (table 1), or selection, method, sampler, tau (table 4), kind
and value. A `difference` is from the best baseline of its column.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from metatlp.errors import InputError
from metatlp.grid import TLP

Numbers = Mapping[tuple[str, TLP], float]  # row, column -> percent, or examples in table 1


def paper_numbers(folder: Path, table: str) -> dict[tuple[str, TLP], float]:
    """The scores of table2 to table4 by row and column; those of table1 by the row `train`.

    Raises:
        InputError: the file is missing, or a line of it cannot be read.
    """
    found: dict[tuple[str, TLP], float] = {}
    differences: dict[tuple[str, TLP], float] = {}
    for number, line in enumerate(_lines(folder / f"{table}.csv"), 2):
        try:
            tlp = TLP.parse(f"{line['task']}_{line['lang']}")
            if table == "table1":
                found["train", tlp] = float(line["train_size"])
                continue
            into = differences if line["kind"] == "difference" else found
            into[row_of(table, line), tlp] = float(line["value"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder}/{table}.csv:{number}: {error}") from error
    best: dict[TLP, float] = {}
    for (_, tlp), score in found.items():
        best[tlp] = max(best.get(tlp, score), score)
    for (row, tlp), less in differences.items():
        if tlp not in best:
            raise InputError(f"{folder}/{table}.csv: {tlp} has a difference and no baseline")
        found[row, tlp] = best[tlp] + less
    return found


def row_of(table: str, line: Mapping[str, str]) -> str:
    """The row's name in the plan."""
    selection, method, sampler = line["selection"], line["method"], line["sampler"]
    if method == "baseline":
        return "baseline"
    if method == "mtl":
        return f"mtl-{selection}"
    if table == "table4":
        return f"temp-{line['tau']}-{selection}"
    if sampler in ("mdds-lang", "mdds-task"):
        return sampler
    return f"meta-{sampler}-{selection}"


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--paper: {path}: {error}") from error
