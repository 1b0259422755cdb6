"""A protocol: what is reproduced on which data, with which flags, seeds and candidates.

Read from YAML (workflow/protocols/). Knows no run and no table.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import yaml

from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP, Grid, select
from metatlp.reproduction.values import Node, canonical

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


def load_protocol(path: Path, settings: Mapping[str, str]) -> Protocol:
    """Read a protocol.

    Args:
        path: of the YAML file.
        settings: what stands for `$DATA`, `$ENCODER` and other names with a dollar in its values;
            those of the names of fields replace the field (`launch` as one text, `gpus`, ...).

    Raises:
        InputError: with the file and the key.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: no YAML: {error}") from error
    file = str(path)
    names = [item.name for item in dataclasses.fields(Protocol) if item.name != "name"]
    top = Node(read, file).mapping(names)
    top |= {key: Node(_read(key, value), "--config", key) for key, value in settings.items()
            if key in OVERRIDES}  # fmt: skip
    top = {key: Node(_filled(node, settings), node.file, key) for key, node in top.items()}

    def at(name: str, default: Any = None) -> Node:
        if name in top:
            return top[name]
        if default is None:
            raise InputError(f"{file}: {name}: is missing")
        return Node(default, file, name)

    tlps = at("tlps").list_of(lambda node: _tlp(node, PAPER_SIZES), 1)
    taus = at("taus").list_of(Node.word, 1)
    protocol = Protocol(
        name=path.stem,
        description=at("description").text(),
        budget=at("budget").text(),
        compare_with_paper=at("compare_with_paper", False).one_of(True, False),
        launch=at("launch", []).list_of(Node.text),
        cpus=at("cpus", 1).whole(1),
        gpus=at("gpus", 0).whole(),
        memory_mb=at("memory_mb", 4000).whole(1),
        minutes=at("minutes", 60).whole(1),
        devices=at("devices", []).list_of(Node.word),
        tlps=tlps,
        external=at("external", []).list_of(lambda node: _tlp(node, EXTERNAL_TLPS)),
        seeds=at("seeds").list_of(Node.whole, 1),
        finetune_per=at("finetune_per", "model").one_of("model", "tlp"),
        keep=at("keep", "results").one_of("all", "results"),
        flags=_flags(at("flags")),
        rates=_rates(at("rates", {})),
        taus=taus,
        reference=_word_of(at("reference", taus[0]), taus),
        figure3=at("figure3", []).list_of(lambda node: _tlp(node, tlps)),
        grid_search=_grid_search(top["grid_search"]) if "grid_search" in top else None,
        ablations=_ablations(top["ablations"], tlps) if "ablations" in top else None,
        calibration=at("calibration").text() if "calibration" in top else None,
        cut=at("cut").word() if "cut" in top else None,
    )
    if protocol.devices and protocol.gpus > len(protocol.devices):
        at("devices").fail(f"a run asks for {protocol.gpus} GPUs (gpus)")
    if protocol.cut and "data-dir" not in protocol.flags["every"]:
        at("cut").fail("flags.every.data-dir says what is cut, and is missing")
    _check_rates(protocol, at("rates", {}))
    return protocol


# Fields that --config may replace, and how the text of one is read.
OVERRIDES = ("launch", "cpus", "gpus", "memory_mb", "minutes", "finetune_per", "keep",
             "calibration", "seeds", "devices")  # fmt: skip


def _read(key: str, value: Any) -> Any:
    text = str(value)
    if key in ("launch", "devices"):
        return text.replace(",", " ").split() if key == "devices" else text.split()
    if key == "seeds":
        return [int(part) if part.isdecimal() else part for part in re.split("[, ]+", text)]
    return int(text) if text.isdecimal() else text


def _filled(node: Node, settings: Mapping[str, str]) -> Any:
    """The value, with settings in the place of `$NAME`."""
    if isinstance(node.value, dict):
        return {k: _filled(Node(v, node.file, f"{node.key}.{k}"), settings)
                for k, v in node.value.items()}  # fmt: skip
    if isinstance(node.value, list):
        return [_filled(Node(v, node.file, node.key), settings) for v in node.value]
    if not isinstance(node.value, str):
        return node.value
    try:
        return Template(node.value).substitute(settings)
    except KeyError as error:
        name = error.args[0]
        node.fail(f"{node.value}: say what it is with --config {name}=...")
    except ValueError:
        node.fail(f"{node.value}: write $NAME for a setting, and $$ for a dollar")


