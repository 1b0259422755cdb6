"""Write the models of a run, or of one of its checkpoints, as ordinary folders, one per task.

    python -m metatlp.export --run runs/meta --output-dir exported --push-to-hub NAME

A finished run has its models already, and they are copied; of one that was stopped, those of its
newest whole checkpoint are built.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metatlp.data.whole_folder import whole_folder
from metatlp.engine import checkpoint, provenance
from metatlp.engine.models import MODELS, export_models, find_models
from metatlp.engine.reopen import reopen, saved_provenance
from metatlp.errors import InputError
from metatlp.export.hub import check_push, push
from metatlp.model.multitask import MultiTaskModel
from metatlp.script import ScriptParser, exit_code

PROGRAM = "python -m metatlp.export"


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return exit_code(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> None:
    """Export, and push if that is asked for.

    Raises:
        InputError: a bad flag, run or checkpoint; the folder cannot be written; a failed push.
    """
    flags = _parser().parse_args(argv)
    output = Path(flags.output_dir)
    if output.exists() and (not output.is_dir() or os.listdir(output)):
        raise InputError(f"--output-dir {output}: is not empty")
    if flags.private and not flags.push_to_hub:
        raise InputError("--private belongs to --push-to-hub")
    if flags.push_to_hub:
        check_push(flags.push_to_hub)
    wanted = None if flags.tasks is None else [t.strip() for t in flags.tasks.split(",")]
    models = finished_models(Path(flags.run))
    if models is None:
        export_checkpoint(find_checkpoint(flags.run), output, wanted, flags.model, flags.tokenizer)
    elif flags.model or flags.tokenizer:
        raise InputError("--model and --tokenizer belong to checkpoints; this run has its models")
    else:
        _copy(models, output, wanted)
    for task, folder in find_models(str(output)).items():
        print(f"{task}: {folder}")
    if flags.push_to_hub:
        for address in push(find_models(str(output)), flags.push_to_hub, flags.private):
            print(f"pushed {address}")


def finished_models(run_folder: Path) -> dict[str, Path] | None:
    """Task -> folder of the models that a finished run has, or of an exported folder; else None."""
    if (run_folder / checkpoint.MANIFEST).is_file():
        return None
    is_run = (run_folder / "checkpoints").is_dir()
    if is_run and not (run_folder / MODELS).is_dir():
        return None
    found = find_models(str(run_folder), "--run")
    # Those of earlier versions do not say where they come from, but a checkpoint does.
    complete = all((folder / provenance.FILE).is_file() for folder in found.values())
    return found if complete or not is_run else None


def find_checkpoint(path: str) -> checkpoint.Checkpoint:
    """A checkpoint's folder, or the newest whole one of a run.

    Raises:
        InputError: there is none, or it is damaged.
    """
    folder = Path(path)
    if (folder / checkpoint.MANIFEST).is_file():
        return checkpoint.load(folder)
    found = checkpoint.find(folder / "checkpoints", "auto", print)
    if found is None:
        raise InputError(f"--run {path}: has no checkpoint yet")
    return found


def export_checkpoint(
    saved: checkpoint.Checkpoint,
    output: Path,
    tasks: Sequence[str] | None = None,
    encoder: str | None = None,
    tokenizer: str | None = None,
) -> None:
    """Write the models of a checkpoint.

    Args:
        output: a new or empty folder.
        tasks: None: all.
        encoder, tokenizer: where they lie now; None: where they were.

    Raises:
        InputError: an unknown task, or as `reopen`, `saved_provenance` and `export_models`.
    """
    model, loaded = reopen(saved, print, encoder, tokenizer)
    chosen = _chosen(model.models, tasks)
    own = saved_provenance(saved, dev_scores(saved))
    export_models(MultiTaskModel(chosen), loaded, output, own)


def dev_scores(saved: checkpoint.Checkpoint) -> dict[str, dict[str, dict[str, float]]]:
    """What the run's metrics.jsonl says of the checkpoint's step; empty if it was not scored."""
    metrics = saved.path.resolve().parent.parent / "metrics.jsonl"
    found: dict[str, dict[str, dict[str, float]]] = {}
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
    except OSError:
        # A checkpoint may be moved away from its run.
        return found
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            # A run that was killed may leave half a line.
            continue
        if record.get("step") == saved.state["step"] and "dev" in record:
            found = {"dev": record["dev"]}
    return found


def _chosen(there: Any, tasks: Sequence[str] | None) -> dict[str, Any]:
    for task in tasks or ():
        if task not in there:
            raise InputError(f"--tasks {task}: not in this run, which has {', '.join(there)}")
    return {task: value for task, value in there.items() if tasks is None or task in tasks}


def _copy(models: dict[str, Path], output: Path, tasks: Sequence[str] | None) -> None:
    chosen = _chosen(models, tasks)
    try:
        with whole_folder(output) as unfinished:
            for task, folder in chosen.items():
                provenance.read(folder)
                shutil.copytree(folder, unfinished / task)
    except OSError as error:
        raise InputError(f"--output-dir: cannot write {output}: {error}") from error


def _parser() -> ScriptParser:
    parser = ScriptParser(PROGRAM, (__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--run", required=True, help="folder of a run, or of one of its checkpoints")
    add("--output-dir", required=True, help="a new or empty folder, for a folder per task")
    add("--tasks", help="only these, as in pos,ner [all]")
    add("--model", help="where the encoder of a checkpoint's run lies now, if it was moved")
    add("--tokenizer", help="the same of its tokenizer")
    add("--push-to-hub", help="also upload, as repositories NAME-pos and so on", metavar="NAME")
    add("--private", action="store_true", help="new repositories of --push-to-hub are private")
    return parser
