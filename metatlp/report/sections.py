"""The sections of the report on tables and figures: from numbers to files and to the page.

Knows what each target shows; reads the small files of table1 and the figures.
"""

from __future__ import annotations

import statistics

from metatlp.errors import InputError
from metatlp.grid import TLP, Grid
from metatlp.report import figures
from metatlp.report.building import TITLES, Building
from metatlp.report.collected import Collected
from metatlp.report.curves import Curves, Runs, read_curves
from metatlp.report.json_file import number_at
from metatlp.report.numbers import percent, plain
from metatlp.report.page import blocks_of
from metatlp.report.paper import paper_numbers
from metatlp.report.score_sheets import csv_of, detail_head, detail_rows, sheets_of
from metatlp.report.sheets import Sheet, csv_text
from metatlp.report.tables import build_table

_BEST_BASELINE = (
    "As in the paper, the other rows show the difference from the best baseline of their column, "
    "which is the one with the best test score; small: the score itself, its standard deviation "
    "over seeds, and F1 beside the accuracy of POS and NER. A star marks differences with p of at "
    "most {alpha:.2g} over seeds and examples, a ring those of these very models over examples; "
    "both are adjusted by Holm over the columns of a row."
)
_REFERENCE = (
    "Small: the standard deviation over seeds, the difference from the row's reference (named "
    "below, under every number) with marks as in the tables of the paper, and F1 beside the "
    "accuracy of POS and NER. The best of each column is marked."
)
_CHOSEN = (
    "Where a row had several settings to choose from (temperatures, learning rates), the one with "
    "the best mean score on dev data counts, not the one with the best test score."
)
_DEV = (
    "Scores on dev data, as in section 4.2, of the meta-trained models without finetuning; small: "
    "the standard deviation over seeds, and the difference from the first row. The best of each "
    "column is marked."
)


def add_nothing(report: Building, target: str) -> None:
    """For a target that the protocol does not have."""
    text = f"Protocol {report.plan.protocol['name']} has nothing of it."
    report.add(f"{target}.md", f"## {TITLES[target]}\n\n{text}\n")
    report.section(target, text=[text])


def add_scores(report: Building, collected: Collected) -> None:
    """Of table2, table3, table4, grid_search and ablations."""
    target, confidence = collected.target, report.confidence
    table = build_table(
        collected, TITLES[target], _paper_scores(report, target), report.plan.labels.get(target)
    )
    files = [report.add(f"{target}.csv", csv_of(table, confidence))]
    files += report.add_sheets(target, sheets_of(table, confidence), table.notes)
    text = _DEV if target == "grid_search" else _BEST_BASELINE if table.baselines else _REFERENCE
    chosen = [_CHOSEN] if collected.choices else []
    report.section(
        target,
        text=[text.format(alpha=1 - confidence), *chosen],
        blocks=blocks_of(table, confidence),
        colours=table.baselines is not None,
        notes=table.notes,
        detail_head=detail_head(table.with_paper),
        detail_rows=detail_rows(table, confidence),
        with_paper=table.with_paper,
        files=files,
    )


def _paper_scores(report: Building, target: str) -> dict[tuple[str, TLP], float] | None:
    if report.paper is None or target not in ("table2", "table3", "table4"):
        return None
    found = paper_numbers(report.paper, target)
    if target == "table4":  # whose baselines are those of table 2
        upper = paper_numbers(report.paper, "table2")
        found |= {key: upper[key] for key in upper if key[0].startswith(("baseline", "mtl-"))}
    return found


def add_table1(report: Building) -> None:
    """Training examples by task and language."""
    sizes = read_sizes(report, "table1")
    paper = paper_numbers(report.paper, "table1") if report.paper else {}
    grid = Grid.of(sizes)

    def count(tlp: TLP) -> str:
        text = f"{sizes[tlp]:,}" if tlp in sizes else "-"
        return f"{text} ({paper['train', tlp]:,.0f})" if ("train", tlp) in paper else text

    rows = [[task, *(count(TLP(task, lang)) for lang in grid.languages)] for task in grid.tasks]
    sheet = Sheet("", ["task", *grid.languages], rows)
    numbers = [
        [tlp.task, tlp.lang, size, paper.get(("train", tlp), "")] for tlp, size in sizes.items()
    ]
    head = ["task", "lang", "train_size", "paper"]
    files = [report.add("table1.csv", csv_text(head, numbers))]
    files += report.add_sheets("table1", [sheet])
    text = [f"Examples that were read for training: {sum(sizes.values()):,} in all."]
    text += ["In brackets: the paper's, rounded as there."] if paper else []
    report.section("table1", text=text, sheets=[sheet], files=files)


