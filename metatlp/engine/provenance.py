"""Where an exported model comes from: `metatlp.json` beside its weights.

It says what trained the model, and which dev data chose anything about it, so that an evaluation
can tell languages that were never seen from languages that were. Knows JSON; knows no model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.tasks.task import Limits

FILE = "metatlp.json"
FORMAT = 1
# What Provenance.system can be.
SYSTEMS = {
    "meta": "meta-trained with Reptile",
    "mtl": "trained on several TLPs at once (multi-task learning)",
    "mtl-averaged": "multi-task learning, the mean of several checkpoints",
    "finetuned": "finetuned",
    "checkpoint": "from a checkpoint",
}
# Flags that name places on one machine, and those that name a model, which may lie on it.
PLACES = frozenset({"cache_dir", "data_dir", "output_dir", "own_data", "resume", "weights_file"})
ENCODERS = frozenset({"init_from", "match_updates", "model", "tokenizer"})
# Of train_meta.py's flags, what a model card's table shows.
_SHOWN = (
    *("sampler", "tau", "size_unit", "draw", "dev_tlps", "reward", "dds_every", "dds_lr"),
    *("meta_batch_size", "inner_steps", "meta_lr", "inner_lr", "dropout", "weight_decay"),
    *("head_average", "inner_state", "batch_size", "preset", "seed"),
)


@dataclass(frozen=True)
class Provenance:
    """What made a model.

    Attributes:
        system: a key of SYSTEMS.
        encoder: --model that it began from.
        trained_on: TLPs of all stages.
        selected_on: what was chosen -> TLPs whose dev data chose it, as {"rewards": ("qa_en",)}.
        limits: lengths that it was trained with; evaluation uses them.
        details: sampler, steps, seed and so on, JSON-able. `script` and `arguments` (its resolved
            flags) become the model card's command; the rest its table.
        scores: split -> TLP -> metric -> fraction or count.
        task: whose model lies in the folder; None where it is not yet in one.
        complete: whether that is all; not if the history of what it started from is unknown.
    """

    system: str
    encoder: str
    trained_on: tuple[str, ...]
    selected_on: Mapping[str, tuple[str, ...]]
    limits: Limits
    details: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    task: str | None = None
    complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """Its fields by name, JSON-able."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: Any) -> Provenance:
        """The reverse of `as_json`. Raises ValueError, saying which field is wrong."""
        found = {item.name: value[item.name] for item in fields(cls) if item.name in value}
        found.setdefault("complete", True)
        for name, holds in _HOLDS.items():
            if name not in found or not holds(found[name]):
                raise ValueError(f"'{name}' is missing or not what is written there")
        found["trained_on"] = tuple(found["trained_on"])
        found["selected_on"] = {k: tuple(v) for k, v in found["selected_on"].items()}
        found["limits"] = _limits(found["limits"])
        return cls(**found)

    def published(self) -> Provenance:
        """The same without paths of this machine."""
        details = {k: v for k, v in self.details.items() if not _is_path(v)}
        flags = details.get("arguments")
        if isinstance(flags, Mapping):
            # Without --tokenizer it is that of --model.
            same = {"tokenizer": None} if flags.get("tokenizer") == flags.get("model") else {}
            flags = {k: _published_flag(k, v) for k, v in (dict(flags) | same).items()}
            details["arguments"] = flags
        return replace(self, encoder=published_name(self.encoder), details=details)

    def write(self, folder: Path) -> None:
        """Write what may be published of it.

        Raises:
            OSError: the folder cannot be written.
        """
        value = {"format": FORMAT, **self.published().as_json()}
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def of_meta_run(
    state: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    more: Mapping[str, Any] | None = None,
) -> Provenance:
    """Of a run of train_meta.py.

    Args:
        state: as in its checkpoints; `arguments`, `data`, `num_steps` and `step` are needed.
        scores: split -> TLP -> metrics.
        more: of the details; None is left out.
    """
    flags = state["arguments"]
    rewarding = tuple(name.removeprefix("dev ") for name in state["data"] if name[:4] == "dev ")
    details = {name: flags[name] for name in _SHOWN if flags.get(name) is not None}
    details["meta_steps"] = f"{state['step']} of {state['num_steps']}"
    details |= {name: value for name, value in (more or {}).items() if value is not None}
    return Provenance(
        system="meta",
        encoder=flags["model"],
        trained_on=tuple(name for name in state["data"] if name[:4] != "dev "),
        selected_on={"rewards": rewarding} if rewarding else {},
        limits=limits_of(flags),
        details=details | {"script": "train_meta.py", "arguments": dict(flags)},
        scores=scores,
    )


def limits_of(flags: Mapping[str, Any]) -> Limits:
    """The lengths among a run's resolved flags."""
    return Limits(**{item.name: flags[item.name] for item in fields(Limits) if item.name in flags})


def read(folder: Path) -> Provenance | None:
    """What `write` wrote there; None if there is no such file.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = folder / FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (a JSON object was expected)")
    if value.get("format") != FORMAT:
        raise InputError(f"{path}: format {value.get('format')}, but this version reads {FORMAT}")
    try:
        return Provenance.of_json(value)
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})") from error


def published_name(model: str) -> str:
    """What may be published of --model: a hub id as it is, of a folder its last part."""
    if not (_is_path(model) or os.path.isdir(model)):
        return model
    return f"{os.path.basename(os.path.abspath(os.path.expanduser(model)))} (a local folder)"


def _published_flag(name: str, value: Any) -> Any:
    local = name in ENCODERS and value and os.path.isdir(value)
    if value is not None and (name in PLACES or local or _is_path(value)):
        return name.upper()
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (value.startswith(("/", ".", "~")) or "\\" in value)


def _limits(value: Mapping[str, Any]) -> Limits:
    for item in fields(Limits):
        if type(value.get(item.name)) is not type(item.default):
            raise ValueError(f"'limits': '{item.name}' is missing or not what is written there")
    return Limits(**{item.name: value[item.name] for item in fields(Limits)})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


def _are_choices(value: Any) -> bool:
    return _is_object(value) and all(map(_are_names, value.values()))


def _are_scores(value: Any) -> bool:
    """Whether it is numbers, three names deep."""
    level = [value]
    for _ in range(3):
        if not all(map(_is_object, level)):
            return False
        level = [below for above in level for below in above.values()]
    return all(type(number) in (int, float) for number in level)


_HOLDS: dict[str, Callable[[Any], bool]] = {
    "system": _is_text,
    "encoder": _is_text,
    "trained_on": _are_names,
    "selected_on": _are_choices,
    "limits": _is_object,
    "details": _is_object,
    "scores": _are_scores,
    "task": lambda value: value is None or _is_text(value),
    "complete": lambda value: isinstance(value, bool),
}
