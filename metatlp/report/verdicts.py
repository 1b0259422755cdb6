"""Verdicts on the claims by fixed rules, with the numbers behind them.

A comparison is surely positive or negative if its p-value over seeds and examples is at most alpha.
Where one of several decides, p is adjusted by Holm over the claim's comparisons; where all of them
have to agree, it need not be (intersection-union test: Berger 1982, "Multiparameter hypothesis
testing and acceptance sampling").

    ALL, MEAN  holds: every comparison is positive, each by itself
               does not hold: one is negative, by Holm
    MOST       holds: more than half are positive, by Holm
               does not hold: half or more are negative, by Holm
    within w   holds: every interval lies within -w to w
               does not hold: one lies outside, all intervals widened for their number (Bonferroni)

Anything else is not decidable, and so is a claim with a number missing or with fewer than two
seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metatlp.engine.scoring.bootstrap import Sample
from metatlp.grid import TLP
from metatlp.report.claims import ALL, MEAN, MOST, Better, Claim, Curve, MoreGain
from metatlp.report.collected import Collected
from metatlp.report.curves import QUANTITIES, Runs
from metatlp.report.significance import Estimate, difference, mean_of
from metatlp.report.tables import adjusted

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable"
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class Comparison:
    """One of the numbers behind a verdict.

    Attributes:
        what: is compared, in words. estimate: of the difference, in fractions.
        p: by itself. p_holm: adjusted for all of the claim. None where unknown.
    """

    what: str
    estimate: Estimate
    p: float | None = None
    p_holm: float | None = None

    def sign(self, alpha: float, by_itself: bool = False) -> int:
        """1 or -1 if it is that surely, else 0."""
        p = self.p if by_itself else self.p_holm
        if p is None or p > alpha:
            return 0
        return 1 if self.estimate.value > 0 else -1


@dataclass(frozen=True)
class Verdict:
    """What became of a claim. reason: one line."""

    claim: Claim
    verdict: str
    reason: str
    comparisons: tuple[Comparison, ...] = ()


class _MissingError(Exception):
    """A number is missing; the message says which."""


def judge(claim: Claim, tables: Mapping[str, Collected], runs: Runs, confidence: float) -> Verdict:
    """Args: tables: target -> its numbers. runs: with a sampler that learns. confidence: 0.95."""
    test = claim.test
    try:
        found = _comparisons(claim.name, test, tables, runs)
    except _MissingError as missing:
        return Verdict(claim, OPEN, str(missing))
    by_itself = [each.estimate.p_value() for each in found]
    found = [
        Comparison(each.what, each.estimate, p, p_holm)
        for each, p, p_holm in zip(found, by_itself, adjusted(by_itself), strict=True)
    ]
    least = min(each.estimate.num_seeds for each in found)
    if least < FEWEST_SEEDS:
        reason = f"{least} seed; how another one would do is not known"
        return Verdict(claim, OPEN, reason, tuple(found))
    if isinstance(test, Curve) and test.within is not None:
        verdict, reason = equal(found, test.within, confidence)
    else:
        how = test.how if isinstance(test, Better) else ALL
        verdict, reason = by_signs(found, how, 1 - confidence)
    return Verdict(claim, verdict, reason, tuple(found))


def by_signs(found: Sequence[Comparison], how: str, alpha: float) -> tuple[str, str]:
    """Verdict and reason of ALL, MEAN and MOST."""
    alpha += 1e-12  # 1 - 0.95 is a little more than 0.05
    m = len(found)
    plus = sum(each.sign(alpha, by_itself=how != MOST) > 0 for each in found)
    minus = sum(each.sign(alpha) < 0 for each in found)
    higher = sum(each.estimate.value > 0 for each in found)
    reason = (
        f"of {m} comparison{'s' if m > 1 else ''}, {higher} {'are' if m > 1 else 'is'} positive, "
        f"{plus} surely; {minus} surely negative"
    )
    if how == MOST:
        verdict = HOLDS if 2 * plus > m else FAILS if 2 * minus >= m else OPEN
    else:
        assert how in (ALL, MEAN), how
        verdict = FAILS if minus else HOLDS if plus == m else OPEN
    return verdict, reason


def equal(found: Sequence[Comparison], within: float, confidence: float) -> tuple[str, str]:
    """Verdict and reason of `within`."""
    m = len(found)
    unknown = (-math.inf, math.inf)
    own = [each.estimate.interval(confidence) or unknown for each in found]
    wide = [each.estimate.interval(1 - (1 - confidence) / m) or unknown for each in found]
    inside = sum(-within <= low and high <= within for low, high in own)
    outside = sum(high < -within or low > within for low, high in wide)
    reason = (
        f"of {m} interval{'s' if m > 1 else ''}, {inside} within {within:g} of 0, {outside} outside"
    )
    return FAILS if outside else HOLDS if inside == m else OPEN, reason


def _comparisons(
    name: str, test: Better | MoreGain | Curve, tables: Mapping[str, Collected], runs: Runs
) -> list[Comparison]:
    if isinstance(test, Curve):
        return _of_curves(name, test, runs)
    if test.target not in tables:
        raise _MissingError(f"no numbers: {test.target} was not run")
    table = tables[test.target]
    if isinstance(test, MoreGain):
        return [_of_gains(name, test, table)]
    found = _by_column(name, test.rows, test.against, test.tasks, table)
    if test.how != MEAN:
        return [each for columns in found.values() for each in columns.values()]
    return [
        Comparison(
            f"{_any_of(test.rows)} less {other}, mean of {len(columns)} columns",
            mean_of([each.estimate for each in columns.values()], f"{name} {other} mean"),
        )
        for other, columns in found.items()
    ]


def _by_column(
    name: str,
    rows: Sequence[str],
    against: Sequence[str],
    tasks: Sequence[str],
    table: Collected,
) -> dict[str, dict[TLP, Comparison]]:
    """Row of `against` -> column -> comparison; rows that the plan has not are left out."""
    own = [row for row in rows if row in table.rows]
    others = [row for row in against if row in table.rows]
    columns = [tlp for tlp in table.tlps if tlp.task in tasks]
    absent = [task for task in tasks if task not in {tlp.task for tlp in columns}]
    for what, names, all_names in (("rows", own, rows), ("rows", others, against)):
        if not names:
            raise _MissingError(f"no numbers: {table.target} has no {what} {', '.join(all_names)}")
    if absent:
        raise _MissingError(f"no numbers: {table.target} has no columns of {', '.join(absent)}")
    found: dict[str, dict[TLP, Comparison]] = {other: {} for other in others}
    for tlp in columns:
        row = _best_on_dev(own, tlp, table)
        for other in others:
            if (other, tlp) not in table.numbers:
                raise _MissingError(f"no number of {other} {tlp} in {table.target}")
            one, two = (table.numbers[key].estimate for key in ((row, tlp), (other, tlp)))
            what = f"{tlp}: {row} less {other}"
            found[other][tlp] = Comparison(what, difference(one, two, f"{name} {what}"))
    return found


def _best_on_dev(rows: Sequence[str], tlp: TLP, table: Collected) -> str:
    there = {row: table.numbers[row, tlp] for row in rows if (row, tlp) in table.numbers}
    if not there:
        raise _MissingError(f"no number of {_any_of(rows)} {tlp} in {table.target}")
    if len(there) == 1:
        return next(iter(there))
    without = [row for row, number in there.items() if number.dev is None]
    if without:
        raise _MissingError(f"no dev score of {without[0]} {tlp} in {table.target} to choose by")
    return max(there, key=lambda row: there[row].dev or 0.0)


def _of_gains(name: str, test: MoreGain, table: Collected) -> Comparison:
    means = []
    for tasks in (test.more, test.less):
        by_row = _by_column(name, test.rows, test.against, tasks, table)
        columns = [each.estimate for columns in by_row.values() for each in columns.values()]
        means.append(mean_of(columns, f"{name} {tasks}"))
    what = f"mean gain in {', '.join(test.more)} less mean gain in {', '.join(test.less)}"
    return Comparison(what, difference(means[0], means[1], name))


def _of_curves(name: str, test: Curve, runs: Runs) -> list[Comparison]:
    meaning, quantity = QUANTITIES[test.quantity]
    found = []
    for (row, tlp), by_seed in runs.items():
        if test.tasks and tlp.task not in test.tasks:
            continue
        values = {seed: quantity(curves) for seed, curves in by_seed.items()}
        known = {seed: value for seed, value in values.items() if value is not None}
        if known:
            samples = {s: Sample(v, np.full(_DRAWS, v)) for s, v in sorted(known.items())}
            estimate = Estimate.of(samples, f"{name} {row} {tlp}")
            found.append(Comparison(f"{meaning}; {row}, target {tlp}", estimate))
    if not found:
        raise _MissingError("no numbers: no sampler that learns was run on such targets (figure3)")
    return found


_DRAWS = 10_000  # of t, for numbers that have no examples


def _any_of(rows: Sequence[str]) -> str:
    return rows[0] if len(rows) == 1 else f"the best on dev of {', '.join(rows)}"
