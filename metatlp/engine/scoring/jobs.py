"""What is to be scored: which TLPs the flags ask for, and which of them each system can answer.

Knows which files there are, not what is in them. What a table has and the data or a system lacks
is said, never dropped in silence; what was asked for by name has to be there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from metatlp.data.records import Source
from metatlp.data.submission import file_of
from metatlp.engine.arguments.evaluate import EvaluateArguments
from metatlp.engine.scoring.systems import System, check_unseen
from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP, Grid

_TABLES = {"external": EXTERNAL_TLPS, "seen": tuple(PAPER_SIZES)}


@dataclass(frozen=True)
class Job:
    """A system on one split of one TLP."""

    system: str
    tlp: TLP
    split: str


def choose_jobs(
    systems: Sequence[System], source: Source, arguments: EvaluateArguments
) -> tuple[list[Job], list[str]]:
    """Everything that is scored.

    Returns:
        The jobs of all systems, and a line about everything that was left out.

    Raises:
        InputError: what was asked for is not there, or was seen although it must not have been.
    """
    tlps, lines = wanted_tlps(source.tlps(arguments.split), arguments)
    found = []
    for system in systems:
        own = [tlp for tlp in tlps if tlp.task in system.models]
        without = tuple(tlp for tlp in tlps if tlp.task not in system.models)
        has = f"has models for {', '.join(system.models)}"
        if not own or (without and arguments.tlps):
            raise InputError(f"--model: {system.name} {has}, but none for {_names(without)}")
        if without:
            lines.append(f"left out for {system.name}, which {has}: {_names(without)}")
        jobs = [Job(system.name, tlp, arguments.split) for tlp in own]
        jobs += [Job(system.name, tlp, "xquad") for tlp in _beside(system, source, arguments)]
        if arguments.external and not arguments.allow_seen:
            check_unseen(system, (job.tlp for job in jobs))
        found += jobs
    if arguments.submission:
        without = Grid.of(job.tlp for job in found if not file_of(job.tlp, job.split)).tlps
        lines += [f"not in XTREME, so not in the submission: {_names(without)}"] if without else []
    return found, lines


def wanted_tlps(
    there: Collection[TLP], arguments: EvaluateArguments
) -> tuple[tuple[TLP, ...], list[str]]:
    """The TLPs that --languages or --tlps asks for.

    Args:
        there: those that have the split.

    Returns:
        The TLPs in the order of the grid, and a line about those of a table that the data lacks.

    Raises:
        InputError: one asked for by name is not there, or none is left.
    """
    found = Grid.of(tlp for tlp in there if _is_asked(tlp, arguments)).tlps
    no_data, known = f"no {arguments.split} data", Grid.of(there)
    if arguments.tlps is not None:
        missing = Grid.of(set(_listed(arguments.tlps)) - set(there)).tlps
        if missing:
            raise InputError(
                f"--tlps: {no_data} for {_names(missing)}; it was found for "
                f"{_names(known.tlps) or 'nothing'}"
            )
        return found, []
    asked = arguments.languages or "external"
    if asked not in (*_TABLES, "all"):
        for code in _codes(asked):
            if code not in known.languages:
                raise InputError(
                    f"--languages: {no_data} in '{code}'; choose from "
                    f"{', '.join(known.languages)}, or external, seen or all"
                )
    if not found:
        raise InputError(
            f"--languages {asked}: {no_data}; it was found for {_names(known.tlps) or 'nothing'}"
        )
    missing = Grid.of(set(_TABLES.get(asked, ())) - set(there)).tlps
    return found, [f"left out, having {no_data}: {_names(missing)}"] if missing else []


def _beside(system: System, source: Source, arguments: EvaluateArguments) -> list[TLP]:
    """The QA of a submission has two test sets."""
    if not arguments.submission or arguments.split == "xquad" or "qa" not in system.models:
        return []
    return [tlp for tlp in source.tlps("xquad") if _is_asked(tlp, arguments)]


def _is_asked(tlp: TLP, arguments: EvaluateArguments) -> bool:
    if arguments.tlps is not None:
        return tlp in _listed(arguments.tlps)
    asked = arguments.languages or "external"
    if asked in _TABLES:
        return tlp in _TABLES[asked]
    return asked == "all" or tlp.lang in _codes(asked)


def _listed(text: str) -> list[TLP]:
    return [TLP.parse(name) for name in _codes(text)]


def _codes(text: str) -> list[str]:
    return [code.strip() for code in text.split(",")]


def _names(tlps: Iterable[TLP]) -> str:
    return ", ".join(map(str, tlps))
