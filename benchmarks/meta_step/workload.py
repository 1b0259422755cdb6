"""What all variants are measured on: the same models, queues and batches.

Knows the project's data and model; knows no variant and no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatlp.data.prefetch import EpisodeLoader
from metatlp.data.streams import BatchStream
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.build import heads
from metatlp.engine.grid_data import load_grid
from metatlp.engine.placement import Placement
from metatlp.engine.plan import Slot, build_queue
from metatlp.grid import TLP
from metatlp.model.multitask import HeadSpec, MultiTaskModel, build_model, load_tokenizer
from metatlp.tasks.task import IGNORED, Batch, Padding

FILL = {"attention_mask": 0, "labels": IGNORED}


@dataclass(frozen=True)
class Workload:
    """m slots of k batches per step, the same for every variant.

    Attributes:
        queues: step -> its m slots.
        longest: task code -> longest row that its flags allow, in tokens.
    """

    model_name: str
    specs: dict[str, HeadSpec]
    streams: dict[TLP, BatchStream]
    padding: Padding
    placement: Placement
    queues: list[list[Slot]]
    inner_steps: int
    longest: dict[str, int]

    @property
    def device(self) -> torch.device:
        return self.placement.device

    @property
    def cost(self) -> dict[TLP, float]:
        return {tlp: stream.expected_tokens for tlp, stream in self.streams.items()}

    def model(self, dropout: float | None = None) -> MultiTaskModel:
        return build_model(self.model_name, self.specs, seed=0, dropout=dropout).to(self.device)

    def loader(self, num_parts: int = 1, own: Sequence[int] = (0,)) -> EpisodeLoader:
        """
        Args:
            num_parts: in which every batch is cut. own: this rank's.
        """
        return EpisodeLoader(
            self.streams,
            self.padding,
            self.inner_steps,
            pin_memory=self.device.type == "cuda",
            num_parts=num_parts,
            own=own,
        )

    def batches(self, step: int, longest: bool = False) -> list[list[Batch]]:
        """The k batches of each slot on the device; padded to the limit with `longest`."""
        with self.loader() as loader:
            episodes = [
                [batch.tensors for (batch,) in loader.take(slot.tlp, slot.episode)]
                for slot in self.queues[step]
            ]
        if longest:
            episodes = [
                [self._pad(batch, self.longest[slot.tlp.task]) for batch in batches]
                for slot, batches in zip(self.queues[step], episodes, strict=True)
            ]
        return [[self.to_device(batch) for batch in batches] for batches in episodes]

    def to_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    def tokens(self, step: int) -> int:
        """Real tokens of a step, padding left out."""
        episodes = self.batches(step)
        return sum(int(batch["attention_mask"].sum()) for batches in episodes for batch in batches)

    def _pad(self, batch: Batch, length: int) -> Batch:
        fill = {
            **FILL,
            "input_ids": self.padding.input_id,
            "token_type_ids": self.padding.type_id,
        }
        return {name: _fill(tensor, length, fill.get(name)) for name, tensor in batch.items()}


def build_workload(
    data: DataArguments, model: str, m: int | None, k: int, num_steps: int, placement: Placement
) -> Workload:
    """The slots of a step are the selected TLPs in turn. Every rank takes part.

    Args:
        m: slots per step; None: one per TLP.

    Raises:
        InputError: data or model that cannot be used.
    """
    tokenizer = load_tokenizer(model)
    grid_data = load_grid(data, tokenizer, 1, placement, lambda line: None)
    streams = {
        tlp: BatchStream(split, tlp, data.batch_sizes()[tlp.task], seed=0)
        for tlp, split in grid_data.train.items()
    }
    tlps = grid_data.grid.tlps
    cursors: Counter[TLP] = Counter()
    drawn = [tlps[i % len(tlps)] for i in range(m or len(tlps))]
    limits = data.limits()
    return Workload(
        model_name=model,
        specs=heads(grid_data),
        streams=streams,
        padding=Padding.of(tokenizer),
        placement=placement,
        queues=[build_queue(drawn, cursors) for _ in range(num_steps)],
        inner_steps=k,
        longest={
            tlp.task: limits.qa_max_length if tlp.task == "qa" else limits.max_length
            for tlp in tlps
        },
    )


def _fill(tensor: Tensor, length: int, value: int | None) -> Tensor:
    if value is None or tensor.dim() != 2 or tensor.shape[1] >= length:
        return tensor
    return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]), value=value)
