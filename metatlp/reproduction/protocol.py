"""A protocol: what is reproduced on which data, with which flags, seeds and candidates.

Knows no file, no run and no table; protocol_file.py reads one from YAML.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metatlp.grid import TLP, Grid

Flags = dict[str, str]

# Whose flags the groups of `flags` are.
FLAG_GROUPS = {
    "every": "every script",
    "training": "train_meta.py, train_mtl.py, and finetune.py from the plain encoder",
    "meta": "train_meta.py",
    "multidds": "train_meta.py with --sampler multidds",
    "mtl": "train_mtl.py",
    "baseline": "finetune.py from the plain encoder",
    "finetune": "finetune.py from a trained model",
    "evaluate": "evaluate_zeroshot.py",
}
# m, k and beta are written out in every command, so that equal runs have equal flags.
STATED = ("meta-batch-size", "inner-steps", "meta-lr")
# Set by the plan.
OWNED = (
    *("output-dir", "resume", "seed", "seeds", "selection", "tlp", "tlps", "languages", "split"),
    *("sampler", "tau", "dev-tlps", "init-from", "match-updates", "average-last", "dry-run"),
)
METHODS = ("meta", "mtl", "first-order-maml")
EXTRAS = (
    *("majority", "english-only", "mtl-finetuned", "mtl-matched-updates"),
    *("first-order-maml", "checkpoint-average", "tuned-rates"),
)


@dataclass(frozen=True)
class GridSearch:
    """Section 4.2: m, k and beta of the model on all TLPs with temperature `tau`."""

    m: tuple[str, ...]
    k: tuple[str, ...]
    beta: tuple[str, ...]
    tau: str = "1"
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Ablations:
    """What is compared beside the paper's tables.

    Attributes:
        extras: of EXTRAS.
        meta: name -> flags that change the reference run (all TLPs, temperature).
        multidds: name -> flags that change the reference run with MultiDDS.
        dev: D_dev of that run, as --dev-tlps has it.
        average_last: how many checkpoints `checkpoint-average` averages.
    """

    seeds: tuple[int, ...]
    extras: tuple[str, ...] = ()
    meta: Mapping[str, Flags] = field(default_factory=dict)
    multidds: Mapping[str, Flags] = field(default_factory=dict)
    dev: str = ""
    average_last: int = 3


@dataclass(frozen=True)
class Rates:
    """Learning rates that dev chooses among, by a run each with a seed of its own.

    Attributes:
        candidates: method (of METHODS) -> learning rates; a method with none has that of its flags.
        used: `everywhere`; or in `ablations` alone: rows `meta-tuned` and `mtl-tuned` have them,
            and the paper's tables the rates of the flags.
        seed: of the runs that choose; the runs that are reported have others.
    """

    candidates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    used: str = "everywhere"
    seed: int = 1000


@dataclass(frozen=True)
class Protocol:
    """A protocol with all its settings filled in.

    Attributes:
        launch: what starts a script, such as `accelerate launch --config_file FILE`; empty: one
            process of this Python, where possible forked from one that has imported everything.
        cpus, gpus, memory_mb, minutes: what one run asks a scheduler for.
        devices: GPUs of this machine that runs take turns at, as in CUDA_VISIBLE_DEVICES; none: all
            runs see all of them.
        tlps, external: that train; of languages that nothing trains on.
        finetune_per: `model`: one call finetunes a model on all TLPs it is for; `tlp`: one each.
        keep: `all`, or `results`: a finished run's checkpoints are deleted, and the finetuned
            models that no other run reads.
        cut: factor on Table 1's training examples that the data of `data-dir` is cut to, if it is.
        flags: group (of FLAG_GROUPS) -> flag without dashes -> value.
        taus: candidates of the temperature; `reference` the one of the ablations.
        figure3: target TLPs of the Lang-Limited MultiDDS runs that Figure 3 shows.
        calibration: file of seconds per step, for the estimates.
    """

    name: str
    description: str
    budget: str
    compare_with_paper: bool
    launch: tuple[str, ...]
    cpus: int
    gpus: int
    memory_mb: int
    minutes: int
    devices: tuple[str, ...]
    tlps: tuple[TLP, ...]
    external: tuple[TLP, ...]
    seeds: tuple[int, ...]
    finetune_per: str
    keep: str
    flags: Mapping[str, Flags]
    rates: Rates
    taus: tuple[str, ...]
    reference: str
    figure3: tuple[TLP, ...]
    grid_search: GridSearch | None
    ablations: Ablations | None
    calibration: str | None = None
    cut: str | None = None

    @property
    def grid(self) -> Grid:
        return Grid.of(self.tlps)

    def of(self, *groups: str) -> Flags:
        """The flags of some groups together, of the same flag the last."""
        return {name: value for group in groups for name, value in self.flags[group].items()}

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        found = dataclasses.asdict(self)
        for name in ("tlps", "external", "figure3"):
            found[name] = [str(tlp) for tlp in getattr(self, name)]
        return found
