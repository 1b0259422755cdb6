"""Task-language pairs, the grid of those that exist, and the selection that trains.

Knows the paper's Table 1; knows nothing of files, models or ranks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from metatlp.errors import InputError

TASK_CODES = ("qa", "nli", "pa", "pos", "ner")  # the paper's
PAPER_LANGUAGES = ("en", "hi", "es", "de", "fr", "zh")

_added_codes: list[str] = []


def task_codes() -> tuple[str, ...]:
    """The codes of all tasks in their order: the paper's, then those that were added."""
    return (*TASK_CODES, *_added_codes)


def add_task_code(code: str) -> None:
    """Make `code` the last of the tasks; a part of `metatlp.tasks.add_task`.

    Raises:
        InputError: not of the form of a code, or taken.
    """
    if not re.fullmatch("[a-z][a-z0-9]{0,15}", code):
        raise InputError(
            f"task code '{code}': write a lower-case letter and at most 15 more letters or digits"
        )
    if code in task_codes():
        raise InputError(f"task code '{code}' is taken; there are {', '.join(task_codes())}")
    _added_codes.append(code)


@dataclass(frozen=True)
class TLP:
    """A task-language pair, printed as `pos_hi`."""

    task: str
    lang: str

    def __str__(self) -> str:
        return f"{self.task}_{self.lang}"

    @classmethod
    def parse(cls, text: str) -> TLP:
        """Read `pos_hi`. Raises InputError for another shape or an unknown task."""
        task, _, lang = text.partition("_")
        if task not in task_codes() or not lang:
            raise InputError(
                f"'{text}' is no task-language pair; write TASK_LANG, e.g. pos_hi, "
                f"with TASK one of {', '.join(task_codes())}"
            )
        return cls(task, lang)

    @property
    def order(self) -> tuple[int, int, str]:
        """Sort key: tasks as in task_codes(), the paper's languages first, then by code."""
        known = self.lang in PAPER_LANGUAGES
        rank = PAPER_LANGUAGES.index(self.lang) if known else len(PAPER_LANGUAGES)
        return task_codes().index(self.task), rank, self.lang


# Table 1 of the paper: number of training examples of its 24 TLPs.
PAPER_SIZES: dict[TLP, int] = {
    TLP(task, lang): size
    for task, sizes in {
        "qa": {"en": 88_000, "hi": 82_400, "es": 81_800, "de": 80_000},
        "nli": {"en": 392_000, "es": 392_000, "de": 392_000, "fr": 392_000},
        "pa": {"en": 49_400, "es": 49_400, "de": 49_400, "fr": 49_400, "zh": 49_400},
        "pos": {"en": 21_200, "hi": 13_300, "es": 28_400, "de": 166_000, "zh": 7_900},
        "ner": {"en": 20_000, "hi": 5_000, "es": 20_000, "de": 20_000, "fr": 20_000, "zh": 20_000},
    }.items()
    for lang, size in sizes.items()
}


@dataclass(frozen=True)
class Grid:
    """The TLPs that can train, in the fixed order that numbers the arms of the samplers."""

    tlps: tuple[TLP, ...]

    @classmethod
    def of(cls, tlps: Iterable[TLP]) -> Grid:
        return cls(tuple(sorted(set(tlps), key=lambda tlp: tlp.order)))

    @property
    def tasks(self) -> tuple[str, ...]:
        present = {tlp.task for tlp in self.tlps}
        return tuple(task for task in task_codes() if task in present)

    @property
    def languages(self) -> tuple[str, ...]:
        ordered = sorted({tlp.lang for tlp in self.tlps}, key=lambda lang: TLP("qa", lang).order)
        return tuple(ordered)


def training_grid(
    available: Iterable[TLP], train_languages: str = "paper", own: Collection[TLP] = ()
) -> Grid:
    """The TLPs that may train out of those with training data.

    Args:
        available: TLPs the source has training data for.
        train_languages: `paper` keeps the TLPs of Table 1; `all` keeps everything; otherwise a
            comma-separated list of language codes, and every available TLP in them is kept.
        own: the TLPs among them that the user brought, which are kept in any case.

    Raises:
        InputError: a language nothing is available in, or nothing left.
    """
    available = list(available)
    if train_languages == "paper":
        kept = [tlp for tlp in available if tlp in PAPER_SIZES]
    elif train_languages == "all":
        kept = available
    else:
        wanted = _names(train_languages, "--train-languages")
        known = sorted({tlp.lang for tlp in available})
        for lang in wanted:
            if lang not in known:
                raise InputError(
                    f"--train-languages: no training data in '{lang}'; "
                    f"choose from {', '.join(known)}, or 'paper' or 'all'"
                )
        kept = [tlp for tlp in available if tlp.lang in wanted]
    kept = [*kept, *own]
    if not kept:
        names = ", ".join(str(tlp) for tlp in Grid.of(available).tlps) or "nothing"
        raise InputError(
            f"--train-languages {train_languages}: no TLP left; training data was found for {names}"
        )
    return Grid.of(kept)


