"""A protocol out of YAML (workflow/protocols/): what is wrong is one line with file and key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml

from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP, Grid, select
from metatlp.reproduction.protocol import (
    EXTRAS,
    FLAG_GROUPS,
    METHODS,
    OWNED,
    STATED,
    Ablations,
    Flags,
    GridSearch,
    Protocol,
    Rates,
)
from metatlp.reproduction.values import Node, canonical


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
