"""The source for `--data demo`: the artificial grid, written once into the cache.

Knows where it lies and when it has to be written anew; what is in it is `metatlp.data.demo`'s
affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metatlp.data.demo.fingerprint import digest, generator_digest
from metatlp.data.demo.folder import DEFAULT_SCALE, fill_with_demo
from metatlp.data.once import built_once
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError


@dataclass(frozen=True)
class DemoGrid:
    """Which of the artificial grids: the arguments of write_demo."""

    seed: int = 0
    scale: float = DEFAULT_SCALE
    label_noise: float = 0.0

    def folder(self, cache_dir: Path) -> Path:
        """Its place in the cache, of which the sources that write it are a part."""
        key = digest(*map(repr, (self.seed, self.scale, self.label_noise)), generator_digest())
        return cache_dir / "demo" / f"grid-{key}"

    def build(self, cache_dir: Path, log: Callable[[str], None]) -> Path:
        """Its folder, written if it is not in the cache.

        Raises:
            InputError: the cache cannot be written, or the scale is out of range.
        """

        def fill(folder: Path) -> None:
            log("demo: writing the grid, once")
            try:
                fill_with_demo(folder, self.seed, self.scale, self.label_noise)
            except InputError as error:
                # A message of the generator's own script, with the flag of ours.
                message = str(error).replace("--scale", "--demo-scale", 1)
                raise InputError(message) from error

        return built_once(self.folder(cache_dir), fill)

    def describe(self) -> str:
        """One phrase for the log."""
        noise = f", label noise {self.label_noise:g}" if self.label_noise else ""
        return f"seed {self.seed}, scale {self.scale:g}{noise}"


class DemoSource(XtremeFolder):
    """The folder of a DemoGrid."""

    def __init__(self, grid: DemoGrid, folder: Path):
        super().__init__(folder)
        self.grid = grid

    def describe(self) -> str:
        """One phrase for the log."""
        return f"the demo grid of artificial languages ({self.grid.describe()}) in {self.root}"
