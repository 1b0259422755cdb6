"""The cells of what the paper lacks: fairer baselines, and one change of the method at a time.

The reference is the model of all TLPs with temperature sampling, as it is, on trained and external
TLPs; what is finetuned is compared with that model finetuned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metatlp.reproduction.protocol import Ablations
from metatlp.reproduction.runs import Models, Run
from metatlp.reproduction.tables import Cell, Tables

TARGET = "ablations"


class AblationCells:
    """Those of one seed."""

    def __init__(self, tables: Tables, ablations: Ablations, seed: int):
        self.tables, self.systems = tables, tables.systems
        self.protocol, self.ablations, self.seed = tables.protocol, ablations, seed
        self.tlps = [*tables.grid.tlps]
        self.tlps += [t for t in self.protocol.external if t.task in tables.grid.tasks]
        self.tau = self.protocol.reference

    def cells(self) -> Iterator[Cell]:
        seed, tau, ablations = self.seed, self.tau, self.ablations
        reference = self.systems.meta("all", seed, tau=tau)
        yield from self._meta("reference", f"reference: all TLPs, Temp, T = {tau}", reference)
        for name, changes in ablations.meta.items():
            run = self.systems.meta("all", seed, tau=tau, changes=changes)
            yield from self._meta(name, _changed(changes), run)
        if ablations.multidds:
            base = self.systems.meta("all", seed, dev=ablations.dev)
            row = f"reference: all TLPs, mDDS, D_dev = {ablations.dev}"
            own = {"reference": "reference-mdds"}
            yield from self._meta("reference-mdds", row, base, **own)
            for name, changes in ablations.multidds.items():
                run = self.systems.meta("all", seed, dev=ablations.dev, changes=changes)
                yield from self._meta(name, f"mDDS, {_changed(changes)}", run, **own)
        for name in ablations.extras:
            yield from getattr(self, f"_{name.replace('-', '_')}")(reference)

    def _meta(self, row: str, label: str, run: Run, **more: Any) -> Iterator[Cell]:
        yield from self._scored(row, label, "meta", Models(run), **more)

    def _scored(
        self, row: str, label: str, system: str, *models: Models, **more: Any
    ) -> Iterator[Cell]:
        self.tables.row(TARGET, row, label)
        yield from self.tables.scored(TARGET, row, system, models, self.tlps, self.seed, **more)

    def _tuned(self, row: str, label: str, run: Run) -> Iterator[Cell]:
        self.tables.row(TARGET, row, label)
        tlps, other = self.tables.grid.tlps, "reference-finetuned"
        yield from self.tables.tuned(TARGET, row, run, tlps, self.seed, reference=other)

    def _mtl(self, more: Mapping[str, Any] | None = None) -> Run:
        return self.systems.mtl("all", self.seed, more or self.tables.mtl_more("all"))

    # What `extras` names

    def _majority(self, reference: Run) -> Iterator[Cell]:
        row = self.tables.row(TARGET, "majority", "most frequent training label")
        run = self.systems.data()
        for tlp in self.tlps:
            if tlp.task != "qa":
                yield Cell(TARGET, row, tlp, self.seed, run, "scores.json", system="majority")

    def _english_only(self, reference: Run) -> Iterator[Cell]:
        """Baselines trained on English, in every other language."""
        found, seed = self.tables.baseline_runs(self.seed), self.seed
        english = {
            tlp.task: Models(run, f"{tlp}/seed_{seed}/models/{tlp.task}")
            for tlp, run in found.items()
            if tlp.lang == "en"
        }
        others = [tlp for tlp in self.tlps if tlp.task in english and tlp.lang != "en"]
        label = "English-only transfer: baselines of English"
        row = self.tables.row(TARGET, "english-only", label)
        models = list(english.values())
        yield from self.tables.scored(TARGET, row, "baseline", models, others, seed)

    def _mtl_finetuned(self, reference: Run) -> Iterator[Cell]:
        label = f"reference, finetuned: all TLPs, Temp, T = {self.tau}"
        yield from self._tuned("reference-finetuned", label, reference)
        yield from self._tuned("mtl-finetuned", "All TLPs MTL, finetuned", self._mtl())

    def _mtl_matched_updates(self, reference: Run) -> Iterator[Cell]:
        run = self._mtl({"match-updates": (Models(reference),)})
        label = "All TLPs MTL with as many updates as the reference"
        yield from self._scored("mtl-matched-updates", label, "mtl", Models(run))

    def _first_order_maml(self, reference: Run) -> Iterator[Cell]:
        run = self.systems.meta("all", self.seed, tau=self.tau, method="first-order-maml")
        yield from self._meta("first-order-maml", "first-order MAML in the place of Reptile", run)

    def _tuned_rates(self, reference: Run) -> Iterator[Cell]:
        """With seeds that did not choose the rate."""
        run = self.systems.meta("all", self.seed, tau=self.tau, tuned=True)
        yield from self._meta("meta-tuned", "reference, learning rate chosen on dev", run)
        run = self.systems.mtl("all", self.seed, self.tables.mtl_more("all"), tuned=True)
        label = "All TLPs MTL, learning rate chosen on dev"
        yield from self._scored("mtl-tuned", label, "mtl", Models(run))

    def _checkpoint_average(self, reference: Run) -> Iterator[Cell]:
        self.tables.row(TARGET, "mtl-all", "All TLPs MTL")
        yield from self._scored("mtl-all", "All TLPs MTL", "mtl", Models(self._mtl()))
        label = f"All TLPs MTL, mean of the last {self.ablations.average_last} checkpoints"
        averaged = Models(self._mtl(), "averaged")
        yield from self._scored("checkpoint-average", label, "mtl", averaged)


def _changed(changes: Mapping[str, str]) -> str:
    return ", ".join(f"--{name} {value}" for name, value in changes.items())
