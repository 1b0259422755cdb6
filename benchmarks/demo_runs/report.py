"""The arithmetic over seeds and the tables. Knows no model and no file of a run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_step.report import table

from metatlp.data.demo.languages import FAR, NEAR, OTHER_SCRIPT
from metatlp.errors import InputError
from metatlp.grid import TASK_CODES, TLP
from metatlp.tasks import TASKS

GROUPS = {"near": NEAR, "other script": OTHER_SCRIPT, "far": FAR}
DIFFERENCE = "near - far"
EMPTY = "-"

# TLP -> percent of its task's metric, of one seed.
Scores = Mapping[TLP, float]


def mean(values: Iterable[float]) -> float | None:
    """None of no values."""
    kept = list(values)
    return statistics.fmean(kept) if kept else None


def less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation (n - 1) over seeds; None where there are too few."""
    kept = [value for value in values if value is not None]
    sd = statistics.stdev(kept) if len(kept) > 1 else None
    return {"mean": mean(kept), "sd": sd}


def task_mean(scores: Scores, task: str, langs: Iterable[str]) -> float | None:
    """Mean over those of the languages that are scored."""
    return mean(scores[TLP(task, lang)] for lang in langs if TLP(task, lang) in scores)


def trained_summary(
    trained: Sequence[TLP], dev: Sequence[Scores], test: Sequence[Scores], chance: Scores
) -> dict[str, dict[str, Any]]:
    """Task -> chance on the test splits, and dev and test over seeds; means over its TLPs."""
    summary = {}
    for task in _tasks(trained):
        langs = [tlp.lang for tlp in trained if tlp.task == task]
        summary[task] = {
            "languages": langs,
            "chance": task_mean(chance, task, langs),
            "dev": spread([task_mean(scores, task, langs) for scores in dev]),
            "test": spread([task_mean(scores, task, langs) for scores in test]),
        }
    return summary


def zero_shot_summary(
    trained: Sequence[TLP], test: Sequence[Scores], chance: Scores
) -> dict[str, dict[str, Any]]:
    """Task, or `all` for the mean of the tasks -> each group and near minus far, over seeds.

    The difference is taken within a seed; `over chance` is it less the difference of chance.
    """
    tasks = _tasks(trained)
    seen = {tlp.lang for tlp in trained}
    groups = {name: [lang for lang in g if lang not in seen] for name, g in GROUPS.items()}
    summary: dict[str, dict[str, Any]] = {}
    for row in [*tasks, "all"]:
        own = tasks if row == "all" else [row]
        by_seed = [_groups(scores, own, groups) for scores in test]
        guessed = _groups(chance, own, groups)
        summary[row] = {
            name: {"chance": guessed[name], **spread([each[name] for each in by_seed])}
            for name in guessed
        }
        differences = [each[DIFFERENCE] for each in by_seed]
        summary[row]["over chance"] = spread([less(d, guessed[DIFFERENCE]) for d in differences])
    return summary


def language_summary(test: Sequence[Scores]) -> dict[str, float]:
    """TLP -> mean over seeds."""
    return {str(tlp): statistics.fmean(scores[tlp] for scores in test) for tlp in test[0]}


def _groups(
    scores: Scores, tasks: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, float | None]:
    """Group -> mean over tasks of the mean over its languages; and near minus far."""
    found: dict[str, float | None] = {}
    for name, langs in groups.items():
        means = [task_mean(scores, task, langs) for task in tasks]
        found[name] = mean(value for value in means if value is not None)
    return {**found, DIFFERENCE: less(found["near"], found["far"])}


def _tasks(tlps: Sequence[TLP]) -> list[str]:
    return [task for task in TASK_CODES if any(tlp.task == task for tlp in tlps)]


def number(value: float | None, form: str = ".1f") -> str:
    return EMPTY if value is None else format(value, form)


def with_sd(entry: Mapping[str, float | None], form: str = ".1f") -> str:
    """`61.2 ± 0.8`; without the sd of a single seed."""
    sd = entry["sd"]
    return number(entry["mean"], form) + ("" if sd is None else f" ± {sd:.1f}")


