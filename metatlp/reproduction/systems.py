"""The systems of the paper as runs: baselines, MTL, meta-training, finetuning, evaluation.

Knows which flags make a system; knows no table. Asking twice for the same run gives the same key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP, Grid, select
from metatlp.reproduction.protocol import Protocol
from metatlp.reproduction.runs import CUT_SCRIPT, DATA_SCRIPT, Best, Models, Run, Value

FULL = Grid.of(PAPER_SIZES)


class Systems:
    """Makes the runs of a protocol."""

    def __init__(self, protocol: Protocol):
        self.protocol, self.grid = protocol, protocol.grid

    # Flags

    def flags(self, *groups: str) -> dict[str, Value]:
        """Of `every` script and of groups; the data is that which was cut, if it is."""
        found: dict[str, Value] = dict(self.protocol.of("every", *groups))
        if self.protocol.cut:
            found["data-dir"] = (Models(self.cut(self.protocol.cut), "data"),)
        return found

    def cut(self, scale: str) -> Run:
        """The data in Table 1's proportions."""
        flags = {"data-dir": self.protocol.flags["every"]["data-dir"], "scale": scale}
        return Run("data", CUT_SCRIPT, "cut", f"data cut to {scale} of Table 1", flags)

    # Selections

    def part(self, text: str) -> tuple[TLP, ...]:
        """The TLPs of `all`, `lang:hi`, `task:qa` or a list, in the protocol's grid."""
        return select(self.grid, text).tlps

    def selection(self, text: str) -> str:
        """What the scripts are given for it: they know the grid of Table 1, not the protocol's."""
        own = self.part(text)
        try:
            same = select(FULL, text).tlps == own
        except InputError:
            same = False
        return text if same else names(own)

    def place(self, text: str) -> str:
        """The same for the name of a folder."""
        own = self.selection(text)
        return slug(self.part(text)) if "_" in own else own.replace(":", "-")

    def said(self, text: str) -> str:
        """The same for a reader."""
        own = self.selection(text)
        return said(self.part(text)) if "_" in own else own

    # Runs

    def data(self) -> Run:
        """The counts of the data (Table 1, Figure 2), and the majority baseline."""
        flags = {k: v for k, v in self.flags("training").items() if k in DATA_FLAGS}
        flags |= {k: v for k, v in self.protocol.of("evaluate").items() if k == "eval-examples"}
        own = {"selection": self.selection("all"), "external": names(self.protocol.external)}
        own = {name: value for name, value in own.items() if value}
        return Run("data", DATA_SCRIPT, "data", "counts of the data", {**flags, **own})

    def baseline(self, tlps: Sequence[TLP], seed: int) -> Run:
        """Single-TLP models from the plain encoder (Appendix A)."""
        flags = self.flags("training", "baseline")
        own = {"tlp": names(tlps), "seeds": str(seed)}
        label = f"baselines of {said(tlps)}, seed {seed}"
        return Run(
            "baseline", "finetune.py", f"baseline-{slug(tlps)}-s{seed}", label, {**flags, **own}
        )

    def mtl(
        self,
        text: str,
        seed: int,
        more: Mapping[str, Value] | None = None,
        rate: str | None = None,
        tuned: bool = False,
    ) -> Run:
        """Multi-task learning.

        Args:
            rate: instead of the one that is chosen, or the flags'.
            tuned: with the rate that is chosen, whatever the tables have.
        """
        flags = self.flags("training", "mtl")
        flags |= {"selection": self.selection(text), "seed": str(seed), **(more or {})}
        flags |= self._rate("mtl", "lr", rate, tuned)
        matched = "match-updates" in flags
        if matched:
            flags = {k: v for k, v in flags.items() if k not in ("epochs", "max-updates")}
        where = self.place(text)
        name = f"mtl-{where}" + ("-matched" if matched else "")
        label = f"MTL on {self.said(text)}, seed {seed}" + (f", --lr {rate}" if rate else "")
        label += ", matched updates" if matched else ""
        return Run("mtl", "train_mtl.py", f"{name}-s{seed}", label, flags)

    def meta(
        self,
        text: str,
        seed: int,
        tau: str | None = None,
        dev: str | None = None,
        changes: Mapping[str, str] | None = None,
        rate: str | None = None,
        method: str = "meta",
        tuned: bool = False,
    ) -> Run:
        """Meta-training on a selection.

        Args:
            tau: of temperature sampling; or
            dev: D_dev of MultiDDS.
            changes: flags that differ from the protocol's.
            rate: instead of the one that is chosen, or the flags'.
            method: whose rate is chosen.
            tuned: with the rate that is chosen, whatever the tables have.
        """
        flags = self.flags("training", "meta", *(("multidds",) if dev else ()))
        changes = {k: v for k, v in (changes or {}).items() if flags.get(k) != v}
        flags |= {"selection": self.selection(text), "seed": str(seed)}
        if dev is None:
            assert tau is not None
            flags |= {"sampler": "temp", "tau": tau}
            how, name = f"Temp, tau {tau}", f"temp-{tau}"
        else:
            flags |= {"sampler": "multidds", "dev-tlps": self.selection(dev)}
            how, name = f"mDDS, D_dev {self.said(dev)}", f"mdds-{self.place(dev)}"
        tuned = tuned or method != "meta"
        flags |= self._rate(method, "inner-lr", rate or changes.get("inner-lr"), tuned)
        flags |= changes
        label = f"meta-training on {self.said(text)}, {how}, seed {seed}"
        name = f"meta-{self.place(text)}-{name}"
        if method == "first-order-maml":
            flags |= {"outer-update": method}
            label, name = f"first-order MAML, {label}", f"{name}-fomaml"
        for flag, value in ({"inner-lr": rate} if rate else {} | changes).items():
            label += f", --{flag} {value}"
            name += re.sub("[^A-Za-z0-9.-]+", "_", f"-{flag}-{value}")
        one = flags.get("inner-state") == "carry"
        return Run("meta", "train_meta.py", f"{name[:80]}-s{seed}", label, flags, one)

    def finetune(self, start: Run, tlps: Sequence[TLP], seed: int) -> dict[TLP, Run]:
        """Finetuning of a model, by TLP (Appendix B); one call for all, or one each."""
        flags = self.flags("finetune")
        parts = [tuple(tlps)] if self.protocol.finetune_per == "model" else [(t,) for t in tlps]
        found: dict[TLP, Run] = {}
        for part in parts:
            own: dict[str, Value] = {
                "tlp": names(part),
                "seeds": str(seed),
                "init-from": (Models(start),),
            }
            name = f"tuned-{start.slug.rpartition('-s')[0]}-{slug(part)}-s{seed}"
            label = f"finetuning on {said(part)} after {start.label}"
            run = Run("finetune", "finetune.py", name, label, {**flags, **own})
            found |= dict.fromkeys(part, run)
        return found

    def evaluate(
        self, system: str, models: Sequence[Models], tlps: Sequence[TLP], seed: int
    ) -> Run:
        """Test scores of a system as it is. system: its name in scores.json."""
        flags = self.flags("evaluate")
        flags["model"] = tuple(Models(each.run, each.inside, system) for each in models)
        where = {"tlps": names(tlps)}
        if tuple(tlps) == Grid.of(EXTERNAL_TLPS).tlps:
            where = {"languages": "external"}
        first = models[0].run.slug.rpartition("-s")[0]
        unseen = set(tlps) - set(self.grid.tlps)
        kind = "trained" if not unseen else "external" if len(unseen) == len(tlps) else "both"
        inside = f" ({models[0].inside})" if models[0].inside else ""
        label = f"scores on {said(tlps)} of {models[0].run.label}{inside}"
        label += f" and {len(models) - 1} more" if len(models) > 1 else ""
        name = f"scores-{kind}-{first}-s{seed}"
        return Run("evaluate", "evaluate_zeroshot.py", name, label, {**flags, **where})

    # Learning rates

    def _rate(self, method: str, flag: str, rate: str | None, tuned: bool) -> dict[str, Value]:
        """The flag of a method's learning rate: given, chosen on dev, or as the flags have it."""
        rates = self.protocol.rates
        candidates = rates.candidates.get(method)
        if rate is not None:
            return {flag: rate}
        chosen = candidates and (tuned or rates.used == "everywhere")
        return {flag: self._best(method, candidates)} if candidates and chosen else {}

    def _best(self, method: str, candidates: Sequence[str]) -> Best:
        """Runs on all TLPs, one per rate, with the seed that chooses."""
        seed, tau = self.protocol.rates.seed, self.protocol.reference
        if method == "mtl":
            return Best({rate: (self.mtl("all", seed, rate=rate),) for rate in candidates})
        return Best(
            {
                rate: (self.meta("all", seed, tau=tau, rate=rate, method=method),)
                for rate in candidates
            }
        )


# Which flags of `every` and `training` the data run takes.
DATA_FLAGS = (
    *("data", "data-dir", "own-data", "demo-seed", "demo-scale", "demo-label-noise", "cache-dir"),
    *("model", "pretrain-steps", "tokenizer", "max-length", "qa-max-length", "qa-stride"),
    *("qa-query-length", "qa-answer-length", "long-inputs", "max-examples"),
)


def names(tlps: Iterable[TLP]) -> str:
    return ",".join(map(str, tlps))


def slug(tlps: Sequence[TLP]) -> str:
    return str(tlps[0]) if len(tlps) == 1 else f"{len(tlps)}tlps"


def said(tlps: Sequence[TLP]) -> str:
    return ", ".join(map(str, tlps)) if len(tlps) <= 4 else f"{len(tlps)} TLPs"
