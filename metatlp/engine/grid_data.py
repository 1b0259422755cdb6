"""From flags to encoded splits: open the source, choose the grid, encode or find in the cache.

Knows ranks only to share the encoding out; every rank ends with every split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metatlp.data.cache import encode_split
from metatlp.data.demo_source import DemoSource
from metatlp.data.encoded import EncodedSplit
from metatlp.data.hub import HubSource
from metatlp.data.records import Source
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.data_args import DataArguments
from metatlp.engine.evaluation import EvalSplit
from metatlp.engine.placement import Placement
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid, missing_from_paper, select, training_grid


@dataclass(frozen=True)
class GridData:
    """The selected grid and its encoded splits.

    Attributes:
        grid: the TLPs that train, in the order of the sampler's arms.
        train: split of each of them.
        dev: split of those that have dev data.
        cache_dir: where the encoded files lie.
        missing: TLPs that `--train-languages paper` asks for and the source has no train data of.
    """

    source: Source
    grid: Grid
    train: dict[TLP, EncodedSplit]
    dev: dict[TLP, EvalSplit]
    cache_dir: Path
    missing: Grid = Grid(())

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Split -> TLP -> what was counted while reading and encoding."""
        return {
            "train": {str(tlp): split.counts for tlp, split in self.train.items()},
            "dev": {str(tlp): split.encoded.counts for tlp, split in self.dev.items()},
        }

    def fingerprints(self) -> dict[str, str]:
        """TLP -> fingerprint of its encoded training split."""
        return {str(tlp): split.fingerprint for tlp, split in self.train.items()}


def open_source(arguments: DataArguments, log: Callable[[str], None]) -> Source:
    """The source that `--data` and `--data-dir` name; the demo's is written where it is missing.

    Raises:
        InputError: it is not there.
    """
    if arguments.source == "hub":
        return HubSource()
    if arguments.source == "demo":
        return DemoSource(arguments.demo, arguments.demo.build(arguments.cache_folder, log))
    assert arguments.data_dir is not None
    return XtremeFolder(Path(arguments.data_dir))


def load_grid(
    arguments: DataArguments,
    tokenizer: Any,
    eval_examples: int | None,
    placement: Placement,
    log: Callable[[str], None],
) -> GridData:
    """Read and encode the train and dev splits of the selected TLPs. Every rank takes part.

    Raises:
        InputError: on every rank, whichever rank met the bad file.
    """
    error, loaded = None, None
    try:
        source = open_source(arguments, log)
        there = source.tlps("train")
        grid = select(training_grid(there, arguments.train_languages), arguments.selection)
        missing = missing_from_paper(there, arguments.train_languages)
        with_dev = set(source.tlps("dev"))
        encoder = _Encoder(source, arguments, tokenizer, placement, log)
        loaded = GridData(source, grid, {}, {}, encoder.cache_dir, missing)
        train = encoder.encode(grid.tlps, "train", arguments.max_examples)
        dev_tlps = [tlp for tlp in grid.tlps if tlp in with_dev]
        dev = encoder.encode(dev_tlps, "dev", eval_examples)
        loaded.train.update({tlp: train[tlp] for tlp in grid.tlps})
        loaded.dev.update({tlp: encoder.for_scoring(tlp, dev[tlp], eval_examples) for tlp in dev})
    except InputError as met:
        error = met
    placement.agree(error)
    assert loaded is not None
    return loaded


class _Encoder:
    """Encodes splits of one source with one tokenizer, or finds them in the cache."""

    def __init__(
        self,
        source: Source,
        arguments: DataArguments,
        tokenizer: Any,
        placement: Placement,
        log: Callable[[str], None],
    ):
        self.source, self.tokenizer, self.log = source, tokenizer, log
        self.limits, self.rank = arguments.limits(), placement.rank
        self.cache_dir = arguments.cache_folder

    def encode(
        self, tlps: Iterable[TLP], split: str, max_examples: int | None
    ) -> dict[TLP, EncodedSplit]:
        # Each rank begins elsewhere, so that on an empty cache the work is shared; the cache's
        # locks make a rank wait for what another one is encoding.
        order = list(tlps)
        turn = self.rank % max(1, len(order))
        turns = order[turn:] + order[:turn]
        found = {
            tlp: encode_split(
                self.source,
                tlp,
                split,
                self.tokenizer,
                self.limits,
                self.cache_dir,
                max_examples=max_examples,
                log=self.log,
            )
            for tlp in tqdm(turns, f"encode {split}", leave=False, disable=self.rank != 0)
        }
        return {tlp: found[tlp] for tlp in order}

    def for_scoring(self, tlp: TLP, encoded: EncodedSplit, max_examples: int | None) -> EvalSplit:
        return EvalSplit(encoded, lambda: self.source.read(tlp, "dev").examples[:max_examples])
