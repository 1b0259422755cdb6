"""All parameters of a model in one flat float32 vector, their gradients in another.

Knows parameters and the tasks that use them; knows no data, no optimizer, no rank.
P: number of elements of the arena, padding included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Elements. Every parameter starts at a multiple of 128 bytes, which matrix products and 16-byte
# vector accesses like. The padding stays zero: its gradient is zero, so AdamW never moves it.
ALIGNMENT = 32


@dataclass(frozen=True)
class Segment:
    """A contiguous part of the arena whose parameters serve the same tasks."""

    name: str
    tasks: frozenset[str]
    start: int
    stop: int

    @classmethod
    def of(cls, tasks: frozenset[str], start: int, stop: int) -> Segment:
        """Named after its tasks."""
        return cls("+".join(sorted(tasks)), tasks, start, stop)

    @property
    def span(self) -> slice:
        return slice(self.start, self.stop)


def by_tasks(uses: Mapping[str, tuple[Any, frozenset[str]]]) -> dict[frozenset[str], list[str]]:
    """Tasks -> names of what these use, what most tasks share first: the order of segments.

    Args:
        uses: name -> (anything, tasks that use it).
    """
    found: dict[frozenset[str], list[str]] = {}
    for name, (_, tasks) in uses.items():
        found.setdefault(tasks, []).append(name)
    return {tasks: found[tasks] for tasks in sorted(found, key=lambda t: (-len(t), sorted(t)))}


@dataclass(frozen=True)
class Place:
    """Where one parameter lies in the arena."""

    start: int
    shape: torch.Size

    @property
    def stop(self) -> int:
        return self.start + self.shape.numel()


@dataclass(frozen=True)
class Layout:
    """Where parameters lie: [what all tasks share | what some share | head | head | ...].

    Attributes:
        segments: in order, covering the whole.
        places: name -> place, in order.
        length: P.
    """

    segments: tuple[Segment, ...]
    places: Mapping[str, Place]
    length: int

    @classmethod
    def of(cls, parameters: Mapping[str, tuple[nn.Parameter, frozenset[str]]]) -> Layout:
        """
        Args:
            parameters: canonical name -> (parameter, tasks that use it), each parameter once. The
                order within a segment is the order of the mapping.
        """
        places: dict[str, Place] = {}
        segments = []
        end = 0
        for tasks, names in by_tasks(parameters).items():
            start = end
            for name in names:
                place = Place(end, parameters[name][0].shape)
                places[name] = place
                end = -(-place.stop // ALIGNMENT) * ALIGNMENT
            segments.append(Segment.of(tasks, start, end))
        return cls(tuple(segments), places, end)


class Arena:
    """Flat storage for parameters and their gradients.

    The parameters handed in become views of `live`, and their gradients views of `grad`. Gradients
    are zeroed, never set to None, or the views are lost.
    """

    def __init__(self, parameters: Mapping[str, tuple[nn.Parameter, frozenset[str]]]):
        """
        Args:
            parameters: as of Layout.of.
        """
        layout = Layout.of(parameters)
        self.segments, self.places = layout.segments, layout.places
        device = next(iter(parameters.values()))[0].device
        self.live = torch.zeros(layout.length, dtype=torch.float32, device=device)
        self.grad = torch.zeros_like(self.live)
        live, grad = self.views(self.live), self.views(self.grad)
        for name, (parameter, _) in parameters.items():
            live[name].copy_(parameter.detach())
            parameter.data = live[name]
            parameter.grad = grad[name]

    def __len__(self) -> int:
        return len(self.live)

    @property
    def num_parameters(self) -> int:
        """Elements that are parameters, padding left out."""
        return sum(place.shape.numel() for place in self.places.values())

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Name -> view of `flat` (P,) with the parameter's shape."""
        return {
            name: flat[place.start : place.stop].view(place.shape)
            for name, place in self.places.items()
        }
