"""The first lines of a run: grid, sizes, probabilities, placement, cost. Nothing here acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metatlp.data.streams import BatchStream
from metatlp.engine.grid_data import GridData
from metatlp.engine.replicated import AveragingConfig
from metatlp.grid import TLP
from metatlp.tasks import TASKS

_NOTEWORTHY = 5  # counts named per line before the rest is left to data.json


@dataclass(frozen=True)
class Cost:
    """Memory and communication of the replicated strategy.

    Per parameter, in float32 words: live, gradient, start, theta_0; exp_avg, exp_avg_sq, under
    `average` with their starts; one total per averaged vector (two words under `exact`); velocity.
    """

    num_parameters: int
    config: AveragingConfig

    @property
    def num_averaged(self) -> int:
        return 3 if self.config.inner_state == "average" else 1

    @property
    def bytes_per_parameter(self) -> int:
        total_bytes = 8 if self.config.reduce == "exact" else 4
        words = 4 + 2 + (self.num_averaged - 1) + bool(self.config.momentum)
        return 4 * words + total_bytes * self.num_averaged

    @property
    def memory(self) -> int:
        """Bytes per rank, activations left out."""
        return self.bytes_per_parameter * self.num_parameters

    @property
    def communication(self) -> int:
        """Bytes that each rank puts into the all-reduce of one meta step."""
        width = {"exact": 8, "fp32": 4, "bf16": 2}[self.config.reduce]
        return width * self.num_averaged * self.num_parameters


def grid_lines(
    data: GridData, streams: Mapping[TLP, BatchStream], probs: Sequence[float]
) -> list[str]:
    """A table of the TLPs that train, and what reading and encoding counted."""
    lines = [
        f"{len(data.grid.tlps)} TLPs from {data.source.describe()}",
        f"{'TLP':<8}{'examples':>9}{'rows':>8}{'batch':>6}{'tokens/batch':>13}{'share':>8}"
        f"{'p':>8}{'dev':>7}",
    ]
    total = sum(split.num_examples for split in data.train.values())
    for tlp, p in zip(data.grid.tlps, probs, strict=True):
        split, stream = data.train[tlp], streams[tlp]
        dev = data.dev[tlp].encoded.num_examples if tlp in data.dev else 0
        lines.append(
            f"{tlp!s:<8}{split.num_examples:>9}{split.num_rows:>8}{stream.batch_size:>6}"
            f"{stream.expected_tokens:>13.0f}{split.num_examples / total:>8.4f}{p:>8.4f}{dev:>7}"
        )
    without = [str(tlp) for tlp in data.grid.tlps if tlp not in data.dev]
    if without:
        lines.append(f"no dev data, so not evaluated: {', '.join(without)}")
    for split_name, per_tlp in data.counts().items():
        for name, counts in per_tlp.items():
            notes = [f"{key} {n}" for key, n in counts.items() if key != "read" and n]
            if notes:
                shown = ", ".join(notes[:_NOTEWORTHY])
                more = f", and {len(notes) - _NOTEWORTHY} more" if len(notes) > _NOTEWORTHY else ""
                lines.append(f"{name} {split_name}: read {counts.get('read', 0)}; {shown}{more}")
    return lines


def score_lines(step: int, scores: Mapping[TLP, Mapping[str, float]]) -> list[str]:
    """Dev scores by task and language, and each task's mean (percent)."""
    lines = [f"dev after meta step {step}:"]
    for code, task in TASKS.items():
        own = {tlp.lang: values[task.metric] for tlp, values in scores.items() if tlp.task == code}
        if own:
            cells = "  ".join(f"{lang} {100 * value:.2f}" for lang, value in own.items())
            mean = 100 * sum(own.values()) / len(own)
            lines.append(f"  {code:<4}{task.metric:<9} mean {mean:.2f}   {cells}")
    return lines


def run_lines(
    placement: Mapping[str, Any], cost: Cost, num_steps: int, slots: int, inner_steps: int
) -> list[str]:
    """Placement, model size, steps, memory and communication."""
    where = ", ".join(f"{key} {value}" for key, value in placement.items() if value is not None)
    sent = cost.communication if placement["processes"] > 1 else 0
    return [
        f"placement: {where}",
        f"model: {cost.num_parameters:,} parameters; {cost.memory / 2**30:.2f} GiB per rank "
        f"({cost.bytes_per_parameter} bytes per parameter), activations left out",
        f"meta steps: {num_steps}, each {slots} slots of {inner_steps} inner steps; "
        f"{sent / 2**20:.0f} MiB per rank into its all-reduce",
    ]