def _tlp(node: Node, known: Mapping[TLP, int] | tuple[TLP, ...]) -> TLP:
    try:
        tlp = TLP.parse(node.text())
    except InputError as error:
        node.fail(str(error))
    if tlp not in known:
        node.fail(f"{tlp}; choose from {', '.join(map(str, known))}")
    return tlp


def _word_of(node: Node, known: tuple[str, ...]) -> str:
    return Node(node.word(), node.file, node.key).one_of(*known)


def _flags_of(node: Node) -> Flags:
    found = {}
    for name, value in node.mapping().items():
        if not re.fullmatch("[a-z][a-z0-9-]*", name):
            value.fail("write a flag without its dashes in front, like inner-lr")
        if name in OWNED:
            value.fail("the plan sets this flag")
        found[name] = value.word()
    return found


def _flags(node: Node) -> dict[str, Flags]:
    groups = node.mapping(tuple(FLAG_GROUPS))
    found: dict[str, Flags] = {group: {} for group in FLAG_GROUPS}
    found |= {group: _flags_of(each) for group, each in groups.items()}
    for name in STATED:
        if name not in found["meta"]:
            Node(None, node.file, "flags.meta").fail(f"{name} must be written out here")
    return found


def _rates(node: Node) -> Rates:
    parts = node.mapping((*METHODS, "used", "seed"))
    seed = parts.pop("seed").whole() if "seed" in parts else Rates.seed
    used = parts.pop("used").one_of("everywhere", "ablations") if "used" in parts else Rates.used
    return Rates({name: each.list_of(Node.word, 2) for name, each in parts.items()}, used, seed)


def _check_rates(protocol: Protocol, node: Node) -> None:
    # The seed that chose is not reported.
    rates, ablations = protocol.rates, protocol.ablations
    if rates.candidates and rates.seed in (
        *protocol.seeds,
        *(ablations.seeds if ablations else ()),
    ):
        node.fail(f"seed {rates.seed} is one of `seeds`; the rate is chosen by another")
    if ablations and "tuned-rates" in ablations.extras:
        for method in ("meta", "mtl"):
            if method not in rates.candidates:
                node.fail(f"{method} is missing, which tuned-rates needs")


def _grid_search(node: Node) -> GridSearch:
    parts = node.mapping(("m", "k", "beta", "tau", "seeds"))
    for name in ("m", "k", "beta"):
        if name not in parts:
            node.fail(f"{name} is missing")
    return GridSearch(
        **{name: parts[name].list_of(Node.word, 1) for name in ("m", "k", "beta")},
        tau=parts["tau"].word() if "tau" in parts else GridSearch.tau,
        seeds=parts["seeds"].list_of(Node.whole, 1) if "seeds" in parts else GridSearch.seeds,
    )


def _ablations(node: Node, tlps: tuple[TLP, ...]) -> Ablations:
    parts = node.mapping(tuple(item.name for item in dataclasses.fields(Ablations)))
    if "seeds" not in parts:
        node.fail("seeds is missing")

    def named(name: str) -> dict[str, Flags]:
        return {k: _flags_of(v) for k, v in parts[name].mapping().items()} if name in parts else {}

    found = Ablations(
        seeds=parts["seeds"].list_of(Node.whole, 1),
        extras=parts["extras"].list_of(lambda one: one.one_of(*EXTRAS))
        if "extras" in parts
        else (),
        meta=named("meta"),
        multidds=named("multidds"),
        dev=canonical(parts["dev"].text()) if "dev" in parts else "",
        average_last=parts["average_last"].whole(1) if "average_last" in parts else 3,
    )
    if found.multidds and not found.dev:
        node.fail("dev is missing: D_dev of the reference run with MultiDDS, like task:nli")
    try:
        select(Grid.of(tlps), found.dev or "all", "dev")
    except InputError as error:
        node.fail(str(error))
    if "english-only" in found.extras and not any(tlp.lang == "en" for tlp in tlps):
        node.fail("english-only needs TLPs of en")
    return found
