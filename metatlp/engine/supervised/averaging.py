"""The mean of a run's last checkpoints, as a model of its own beside the last one."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from metatlp.engine import checkpoint
from metatlp.engine.models import export_models
from metatlp.engine.overview import score_lines
from metatlp.engine.parameters.whole import whole_model
from metatlp.engine.run_state import copy_pieces
from metatlp.engine.supervised.loop import Supervised
from metatlp.errors import InputError


def mean_of_checkpoints(run: Supervised, number: int, tokenizer: Any) -> None:
    """Write the mean of the last checkpoints to averaged/models, with its dev scores.

    The sum is taken in float64. Every rank takes part.

    Args:
        number: of checkpoints, of those that --save-every planned.

    Raises:
        InputError: a checkpoint is damaged, or the models cannot be written.
    """
    parameters = run.parameters
    there = checkpoint.paths(run.folder / "checkpoints")
    folders = [path for path in there if run.scheduled(checkpoint.step_of(path))][-number:]
    if len(folders) < number:
        raise InputError(
            f"--average-last {number}: {len(folders)} checkpoints of --save-every are left in "
            f"{run.folder / 'checkpoints'}"
        )
    with run.placement.together():
        total = torch.zeros_like(parameters.live, dtype=torch.float64)
        one = torch.zeros_like(parameters.live)
        for folder in folders:
            copy_pieces(checkpoint.load(folder), "theta", one, parameters.pieces)
            total += one
        parameters.live.copy_(total / len(folders))
    parameters.publish()
    scores = run.evaluator.scores()
    steps = ", ".join(str(int(folder.name.removeprefix("step_"))) for folder in folders)
    run.log.say(f"mean of the {len(folders)} checkpoints after updates {steps}:")
    for line in score_lines(run.update, scores, "update")[1:]:
        run.log.say(line)
    dev = {str(tlp): values for tlp, values in scores.items()}
    averaged = dataclasses.replace(
        run.provenance,
        system="mtl-averaged",
        details={**run.provenance.details, "averaged after updates": steps},
        scores={"dev": dev} if dev else {},
    )
    path, model = run.folder / "averaged" / "models", whole_model(parameters, run.placement)
    with run.placement.together():
        if run.placement.is_main:
            export_models(model, tokenizer, path, averaged)
    run.log.say(f"their models in {path}")
