"""The arithmetic over seeds and the tables. Knows no model and no file of a run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results_file import page, table

from metatlp.data.demo.languages import FAR, LANGUAGES, NEAR, OTHER_SCRIPT
from metatlp.grid import TASK_CODES, TLP
from metatlp.tasks import TASKS

NEAR_LATIN = [lang for lang in NEAR if LANGUAGES[lang].script == "latin"]
FAR_LATIN = [lang for lang in FAR if LANGUAGES[lang].script == "latin"]
GROUPS: dict[str, list[str]] = {
    "near": list(NEAR),
    "other script": list(OTHER_SCRIPT),
    "far, Latin script": FAR_LATIN,
    "far, own script": [lang for lang in FAR if lang not in FAR_LATIN],
}
# The second is controlled: all its languages have the script of en, es, de and fr.
DIFFERENCES = {
    "near - far": (list(NEAR), list(FAR)),
    "near - far, Latin script": (NEAR_LATIN, FAR_LATIN),
}
# The paper's: most words are in no entity, so NER's accuracy says little.
METRICS = {task: TASKS[task].metric for task in TASKS} | {"ner": "entity_f1"}
EMPTY = "-"

# TLP -> percent of its task's metric, of one seed.
Scores = Mapping[TLP, float]


def headline(scores: Mapping[TLP, Mapping[str, float]]) -> dict[TLP, float]:
    """TLP -> the metric that stands for its task, in percent."""
    return {tlp: 100 * values[METRICS[tlp.task]] for tlp, values in scores.items()}


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


def mean_of_tasks(scores: Scores, tasks: Sequence[str], langs: Sequence[str]) -> float | None:
    """Mean over those of the tasks that are scored in the languages."""
    means = [task_mean(scores, task, langs) for task in tasks]
    return mean(value for value in means if value is not None)


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
    """Task, or `all` for the mean of the tasks -> its groups and differences, over seeds.

    Differences are taken within a seed; `over chance` is one less the same difference of chance.
    """
    tasks = _tasks(trained)
    seen = {tlp.lang for tlp in trained}
    summary: dict[str, dict[str, Any]] = {}
    for row in [*tasks, "all"]:
        own = tasks if row == "all" else [row]
        groups, differences = {}, {}
        for name, langs in GROUPS.items():
            unseen = [lang for lang in langs if lang not in seen]
            over_seeds = spread([mean_of_tasks(scores, own, unseen) for scores in test])
            groups[name] = {"chance": mean_of_tasks(chance, own, unseen), **over_seeds}
        for name, pair in DIFFERENCES.items():
            near, far = ([lang for lang in langs if lang not in seen] for langs in pair)
            guessed, *found = (
                less(mean_of_tasks(scores, own, near), mean_of_tasks(scores, own, far))
                for scores in (chance, *test)
            )
            over = spread([less(value, guessed) for value in found])
            differences[name] = {"chance": guessed, **spread(found), "over chance": over}
        summary[row] = {"groups": groups, "differences": differences}
    return summary


def language_summary(test: Sequence[Scores]) -> dict[str, float]:
    """TLP -> mean over seeds."""
    return {str(tlp): statistics.fmean(scores[tlp] for scores in test) for tlp in test[0]}


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
            METRICS[task],
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
    rows = []
    for task, entry in summary.items():
        groups = entry["groups"].values()
        rows.append([_label(task), *(with_sd(group) for group in groups)])
        rows.append(["- chance", *(number(group["chance"]) for group in groups)])
    return table(["task", *GROUPS], rows)


def difference_table(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            _label(task),
            *(
                with_sd(shown, "+.1f")
                for found in entry["differences"].values()
                for shown in (found, found["over chance"])
            ),
        ]
        for task, entry in summary.items()
    ]
    return table(["task", *(h for name in DIFFERENCES for h in (name, "over chance"))], rows)


def _label(task: str) -> str:
    return "mean of tasks" if task == "all" else f"{task.upper()}, {METRICS[task]}"


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
    facts = [
        f"runs: `{results['train_command']} --seed SEED`",
        f"grid: {results['grid']}",
        f"commit: {results['commit']}",
        *(f"{key}: {value}" for key, value in results["machine"].items() if key != "threads"),
        f"processes: {placed['processes']}, threads of each: {placed['threads_per_process']}",
        f"percent; ± is the sample standard deviation over seeds; {results['test_examples']} "
        "test examples per TLP at least",
        "chance: a random label (NLI, PA), the most frequent tag (POS), a random span as long as "
        "the answer (QA); NER's is 0, for the most frequent tag is no entity",
        "seeds change the run (draws, order, heads), not the languages nor the encoder",
    ]
    title = f"Demo scores, {results['machine']['device']}"
    return page(title, results["command"], facts, sections(results))


def sections(results: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Title and lines of each table."""
    trained = results["trained"]
    langs = list(dict.fromkeys(TLP.parse(name).lang for name in trained))
    return [
        ("Time", seed_table(results["seeds"])),
        ("Languages that were trained on: mean over them", trained_table(results["tasks"])),
        ("Languages never trained on: mean of test", zero_shot_table(results["zero_shot"])),
        (
            f"What relatedness gives (Latin script: {' '.join(NEAR_LATIN)} less "
            f"{' '.join(FAR_LATIN)}); `over chance`: less the same difference of chance",
            difference_table(results["zero_shot"]),
        ),
        ("Test scores by language, mean over seeds", language_table(results["languages"], langs)),
    ]