def missing_from_paper(available: Iterable[TLP], train_languages: str = "paper") -> Grid:
    """The TLPs of Table 1 without training data; none unless `train_languages` asks for the table.

    Args:
        available, train_languages: as in `training_grid`.
    """
    return Grid.of(PAPER_SIZES.keys() - set(available) if train_languages == "paper" else ())


def select(grid: Grid, selection: str, flag: str = "--selection") -> Grid:
    """Apply `--selection` (paper, section 3.2.1).

    Args:
        grid: the training grid.
        selection: `all`; `task:pos,ner` (Task-Limited); `lang:hi,en` (Lang-Limited); or a list
            of TLPs, `qa_en,ner_hi`.
        flag: that it is the value of.

    Raises:
        InputError: an unknown name, with the choices.
    """
    if selection == "all":
        return grid
    found = _of_kind(grid, selection, flag)
    if found is not None:
        return Grid.of(found)
    if ":" in selection or "_" not in selection:
        raise InputError(
            f"{flag}: cannot read '{selection}'; write all, task:pos,ner, lang:hi, "
            "or a list like qa_en,ner_hi"
        )
    wanted = [TLP.parse(name) for name in _names(selection, flag)]
    for tlp in wanted:
        if tlp not in grid.tlps:
            raise InputError(
                f"{flag}: no training data for '{tlp}'; "
                f"choose from {', '.join(str(t) for t in grid.tlps)}"
            )
    return Grid.of(wanted)


def select_dev(with_dev: Iterable[TLP], grid: Grid, text: str) -> Grid:
    """Apply `--dev-tlps`: the TLPs on whose dev data rewards are measured (D_dev).

    Args:
        with_dev: TLPs that have dev data.
        grid: the training grid, before the selection.
        text: `lang:hi` or `task:nli`, all TLPs of the grid in that language or of that task; or a
            list of any TLPs with dev data, `qa_en,ner_ta`.

    Raises:
        InputError: an unknown name, or a TLP without dev data, with the choices.
    """
    with_dev = set(with_dev)
    wanted = _of_kind(grid, text, "--dev-tlps")
    if wanted is None and ":" in text:
        raise InputError(
            f"--dev-tlps: cannot read '{text}'; write lang:hi, task:nli, or a list like qa_en"
        )
    if wanted is None:
        wanted = [TLP.parse(name) for name in _names(text, "--dev-tlps")]
    for tlp in wanted:
        if tlp not in with_dev:
            there = ", ".join(map(str, Grid.of(with_dev).tlps)) or "nothing"
            raise InputError(f"--dev-tlps: no dev data for '{tlp}'; it was found for {there}")
    return Grid.of(wanted)


def _of_kind(grid: Grid, text: str, flag: str) -> list[TLP] | None:
    """The TLPs that `task:pos,ner` or `lang:hi` means; None for a text of another form."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ("task", "lang"):
        return None
    names = _names(rest, f"{flag} {kind}:")
    choices = grid.tasks if kind == "task" else grid.languages
    for name in names:
        if name not in choices:
            raise InputError(f"{flag}: unknown {kind} '{name}'; choose from {', '.join(choices)}")
    return [tlp for tlp in grid.tlps if getattr(tlp, kind) in names]


def _names(text: str, flag: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{flag}: an empty name in '{text}'")
    return names


# Table 3 of the paper: the 28 TLPs in languages that none of the 24 train in.
EXTERNAL_TLPS: tuple[TLP, ...] = tuple(
    TLP(task, lang)
    for task, languages in {
        "qa": "ar vi",
        "nli": "ar bg el ru sw th tr ur vi",
        "pa": "ja ko",
        "pos": "et fi ja mr ta te ur",
        "ner": "bn et fi ja mr ta te ur",
    }.items()
    for lang in languages.split()
)
