"""Exported models: one ordinary folder per task, written, found and loaded again.

    RUN/models/TASK/    configuration, weights, tokenizer, README.md (model card), metatlp.json

Knows folders and transformers' models; knows no run and no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metatlp.data.whole_folder import remove_unfinished, whole_folder
from metatlp.engine.model_card import model_card
from metatlp.engine.provenance import Provenance, read
from metatlp.errors import InputError
from metatlp.model.multitask import MultiTaskModel, errors_named, load_config
from metatlp.tasks import TASKS

CONFIG, MODELS = "config.json", "models"


def export_models(
    model: MultiTaskModel, tokenizer: Any, folder: Path, provenance: Provenance
) -> None:
    """Write one ordinary model per task, in folders of the tasks' names.

    `folder` appears whole, and takes the place of one that is there.

    Raises:
        InputError: they cannot be written.
    """
    owners = {task: replace(provenance, task=task) for task in model.models}
    cards = {task: model_card(own) for task, own in owners.items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        with whole_folder(folder) as unfinished:
            for task, own in owners.items():
                path = unfinished / task
                model.export(task, path)
                tokenizer.save_pretrained(path)
                own.write(path)
                (path / "README.md").write_text(cards[task], encoding="utf-8")
            if folder.is_dir():
                folder.rename(unfinished.parent / "before")
    except Exception as error:
        # A full disk is an error of safetensors' own, and a plain Exception of tokenizers.
        raise InputError(f"--output-dir: cannot write {folder}: {error}") from error


def find_models(path: str, flag: str = "--model") -> dict[str, Path]:
    """Task -> folder of its model.

    Args:
        path: a run (it has models/), a folder of TASK folders, or one TASK folder.
        flag: that names it, for errors.

    Raises:
        InputError: none of these, with what would be right.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{flag} {path}: no such folder")
    if (folder / CONFIG).is_file():
        return {_task_of(folder, flag): folder}
    where = folder / MODELS if (folder / MODELS).is_dir() else folder
    found = {task: where / task for task in TASKS if (where / task / CONFIG).is_file()}
    if found:
        return found
    if (folder / "checkpoints").is_dir():
        raise InputError(
            f"{flag} {path}: the run has no models yet; finish it with --resume auto, or write "
            f"those of its newest checkpoint with python -m metatlp.export --run {path}"
        )
    if (folder / "results.json").is_file():
        raise InputError(
            f"{flag} {path}: a call of finetune.py, with a model for each training; name one, such "
            f"as {path}/qa_hi/seed_0"
        )
    raise InputError(
        f"{flag} {path}: neither a run (with models/), nor a folder of TASK folders, nor one of "
        "these (with config.json)"
    )


def load_task_model(
    folder: Path, task: str, device: torch.device, attention: str = "sdpa"
) -> MultiTaskModel:
    """The model of exactly one task, for evaluation, in float32.

    Raises:
        InputError: its labels are not the task's in their order, it has no weights for the task's
            head, or it cannot be loaded.
    """
    _check_labels(folder, task, _labels(load_config(str(folder), None)))
    auto: Any = TASKS[task].auto_class
    with errors_named(f"--model {folder}"):
        model, report = auto.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=attention,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"--model {folder}: has no weights for {missing[0]}; it is no model of task '{task}', "
            "but perhaps an encoder alone"
        )
    return MultiTaskModel({task: model}).to(device).eval()


def _task_of(folder: Path, flag: str) -> str:
    """The task of a folder with config.json: what metatlp.json says, or whose head it has."""
    provenance = read(folder)
    if provenance is not None and provenance.task is not None:
        if provenance.task not in TASKS:
            raise InputError(f"{flag} {folder}: is of task '{provenance.task}', {_choices(TASKS)}")
        return provenance.task
    config = load_config(str(folder), None)
    heads = [
        code
        for code, task in TASKS.items()
        if any(name.endswith(_head(task.auto_class)) for name in config.architectures or ())
    ]
    if not heads:
        raise InputError(
            f"{flag} {folder}: is {_named(config)}, without a head of any task; train one first, "
            "or name a run or an exported model"
        )
    found = [code for code in heads if _labels(config) == TASKS[code].labels]
    if len(found) != 1:
        raise InputError(
            f"{flag} {folder}: {_named(config)} with labels {', '.join(_labels(config))}, which "
            f"are those of {len(found)} of the tasks {', '.join(heads)}; metatlp.json would say"
        )
    return found[0]


def _head(auto_class: type) -> str:
    """`ForTokenClassification` of AutoModelForTokenClassification."""
    return auto_class.__name__.removeprefix("AutoModel")


def _named(config: Any) -> str:
    return ", ".join(config.architectures or ["a configuration without architecture"])


def _labels(config: Any) -> tuple[str, ...]:
    return tuple(config.id2label[i] for i in sorted(config.id2label))


def _check_labels(folder: Path, task: str, found: Sequence[str]) -> None:
    expected = TASKS[task].labels
    if tuple(found) != tuple(expected):
        raise InputError(
            f"--model {folder}: has the labels {', '.join(found)}; task '{task}' needs, in this "
            f"order, {', '.join(expected)}"
        )


def _choices(names: Any) -> str:
    return f"not one of {', '.join(names)}"
