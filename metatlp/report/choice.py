"""Which candidate of a row counts: the one with the best mean dev score, never the best on test.

Candidates are settings among which a row may choose: temperatures, learning rates.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from metatlp.errors import InputError
from metatlp.report.plan_file import describe_candidate
from metatlp.report.readings import Reading

Place = tuple[str, int]  # TLP, seed


@dataclass(frozen=True)
class Choice:
    """What was chosen for a row.

    Attributes:
        row: of which table. kept: candidate. dev: candidate -> mean dev score, a fraction.
        num_scores: that each mean is over: TLPs and seeds that all candidates have.
    """

    row: str
    kept: str
    dev: dict[str, float]
    num_scores: int

    def __str__(self) -> str:
        tried = "; ".join(
            f"{describe_candidate(name)}: {100 * mean:.2f}" for name, mean in self.dev.items()
        )
        return (
            f"{self.row}: {describe_candidate(self.kept)} by its mean dev score over "
            f"{_counted(self.num_scores)} ({tried})"
        )


def _counted(num_scores: int) -> str:
    return "1 pair and seed" if num_scores == 1 else f"{num_scores} pairs of TLP and seed"


def choose(row: str, readings: Sequence[Reading]) -> tuple[list[Reading], Choice | None]:
    """The readings of the candidate that dev chooses; of equals the plan's first.

    Returns:
        They, and what was chosen; None where there is only one candidate.

    Raises:
        InputError: a candidate has no dev scores, or none in common with the others.
    """
    by_candidate: dict[str, dict[Place, Reading]] = {}
    for reading in readings:
        own = by_candidate.setdefault(reading.cell.candidate, {})
        place = (str(reading.cell.tlp), reading.seed)
        if place in own:
            raise InputError(f"plan.json: two cells for {reading.cell}")
        own[place] = reading
    if len(by_candidate) == 1:
        return list(readings), None
    first, *others = by_candidate.values()
    common = [place for place in first if all(place in other for other in others)]
    if not common:
        raise InputError(f"{row}: its candidates have no TLP and seed in common to choose by")
    means = {}
    for candidate, own in by_candidate.items():
        for place in common:
            if own[place].dev is None:
                raise InputError(
                    f"{own[place].cell.file}: no dev score of {own[place].cell}, so dev cannot "
                    f"choose among the candidates of {row}"
                )
        means[candidate] = statistics.fmean(own[place].dev or 0.0 for place in common)
    kept = max(means, key=lambda candidate: means[candidate])
    return list(by_candidate[kept].values()), Choice(row, kept, means, len(common))
