"""A forward and a backward pass of one task. Knows a model; knows no rank and no optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor

from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks import TASKS
from metatlp.tasks.task import model_inputs


def backward(
    model: MultiTaskModel,
    task: str,
    batch: dict[str, Tensor],
    autocast: Callable[[], AbstractContextManager],
    weight: float = 1.0,
) -> Tensor:
    """Add `weight` times the gradient of the batch's mean loss to the parameters' gradients.

    Returns:
        () the mean loss (nats), without the weight.
    """
    with autocast():
        outputs = model(task, model_inputs(batch))
    loss = TASKS[task].loss(outputs, batch)
    (loss if weight == 1.0 else weight * loss).backward()
    return loss.detach()
