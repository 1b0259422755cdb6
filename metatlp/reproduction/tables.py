"""Which runs make which cells of the paper's tables and figures.

A cell is one number: a row of a target, a TLP, a seed, and where the number is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from metatlp.grid import TLP
from metatlp.reproduction.protocol import GridSearch
from metatlp.reproduction.runs import Models, Run
from metatlp.reproduction.systems import Systems

TARGETS = (
    *("table1", "table2", "table3", "table4", "figure2", "figure3"),
    *("grid_search", "ablations", "claims"),
)
# Claims are read off these.
CLAIMED = ("table2", "table3", "figure3")
SELECTIONS = {"lang": "Lang-Limited", "task": "Task-Limited", "all": "All TLPs"}


@dataclass(frozen=True)
class Cell:
    """Attributes:
    tlp: None where a file is read as a whole.
    file: in the run's folder.
    system: name in scores.json.
    reference: row that the difference is taken from, where it is not the first.
    """

    target: str
    row: str
    tlp: TLP | None
    seed: int | None
    run: Run
    file: str
    split: str = "test"
    system: str | None = None
    candidate: dict[str, str] = field(default_factory=dict)
    reference: str | None = None

    def as_json(self) -> dict[str, Any]:
        found = {
            "target": self.target,
            "row": self.row,
            "tlp": None if self.tlp is None else str(self.tlp),
            "seed": self.seed,
            "candidate": self.candidate,
            "run": self.run.key,
            "file": f"{self.run.folder}/{self.file}",
            "split": self.split,
            "system": self.system,
        }
        return found | ({"reference": self.reference} if self.reference else {})


class Tables:
    """The cells of a protocol, and what its rows are called."""

    def __init__(self, systems: Systems):
        self.systems, self.protocol = systems, systems.protocol
        self.grid = systems.grid
        self.rows: dict[str, dict[str, str]] = {}

    def cells(self) -> list[Cell]:
        """Those of the paper's tables and figures."""
        parts = [self.sizes(), self.table2(), self.table3(), self.table4(), self.figure3()]
        if self.protocol.grid_search:
            parts.append(self.grid_search(self.protocol.grid_search))
        return [cell for part in parts for cell in part]

    def row(self, target: str, name: str, label: str) -> str:
        self.rows.setdefault(target, {}).setdefault(name, label)
        return name

    # Where numbers are read

    def tuned(self, target: str, row: str, start: Run, tlps: Sequence[TLP], seed: int,
              candidate: dict[str, str] | None = None, **more: Any) -> Iterator[Cell]:  # fmt: skip
        """Of a model, finetuned."""
        for tlp, run in self.systems.finetune(start, tlps, seed).items():
            yield Cell(
                target, row, tlp, seed, run, "results.json", candidate=candidate or {}, **more
            )

    def scored(self, target: str, row: str, system: str, models: Sequence[Models],
               tlps: Sequence[TLP], seed: int, **more: Any) -> Iterator[Cell]:  # fmt: skip
        """Of models as they are, in one call."""
        run = self.systems.evaluate(system, models, tlps, seed)
        for tlp in tlps:
            yield Cell(target, row, tlp, seed, run, "scores.json", system=system, **more)

    def each(self, kind: str) -> list[str]:
        """The selections of a kind: `lang:hi` and so on."""
        if kind == "all":
            return ["all"]
        return [f"{kind}:{name}" for name in
                (self.grid.languages if kind == "lang" else self.grid.tasks)]  # fmt: skip

    # Targets

    def sizes(self) -> Iterator[Cell]:
        run = self.systems.data()
        for target in ("table1", "figure2"):
            self.row(target, "train", "training examples")
            yield Cell(target, "train", None, None, run, "data.json", "train")

    def table2(self) -> Iterator[Cell]:
        label = lambda row, text: self.row("table2", row, text)  # noqa: E731
        for seed in self.protocol.seeds:
            yield from self.baselines("table2", label("baseline", "Baselines"), seed)
            for kind, name in SELECTIONS.items():
                row = label(f"mtl-{kind}", f"{name} MTL")
                yield from self.mtl("table2", row, kind, seed)
            for kind, name in SELECTIONS.items():
                row = label(f"meta-temp-{kind}", f"{name} Temp")
                for tau in self.protocol.taus:
                    yield from self.temp("table2", row, kind, tau, seed, {"tau": tau})
                if kind != "all":
                    row = label(f"meta-mdds-{kind}", f"{name} mDDS")
                    yield from self.target_mdds(row, kind, seed)
            for kind, name in (("lang", "mDDS-Lang"), ("task", "mDDS-Task")):
                row = label(f"mdds-{kind}", name)
                for text in self.each(kind):
                    start = self.systems.meta("all", seed, dev=text)
                    yield from self.tuned("table2", row, start, self.systems.part(text), seed)

    def baselines(self, target: str, row: str, seed: int, **more: Any) -> Iterator[Cell]:
        for tlp, run in self.baseline_runs(seed).items():
            yield Cell(target, row, tlp, seed, run, "results.json", **more)

    def baseline_runs(self, seed: int) -> dict[TLP, Run]:
        """By TLP; in calls as large as those of finetuning."""
        if self.protocol.finetune_per == "tlp":
            return {tlp: self.systems.baseline([tlp], seed) for tlp in self.grid.tlps}
        return dict.fromkeys(self.grid.tlps, self.systems.baseline(self.grid.tlps, seed))

    def mtl(self, target: str, row: str, kind: str, seed: int) -> Iterator[Cell]:
        """As they are, on their own TLPs."""
        for text in self.each(kind):
            model = Models(self.systems.mtl(text, seed, self.mtl_more(text)))
            yield from self.scored(target, row, "mtl", [model], self.systems.part(text), seed)

    def mtl_more(self, text: str) -> dict[str, str]:
        """The run on all TLPs writes the mean of its checkpoints too, if that is compared."""
        extras = self.protocol.ablations
        if text == "all" and extras and "checkpoint-average" in extras.extras:
            return {"average-last": str(extras.average_last)}
        return {}

    def temp(self, target: str, row: str, kind: str, tau: str, seed: int,
             candidate: dict[str, str] | None = None) -> Iterator[Cell]:  # fmt: skip
        for text in self.each(kind):
            start = self.systems.meta(text, seed, tau=tau)
            yield from self.tuned(target, row, start, self.systems.part(text), seed, candidate)

    def target_mdds(self, row: str, kind: str, seed: int) -> Iterator[Cell]:
        """Settings (a) and (b) of section 4.3: a run per target TLP."""
        for text in self.each(kind):
            for tlp in self.systems.part(text):
                start = self.systems.meta(text, seed, dev=str(tlp))
                yield from self.tuned("table2", row, start, [tlp], seed)

    def table3(self) -> Iterator[Cell]:
        """Without finetuning, on languages that no data trained in."""
        tlps = [tlp for tlp in self.protocol.external if tlp.task in self.grid.tasks]
        tasks = [task for task in self.grid.tasks if any(tlp.task == task for tlp in tlps)]
        make, label = self.systems, lambda row, text: self.row("table3", row, text)
        for seed in self.protocol.seeds if tlps else ():
            by_task = [Models(make.mtl(f"task:{task}", seed)) for task in tasks]
            row = label("mtl-task", "Task-Limited MTL")
            yield from self.scored("table3", row, "mtl", by_task, tlps, seed)
            both = Models(make.mtl("all", seed, self.mtl_more("all")))
            row = label("mtl-all", "All TLPs MTL")
            yield from self.scored("table3", row, "mtl", [both], tlps, seed)
            for tau in self.protocol.taus:
                by_task = [Models(make.meta(f"task:{task}", seed, tau=tau)) for task in tasks]
                chosen = {"candidate": {"tau": tau}}
                row = label("meta-temp-task", "Task-Limited")
                yield from self.scored("table3", row, "meta", by_task, tlps, seed, **chosen)
                both = Models(make.meta("all", seed, tau=tau))
                row = label("meta-temp-all", "All TLPs")
                yield from self.scored("table3", row, "meta", [both], tlps, seed, **chosen)
            by_task = [
                Models(make.meta("all", seed, dev=f"task:{task}"), f"models/{task}")
                for task in tasks
            ]
            row = label("mdds-task", "All TLPs mDDS-Task")
            yield from self.scored("table3", row, "meta", by_task, tlps, seed)

    def table4(self) -> Iterator[Cell]:
        for kind, name in SELECTIONS.items():
            for tau in self.protocol.taus:
                row = self.row("table4", f"temp-{tau}-{kind}", f"{name}, T = {tau}")
                for seed in self.protocol.seeds:
                    yield from self.temp("table4", row, kind, tau, seed)

    def figure3(self) -> Iterator[Cell]:
        for tlp in self.protocol.figure3:
            row = self.row("figure3", f"meta-mdds-lang-{tlp}", f"Lang-Limited mDDS, target {tlp}")
            for seed in self.protocol.seeds:
                run = self.systems.meta(f"lang:{tlp.lang}", seed, dev=str(tlp))
                yield Cell("figure3", row, tlp, seed, run, "metrics.jsonl", "metrics")

    def grid_search(self, search: GridSearch) -> Iterator[Cell]:
        """Section 4.2: by the dev scores of the meta-trained model."""
        points = [(m, k, beta) for m in search.m for k in search.k for beta in search.beta]
        for m, k, beta in points:
            name = f"m{m}-k{k}-beta{beta}"
            row = self.row("grid_search", name, f"m = {m}, k = {k}, beta = {beta}")
            changes = {"meta-batch-size": m, "inner-steps": k, "meta-lr": beta}
            for seed in search.seeds:
                run = self.systems.meta("all", seed, tau=search.tau, changes=changes)
                for tlp in self.grid.tlps:
                    yield Cell("grid_search", row, tlp, seed, run, "metrics.jsonl", "dev")


def runs_of(cells: Iterable[Cell]) -> list[Run]:
    """The runs that cells need, those they start from first."""
    found: dict[str, Run] = {}

    def visit(run: Run) -> None:
        if run.key not in found:
            for need in run.needs:
                visit(need)
            found[run.key] = run
        assert found[run.key].folder == run.folder, "one run with two folders"

    for cell in cells:
        visit(cell.run)
    return list(found.values())