def add_figure2(report: Building) -> None:
    """Sizes, and the proportions of each temperature."""
    sizes = read_sizes(report, "figure2")
    rows = [
        [str(tlp), str(sizes[tlp]), *(f"{100 * p:.2f}" for p in shares)]
        for tlp, shares in figures.proportions(sizes)
    ]
    head = ["pair", "examples", "tau 1 (%)", "tau 2 (%)", "tau 5 (%)", "tau ∞ (%)"]
    sheet = Sheet("", head, rows)
    names, shown = report.add_figure(
        "figure2",
        figures.sizes_figure(sizes),
        "(a) training examples by task and language, on a logarithmic scale; (b) share of each "
        "task in the draws of meta-training, for four temperatures",
    )
    files = [*names, report.add("figure2.csv", csv_text(head, rows))]
    files += report.add_sheets("figure2", [sheet])
    report.section("figure2", figures=[shown], sheets=[sheet], files=files)


def read_sizes(report: Building, target: str) -> dict[TLP, int]:
    """Training examples by TLP, of the data.json that the target's cells name.

    Raises:
        InputError: one is missing or damaged, or two differ.
    """
    found: dict[TLP, int] = {}
    for cell in report.plan.of(target, ["train"]):
        path = report.plan.folder / cell.file
        splits = report.reader.json(path, "what was read").get("splits")
        train = splits.get("train") if isinstance(splits, dict) else None
        if not isinstance(train, dict) or not train:
            raise InputError(f"{path}: damaged (no splits.train)")
        for name in train:
            number = int(number_at(train, name, "examples", path=path))
            if found.setdefault(TLP.parse(name), number) != number:
                raise InputError(f"{path}: {name} has {number} examples, elsewhere in the plan not")
    if not found:
        raise InputError(f"plan.json: {target} has no cells with split train")
    return {tlp: found[tlp] for tlp in Grid.of(found).tlps}


def read_runs(report: Building) -> dict[tuple[str, TLP], dict[int, Curves]]:
    """The curves of figure 3.

    Raises:
        InputError: a file is missing (unless the report is partial) or damaged.
    """
    found: dict[tuple[str, TLP], dict[int, Curves]] = {}
    for cell in report.plan.of("figure3", ["metrics"]):
        path = report.plan.folder / cell.file
        if report.partial and not path.exists():
            continue
        if cell.tlp is None or cell.seed is None:
            raise InputError(f"plan.json: a cell of figure3 {cell.row} needs tlp and seed")
        found.setdefault((cell.row, cell.tlp), {})[cell.seed] = read_curves(path)
    return found


def add_figure3(report: Building, runs: Runs) -> None:
    """psi and rewards over time."""
    if not runs:
        add_nothing(report, "figure3")
        return
    labels = report.plan.labels.get("figure3", {})
    names, shown = report.add_figure(
        "figure3",
        figures.sampler_figure(
            [
                (labels.get(row, f"{row}, target {target}"), list(by_seed.values()))
                for (row, target), by_seed in runs.items()
            ]
        ),
        "psi (above) and rewards (below) over meta-training; lines are means over seeds, bands "
        "from the least to the largest",
    )
    head = ["run", "target", "pair", "p at first (%)", "p at last (%)", "mean reward", "seeds"]
    rows = [
        [
            labels.get(row, row),
            str(target),
            str(tlp),
            percent(statistics.fmean(curves.p[tlp][0] for curves in by_seed.values())),
            percent(statistics.fmean(curves.p[tlp][-1] for curves in by_seed.values())),
            plain(
                statistics.fmean(statistics.fmean(each.rewards[tlp]) for each in by_seed.values())
            ),
            str(len(by_seed)),
        ]
        for (row, target), by_seed in runs.items()
        for tlp in next(iter(by_seed.values())).p
    ]
    sheet = Sheet("", head, rows)
    files = [*names, report.add("figure3.csv", csv_text(head, rows))]
    files += report.add_sheets("figure3", [sheet])
    report.section("figure3", figures=[shown], sheets=[sheet], files=files)
