"""Whether the flags, the processes, the encoder and the data go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from metatlp.data.encoded import EncodedSplit
from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.grid_data import GridData
from metatlp.engine.mesh import Mesh, build_mesh
from metatlp.engine.placement import AgreedError, Placement
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import load_config


def lay_out(
    meta: MetaArguments, run: RunArguments, placement: Placement
) -> tuple[Mesh, MetaArguments]:
    """The TLP groups of the run, and its flags with the parts of a batch that they come to.

    Every rank takes part.

    Raises:
        InputError: the flags and the world that the launcher made do not go together.
    """
    ranks = run.ranks_per_tlp or placement.usual_ranks_per_tlp
    parts = meta.batch_parts or ranks
    # Flags are compared later; but all must make the same process groups, or none meets another.
    if len(set(placement.gather([(ranks, parts)]))) > 1:
        raise AgreedError(
            "--ranks-per-tlp and --batch-parts, or the number of processes per machine, differ "
            "between the processes; give all the same"
        )
    with placement.together():
        _check_placement(meta, run, placement)
        if placement.world % ranks:
            raise InputError(
                f"--ranks-per-tlp {ranks}: does not divide the number of processes, "
                f"{placement.world}"
            )
        if parts % ranks:
            raise InputError(
                f"--batch-parts {parts}: must be a multiple of --ranks-per-tlp, {ranks}"
            )
    mesh = build_mesh(placement.rank, placement.world, ranks, placement.device)
    return mesh, dataclasses.replace(meta, batch_parts=parts)


def _check_placement(meta: MetaArguments, run: RunArguments, placement: Placement) -> None:
    if meta.inner_state == "carry" and placement.world > 1:
        raise InputError(
            f"--inner-state carry is sequential: it needs one process, not {placement.world}; "
            "or use --inner-state average"
        )
    if run.debug:
        if placement.world > 1:
            raise InputError(f"--debug runs in one process, not {placement.world}")
        torch.autograd.set_detect_anomaly(True)


def check_encoder(model: str, tokenizer: Any, grid_data: GridData) -> None:
    """What an encoder must take: every id of the tokenizer, and every row of the data.

    Raises:
        InputError: it does not; the model would fail on them without saying why.
    """
    dev = [(tlp, split.encoded) for tlp, split in grid_data.dev.items()]
    check_rows(model, tokenizer, [*grid_data.train.items(), *dev])


def check_rows(model: str, tokenizer: Any, splits: Iterable[tuple[TLP, EncodedSplit]]) -> None:
    """The same for some splits."""
    config = load_config(model, None)
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"--tokenizer: has {len(tokenizer)} word pieces, but --model {model} knows "
            f"{config.vocab_size}"
        )
    positions = _positions(config)
    for tlp, split in splits:
        longest = int(split.tokens.max())
        if positions is not None and longest > positions:
            flag = "--qa-max-length" if tlp.task == "qa" else "--max-length"
            raise InputError(
                f"{flag}: {tlp} has a row of {longest} word pieces, but --model {model} takes "
                f"{positions} at most"
            )


def _positions(config: Any) -> int | None:
    """The longest input of an encoder with learned positions, None for another one."""
    positions = getattr(config, "max_position_embeddings", None)
    # -1 and no biased input: relative positions, of any length (XLNet; DeBERTa).
    if not positions or positions < 0 or not getattr(config, "position_biased_input", True):
        return None
    # RoBERTa and its kin number positions from behind the padding token's id.
    return positions - (config.pad_token_id + 1 if "roberta" in config.model_type else 0)
