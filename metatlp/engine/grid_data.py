"""From flags to encoded splits: open the source, choose the grid, encode or find in the cache.

Knows ranks only to share the encoding out; every rank ends with every split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metatlp.data.cache import encode_split
from metatlp.data.demo_source import DemoSource
from metatlp.data.encoded import EncodedSplit
from metatlp.data.own import OwnFolder, WithOwn, own_tlps
from metatlp.data.records import Source
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.arguments.data import DataArguments, SourceArguments
from metatlp.engine.placement import Placement
from metatlp.engine.scoring.evaluation import EvalSplit
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid, missing_from_paper, select, select_dev, training_grid
from metatlp.tasks.task import Limits


@dataclass(frozen=True)
class GridData:
    """The selected grid and its encoded splits.

    Attributes:
        grid: the TLPs that train, in the order of the sampler's arms.
        train: split of each of them.
        dev: split of those that have dev data.
        reward_dev: whole dev split of the TLPs of D_dev; none if no rewards are measured.
        cache_dir: where the encoded files lie.
        missing: TLPs that `--train-languages paper` asks for and the source has no train data of.
    """

    source: Source
    grid: Grid
    train: dict[TLP, EncodedSplit]
    dev: dict[TLP, EvalSplit]
    cache_dir: Path
    missing: Grid = Grid(())
    reward_dev: dict[TLP, EncodedSplit] = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Split -> TLP -> what was counted while reading and encoding."""
        return {
            "train": {str(tlp): split.counts for tlp, split in self.train.items()},
            "dev": {str(tlp): split.encoded.counts for tlp, split in self.dev.items()},
            "D_dev": {str(tlp): split.counts for tlp, split in self.reward_dev.items()},
        }

    def fingerprints(self) -> dict[str, str]:
        """TLP -> fingerprint of its encoded training split; `dev TLP` -> of that in D_dev."""
        train = {str(tlp): split.fingerprint for tlp, split in self.train.items()}
        return train | {f"dev {tlp}": split.fingerprint for tlp, split in self.reward_dev.items()}


def open_source(
    arguments: SourceArguments, log: Callable[[str], None], unlabelled: bool = False
) -> Source:
    """The source that `--data` and `--data-dir` name, with the TLPs of `--own-data`; the demo's is
    written where it is missing.

    Args:
        unlabelled: test files of a folder may be without any label.

    Raises:
        InputError: it is not there, or has a TLP and split that `--own-data` has too.
    """
    if arguments.own_data is None:
        return _base_source(arguments, log, unlabelled)
    own = OwnFolder(arguments.own_data)
    if arguments.source == "own":
        return WithOwn(None, own)
    return WithOwn(_base_source(arguments, log, unlabelled), own)


def source_grid(source: Source, train_languages: str) -> Grid:
    """The TLPs that may train: what `--train-languages` keeps, and one's own.

    Raises:
        InputError: as training_grid.
    """
    return training_grid(source.tlps("train"), train_languages, own_tlps(source, "train"))


def _base_source(
    arguments: SourceArguments, log: Callable[[str], None], unlabelled: bool
) -> Source:
    if arguments.source == "hub":
        # Here, because it imports `datasets`: half a second for each process that starts.
        from metatlp.data.hub import HubSource

        return HubSource()
    if arguments.source == "demo":
        return DemoSource(arguments.demo, arguments.demo.build(arguments.cache_folder, log))
    assert arguments.data_dir is not None
    return XtremeFolder(Path(arguments.data_dir), unlabelled)


