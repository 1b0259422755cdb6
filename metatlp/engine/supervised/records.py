"""What finetuning writes down: results, and where its models come from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatlp.engine.provenance import Provenance
from metatlp.engine.same_run import FREE_FLAGS, RunIdentity
from metatlp.engine.supervised.call import Finetuning
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS

# What is scored decides what is kept, and stands in the results.
FREE = FREE_FLAGS - {"eval_every", "eval_examples"}
Scores = dict[str, dict[str, float]]  # split -> metric -> value
_KEYS = {"tlp", "shots", "seed", "lr", "updates", "identity"}


@dataclass(frozen=True)
class Step:
    """A training with one learning rate.

    Attributes:
        lr: the rate. examples: that trained.
        updates: of the whole training. update: after which its result was there.
        dev: scores of the result. evaluations: of dev, that it was chosen from.
    """

    lr: float
    examples: int
    updates: int
    update: int
    dev: dict[str, float] | None = None
    evaluations: int = 0


def provenance_of(
    one: Finetuning, step: Step, scores: Scores | None = None, num_rates: int = 1
) -> Provenance:
    """Of the model of a training, with the history of what it started from.

    Args:
        scores: on the test files.
        num_rates: from which dev chose this one.
    """
    call, own = one.call, str(one.tlp)
    before = call.origin.history(own.partition("_")[0])
    selected = {what: tuple(tlps) for what, tlps in before.selected_on.items()} if before else {}
    chosen = {
        "update of finetuning": call.flags.select == "best" and step.evaluations > 1,
        "learning rate of finetuning": num_rates > 1,
    }
    for what in (name for name, did in chosen.items() if did):
        selected[what] = tuple(dict.fromkeys([*selected.get(what, ()), own]))
    arguments = one.arguments(step.lr)
    if call.flags.init_from is not None:
        arguments["model"] = None  # it follows, and a command has one of the two
    by_split = ({"dev": step.dev} if step.dev else {}) | (scores or {})
    return Provenance(
        system="finetuned",
        encoder=before.encoder if before else call.origin.encoder,
        trained_on=tuple(dict.fromkeys([*(before.trained_on if before else ()), own])),
        selected_on=selected,
        limits=call.data.limits(),
        details={
            "script": "finetune.py",
            "arguments": arguments,
            "started from": before.system if before else call.origin.kind,
            "examples": step.examples,
            "learning rate": step.lr,
            "updates": f"{step.update} of {step.updates}",
            "seed": one.seed,
        },
        scores={split: {own: values} for split, values in by_split.items()},
        complete=call.origin.known(one.tlp.task),
    )


def result_line(tlp: TLP, result: Mapping[str, Any]) -> str:
    """A result in one line (percent)."""
    metric = TASKS[tlp.task].metric
    scores = ", ".join(f"{k} {100 * v[metric]:.2f}" for k, v in result["scores"].items())
    tried = ", ".join(
        f"{trial['lr']:g}: {100 * trial['dev'][metric]:.2f}"
        for trial in result["trials"]
        if trial["dev"]
    )
    kept = f"; dev by learning rate: {tried}; kept {result['lr']:g}" if tried else ""
    return f"{tlp}, {result['shots']} examples, seed {result['seed']}: {metric} {scores}{kept}"


def read_result(folder: Path) -> dict[str, Any]:
    """result.json of a training.

    Raises:
        InputError: it is not there, or damaged.
    """
    path = folder / "result.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; all processes must see --output-dir"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error}); remove {folder} to train anew") from error
    whole = isinstance(found, dict) and found.keys() >= _KEYS
    if not whole or not isinstance(found["identity"], dict) or "arguments" not in found["identity"]:
        raise InputError(f"{path}: damaged (not a result); remove {folder} to train anew")
    return found


def has_result(one: Finetuning, folder: Path, *rates: float) -> bool:
    """Whether folder/result.json is there, from before.

    Raises:
        InputError: it is of other flags or data, or damaged.
    """
    found = (folder / "result.json").exists()
    if found:
        saved = RunIdentity.of_checkpoint(read_result(folder)["identity"])
        own = dataclasses.replace(
            one.identity(*rates), num_steps=saved.num_steps, theta_0=saved.theta_0
        )
        difference = saved.difference(own, FREE)
        if difference:
            raise InputError(f"--resume: {folder}/result.json was made with {difference}")
    return found
