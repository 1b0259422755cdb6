"""What makes a run this run: every rank must have the same, and a resumed run the same as before.

Knows names and values; knows neither a model nor what any flag does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from metatlp.engine.placement import AgreedError, Placement
from metatlp.model.arena import Layout
from metatlp.model.multitask import MultiTaskModel

# Flags that change nothing of what is learned; all others must be the same on resuming.
FREE_FLAGS = frozenset(
    {
        "cache_dir",
        "data_dir",
        "debug",
        "dry_run",
        "eval_batch_size",
        "eval_every",
        "eval_examples",
        "keep",
        "output_dir",
        "own_data",
        "preset",  # a name for values of other flags
        "ranks_per_tlp",
        "report_to",
        "resume",
        "save_every",
    }
)
# Flags that may differ between the ranks of a run: where things lie on each machine.
PLACES = frozenset({"cache_dir", "data_dir", "output_dir", "own_data"})


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for the same bits.

    Attributes:
        arguments: resolved flags.
        data: TLP -> fingerprint of its encoded training data.
        num_steps: meta steps, or updates, of the whole run.
        mixed_precision: `no` or `bf16`.
        theta_0: checksum of the initial parameters.
    """

    arguments: Mapping[str, Any]
    data: Mapping[str, str]
    num_steps: int
    mixed_precision: str
    theta_0: str

    @classmethod
    def of_checkpoint(cls, state: Mapping[str, Any]) -> RunIdentity:
        # None for what a checkpoint of an earlier version does not say.
        found: dict[str, Any] = {field.name: state.get(field.name) for field in fields(cls)}
        return cls(**found)

    def as_json(self) -> dict[str, Any]:
        """Its fields by name, JSON-able."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def difference(self, other: RunIdentity, free: frozenset[str] = FREE_FLAGS) -> str | None:
        """What this run has and the other has not, in words that follow `with`; None if nothing.

        Args:
            free: flags that are not compared.
        """
        differs = flag_difference(self.arguments, other.arguments, free)
        if differs:
            return differs
        if self.mixed_precision != other.mixed_precision:
            return f"mixed precision {self.mixed_precision}, not {other.mixed_precision}"
        for tlp in sorted(self.data.keys() | other.data.keys()):
            if self.data.get(tlp) != other.data.get(tlp):
                return f"other data for {tlp}"
        if self.num_steps != other.num_steps:
            return f"{self.num_steps} steps, not {other.num_steps}"
        if self.theta_0 != other.theta_0:
            return "other initial parameters: what --model names is not the same"
        return None


def flag_difference(
    own: Mapping[str, Any], other: Mapping[str, Any], free: frozenset[str]
) -> str | None:
    """The first flag whose values differ, as `--tau 5.0, not 4.0`; None if there is none."""
    for name in sorted((own.keys() | other.keys()) - free):
        if own.get(name) != other.get(name):
            return f"--{name.replace('_', '-')} {own.get(name)}, not {other.get(name)}"
    return None


def check_flags(arguments: Mapping[str, Any], placement: Placement) -> None:
    """Before anything else, for the flags decide which collectives follow. Every rank takes part.

    Raises:
        AgreedError: a rank was started with other flags than the main process.
    """
    gathered = placement.gather([dict(arguments)])
    for rank, other in enumerate(gathered):
        _refuse(rank, flag_difference(other, gathered[0], PLACES))


def check_same_run(identity: RunIdentity, placement: Placement) -> None:
    """Once everything is built. Every rank takes part.

    Raises:
        AgreedError: a rank has other data, another precision or other initial parameters than the
            main process.
    """
    gathered = placement.gather([identity])
    for rank, other in enumerate(gathered):
        _refuse(rank, other.difference(gathered[0]))


def checksum(model: MultiTaskModel) -> str:
    """sha256 of the parameters, float32, as an arena would hold them; wherever they will lie."""
    parameters, layout = model.named_uses(), Layout.of(model.named_uses())
    digest, end = hashlib.sha256(), 0
    for name, place in layout.places.items():
        digest.update(bytes(4 * (place.start - end)))
        digest.update(parameters[name][0].detach().cpu().contiguous().view(-1).numpy().data)
        end = place.stop
    digest.update(bytes(4 * (layout.length - end)))
    return digest.hexdigest()


def where_it_runs(placement: Placement) -> dict[str, Any]:
    """What may change between a stop and a resumption, but can change bits."""
    threads = placement.describe()["threads_per_process"]
    return {"device": placement.device.type, "threads_per_process": threads}


def moved_line(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A line for people if a run goes on elsewhere than it was; None if not."""
    if before == now:
        return None
    was, at = (f"{w.get('device')}, {w.get('threads_per_process')} threads" for w in (before, now))
    return f"note: the checkpoint was made on {was} per process, this is {at}; last bits may differ"


def _refuse(rank: int, difference: str | None) -> None:
    if difference:
        raise AgreedError(
            f"process {rank} differs from process 0: {difference}; start all with the same flags, "
            "data and --model"
        )
