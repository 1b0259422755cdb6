"""The whole model of a placement, for the main process to export.

Knows placements and models; knows no file.
"""

from __future__ import annotations

from metatlp.engine.parameters.gather import assemble
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.placement import Placement
from metatlp.model.multitask import MultiTaskModel, empty_copy
from metatlp.tasks import TASKS


def whole_model(parameters: Parameters, placement: Placement) -> MultiTaskModel:
    """The model at the live parameters, on the main process. Every rank takes part.

    Where the parameters are cut, it is a copy in the main memory of the main process; on other
    processes what is returned is of no use.
    """
    model, mesh = parameters.model, parameters.mesh
    if parameters.replicated:
        return model
    named = {}
    if mesh.group == 0:
        first = dict.fromkeys(parameters.pieces.shapes, 0)
        named = assemble(mesh, parameters.pieces, parameters.live, placement.device, first)
    if not placement.is_main:
        return model
    whole = empty_copy(model, {task: TASKS[task].auto_class for task in model.models})
    for name, (parameter, _) in whole.named_uses().items():
        parameter.data.copy_(named.pop(name))
    return whole
