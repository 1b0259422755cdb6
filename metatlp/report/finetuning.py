"""The results of finetuning as files: results.json, results.csv (one line per number), results.md.

Knows numbers and names; knows no model and no data.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metatlp.engine.run_log import RunLog
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS

Result = Mapping[str, Any]
COLUMNS = ("tlp", "shots", "seed", "lr", "kept", "split", "metric", "value")


def write_results(log: RunLog, arguments: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Write the files, and show the table (main process).

    Args:
        results: result.json of each training, in the order of the call.

    Raises:
        InputError: they cannot be written.
    """
    if not log.placement.is_main:
        return
    log.write_json("results.json", {"arguments": dict(arguments), "results": list(results)})
    lines = table_lines(results)
    try:
        (log.folder / "results.csv").write_text(as_csv(results), encoding="utf-8")
        (log.folder / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output-dir {log.folder}: {error.strerror}") from error
    for line in lines:
        log.say(line)
    log.say(f"results in {log.folder}/results.json, .csv and .md")


def as_csv(results: Iterable[Result]) -> str:
    """Every number; of the rates that were not kept the dev scores."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        head = (result["tlp"], result["shots"], result["seed"])
        for split, metrics in result["scores"].items():
            for metric, value in metrics.items():
                writer.writerow((*head, result["lr"], True, split, metric, value))
        for trial in result["trials"]:
            if trial["lr"] != result["lr"]:
                for metric, value in (trial["dev"] or {}).items():
                    writer.writerow((*head, trial["lr"], False, "dev", metric, value))
    return text.getvalue()


def table_lines(results: Sequence[Result]) -> list[str]:
    """In Markdown: a row per TLP and number of examples, the headline metric in percent."""
    splits = list(dict.fromkeys(split for result in results for split in result["scores"]))
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        rows.setdefault((result["tlp"], result["shots"]), []).append(result)
    head = ["TLP", "examples", "metric", *splits, "kept learning rates"]
    lines = [_row(head), "|" + "---|" * len(head)]
    for (name, shots), own in rows.items():
        metric = TASKS[TLP.parse(name).task].metric
        cells = [
            _mean([result["scores"][split][metric] for result in own if split in result["scores"]])
            for split in splits
        ]
        rates = ", ".join("-" if result["lr"] is None else f"{result['lr']:g}" for result in own)
        lines.append(_row([name, shots, metric, *cells, rates]))
    return lines


def _mean(values: Sequence[float]) -> str:
    """Percent: the mean over seeds, and with two or more its standard deviation."""
    if not values:
        return "-"
    mean = 100 * statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {100 * statistics.stdev(values):.2f} ({len(values)} seeds)"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