def load_grid(
    arguments: DataArguments,
    tokenizer: Any,
    eval_examples: int | None,
    placement: Placement,
    log: Callable[[str], None],
    dev_tlps: str | None = None,
) -> GridData:
    """Read and encode the train and dev splits of the selected TLPs. Every rank takes part.

    Args:
        dev_tlps: D_dev as `select_dev` reads it, whose dev splits are loaded whole.

    Raises:
        InputError: on every rank, whichever rank met the bad file.
    """
    error, loaded = None, None
    try:
        source = open_source(arguments, log)
        whole_grid = source_grid(source, arguments.train_languages)
        grid = select(whole_grid, arguments.selection)
        missing = _missing(source, arguments)
        with_dev = set(source.tlps("dev"))
        targets = _targets(with_dev, whole_grid, grid, dev_tlps) if dev_tlps else Grid(())
        loader = SplitLoader(
            source, arguments.limits(), tokenizer, arguments.cache_folder, placement, log
        )
        loaded = GridData(source, grid, {}, {}, loader.cache_dir, missing)
        train = loader.encoded(grid.tlps, "train", arguments.max_examples)
        scored = [tlp for tlp in grid.tlps if tlp in with_dev]
        dev = loader.scored(scored, "dev", eval_examples)
        # Not cut to --eval-examples, which may change when a run goes on.
        rewarding = loader.encoded(targets.tlps, "dev", arguments.max_examples)
        loaded.reward_dev.update(rewarding)
        loaded.train.update({tlp: train[tlp] for tlp in grid.tlps})
        loaded.dev.update(dev)
    except InputError as met:
        error = met
    placement.agree(error)
    assert loaded is not None
    return loaded


def load_dev(
    arguments: DataArguments,
    tokenizer: Any,
    dev_tlps: str,
    placement: Placement,
    log: Callable[[str], None],
) -> dict[TLP, EncodedSplit]:
    """The encoded dev splits of the TLPs that `select_dev` reads. Every rank takes part.

    Raises:
        InputError: as load_grid.
    """
    found: dict[TLP, EncodedSplit] = {}
    with placement.together():
        source = open_source(arguments, log)
        grid = source_grid(source, arguments.train_languages)
        tlps = select_dev(source.tlps("dev"), grid, dev_tlps).tlps
        loader = SplitLoader(
            source, arguments.limits(), tokenizer, arguments.cache_folder, placement, log
        )
        found = loader.encoded(tlps, "dev", arguments.max_examples)
    return found


def _missing(source: Source, arguments: DataArguments) -> Grid:
    if arguments.source == "own":
        return Grid(())  # nobody asked for the paper's grid
    return missing_from_paper(source.tlps("train"), arguments.train_languages)


def _targets(with_dev: Iterable[TLP], whole_grid: Grid, grid: Grid, dev_tlps: str) -> Grid:
    targets = select_dev(with_dev, whole_grid, dev_tlps)
    for tlp in targets.tlps:
        if tlp.task not in grid.tasks:
            raise InputError(
                f"--dev-tlps: no TLP of task '{tlp.task}' trains, so there is no head for {tlp}; "
                f"the selection has {', '.join(grid.tasks)}"
            )
    return targets


class SplitLoader:
    """Encodes splits of one source with one tokenizer, or finds them in the cache.

    What is wrong with a file is raised on the rank that meets it: call within `together()`.
    """

    def __init__(
        self,
        source: Source,
        limits: Limits,
        tokenizer: Any,
        cache_dir: Path,
        placement: Placement,
        log: Callable[[str], None],
    ):
        """
        Args:
            log: takes one line about each damaged file of the cache.
        """
        self.source, self.tokenizer, self.log = source, tokenizer, log
        self.limits, self.cache_dir, self.rank = limits, cache_dir, placement.rank

    def encoded(
        self, tlps: Iterable[TLP], split: str, max_examples: int | None
    ) -> dict[TLP, EncodedSplit]:
        """The encoded splits of these TLPs.

        Args:
            max_examples: only the first so many of each file; None: all.

        Raises:
            InputError: a TLP lacks the split, or a file of it is bad.
        """
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

    def scored(
        self, tlps: Iterable[TLP], split: str, max_examples: int | None
    ) -> dict[TLP, EvalSplit]:
        """The same, to be scored: with a way to read their examples."""
        encoded = self.encoded(tlps, split, max_examples)
        return {tlp: self._to_score(tlp, encoded[tlp], split, max_examples) for tlp in encoded}

    def _to_score(
        self, tlp: TLP, encoded: EncodedSplit, split: str, max_examples: int | None
    ) -> EvalSplit:
        return EvalSplit(encoded, lambda: self.source.read(tlp, split).examples[:max_examples])