def trained_table(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            task.upper(),
            TASKS[task].metric,
            number(entry["chance"]),
            with_sd(entry["dev"]),
            with_sd(entry["test"]),
            " ".join(entry["languages"]),
        ]
        for task, entry in summary.items()
    ]
    return table(["task", "metric", "chance", "dev", "test", "languages"], rows)


def zero_shot_table(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Two rows per task: the scores, and chance in the same languages."""
    forms = {**dict.fromkeys(GROUPS, ".1f"), DIFFERENCE: "+.1f"}
    rows = []
    for task, entry in summary.items():
        label = "mean of tasks" if task == "all" else task.upper()
        scores = [with_sd(entry[name], form) for name, form in forms.items()]
        rows.append([label, *scores, with_sd(entry["over chance"], "+.1f")])
        guessed = [number(entry[name]["chance"], form) for name, form in forms.items()]
        rows.append(["- chance", *guessed, ""])
    return table(["task", *forms, "over chance"], rows)


def language_table(summary: Mapping[str, float], trained: Sequence[str]) -> list[str]:
    """A row per language: those trained on, then the groups."""
    tlps = [TLP.parse(name) for name in summary]
    tasks = _tasks(tlps)
    groups = {"trained": trained, **GROUPS}
    rows, shown = [], set()
    for group, langs in groups.items():
        for lang in langs:
            if lang in shown:
                continue
            shown.add(lang)
            cells = [number(summary.get(str(TLP(task, lang)))) for task in tasks]
            rows.append([lang, group, *cells])
    return table(["language", "group", *(task.upper() for task in tasks)], rows)


def seed_table(seeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        [seed, f"{one['run_seconds']:.0f}", str(one["meta_steps"]), f"{one['scoring_seconds']:.0f}"]
        for seed, one in seeds.items()
    ]
    return table(["seed", "whole run, s", "meta steps", "scoring, s (not in the run)"], rows)


def markdown(results: Mapping[str, Any]) -> str:
    """The results file. Scores are percent, ± is the sample standard deviation over seeds."""
    placed = results["placement"]
    lines = [
        f"# Demo scores, {results['machine']['device']}",
        "",
        f"Command: `{results['command']}`",
        "",
        f"- runs: `{results['train_command']} --seed SEED`",
        f"- grid: {results['grid']}",
        f"- commit: {results['commit']}",
        *(f"- {key}: {value}" for key, value in results["machine"].items() if key != "threads"),
        f"- processes: {placed['processes']}, threads of each: {placed['threads_per_process']}",
        f"- percent; ± is the sample standard deviation over seeds; {results['test_examples']} "
        "test examples per TLP at least",
        "- chance: a random label (NLI, PA), the most frequent tag (POS, NER), a random span as "
        "long as the answer (QA); `over chance` is near - far less that of chance",
        "- seeds change the run (draws, order, heads), not the languages nor the encoder",
    ]
    for title, body in sections(results):
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def sections(results: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Title and lines of each table."""
    trained = results["trained"]
    langs = list(dict.fromkeys(TLP.parse(name).lang for name in trained))
    return [
        ("Time", seed_table(results["seeds"])),
        ("Languages that were trained on: mean over them", trained_table(results["tasks"])),
        ("Languages never trained on: mean of test", zero_shot_table(results["zero_shot"])),
        ("Test scores by language, mean over seeds", language_table(results["languages"], langs)),
    ]


def check_output(output: str | None) -> Path | None:
    """Make its folder. Raises InputError before hours of work, not after."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix != ".md":
        raise InputError(f"--output {output}: must end in .md; the JSON file is put beside it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}") from error
    return path


def save(results: Mapping[str, Any], path: Path | None) -> None:
    """After every seed, so that what was measured is kept if a later one fails."""
    if path is None:
        return
    try:
        path.write_text(markdown(results), encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}") from error
