"""The first steps of every script that trains: the processes, the demo, the folder, the tokenizer.

Every rank takes part in all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from metatlp.engine.arguments.data import SourceArguments
from metatlp.engine.arguments.encoder import EncoderArguments
from metatlp.engine.arguments.meta import OutputArguments
from metatlp.engine.demo import build_demo
from metatlp.engine.mesh import Mesh
from metatlp.engine.overview import placement_lines
from metatlp.engine.placement import Placement
from metatlp.engine.run_log import RunLog
from metatlp.engine.same_run import check_flags
from metatlp.model.multitask import load_config, load_tokenizer
from metatlp.tasks.task import Padding

Encoder = TypeVar("Encoder", bound=EncoderArguments)


def open_run(
    data: SourceArguments,
    encoder: Encoder,
    run: OutputArguments,
    placement: Placement,
    log: RunLog,
    arguments: dict[str, Any],
    first_lines: Sequence[str],
    slots: tuple[Mesh, int] | None = None,
    begins_with: str | None = None,
) -> tuple[Encoder, Any]:
    """Check what can be checked before any data is read; make the run's folder.

    Args:
        arguments: all flags, as the run resolves them.
        first_lines: what is said first.
        slots: the TLP groups and m, where there are slots that some groups may have none of.
        begins_with: folder of the model it begins with, if that is not --model.

    Returns:
        The flags, with the demo's encoder as --model if it is that, and the tokenizer.

    Raises:
        InputError: on every rank, whichever met it.
    """
    check_flags(arguments, placement)
    for line in (*first_lines, *placement_lines(placement.describe(), *(slots or ()))):
        log.say(line)
    if not run.dry_run:
        with placement.together():
            log.check_folder(run.resume)
    if data.source == "demo":
        encoder = build_demo(data, encoder, placement, log.say_here)
    model = begins_with or encoder.model
    assert model is not None
    with placement.together():
        load_config(model, encoder.dropout)
        tokenizer = load_tokenizer(encoder.tokenizer or model)
        Padding.of(tokenizer)
    if not run.dry_run:
        with placement.together():
            log.open(arguments)
    return encoder, tokenizer
