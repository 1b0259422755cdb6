"""The verdicts as a table, as a page each, and as what the page of all shows.

Knows verdicts; decides none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metatlp.report.building import Building
from metatlp.report.claims import CLAIMS, MEAN, MOST, Better, Claim, Curve
from metatlp.report.collected import Collected
from metatlp.report.curves import Runs
from metatlp.report.numbers import NONE, interval, p_value, plain, points
from metatlp.report.page import render
from metatlp.report.sheets import Sheet, csv_text
from metatlp.report.verdicts import FAILS, HOLDS, OPEN, Verdict, judge

KINDS = {HOLDS: "holds", FAILS: "fails", OPEN: "open"}  # classes of the style sheet
_HEAD = ["comparison", "difference", "sd", "seeds", "interval", "p", "p (Holm)"]


def add_claims(
    report: Building, tables: Mapping[str, Collected], runs: Runs
) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """claims.md, .tex, .csv, the numbers as claims_numbers.csv, and claims/NAME.html.

    Returns:
        The verdicts, and what the templates show of each.
    """
    verdicts = [judge(claim, tables, runs, report.confidence) for claim in CLAIMS]
    head = ["claim", "section", "verdict", "because"]
    rows = [[v.claim.text, v.claim.section, v.verdict, v.reason] for v in verdicts]
    report.add_sheets("claims", [Sheet("Verdicts", head, rows)])
    report.add(
        "claims.csv",
        csv_text(
            ["name", *head], [[v.claim.name, *r] for v, r in zip(verdicts, rows, strict=True)]
        ),
    )
    views = [claim_view(verdict, report.confidence) for verdict in verdicts]
    numbers = [[view["name"], *row] for view in views for row in view["rows"]]
    report.add("claims_numbers.csv", csv_text(["claim", *_HEAD], numbers))
    for view in views:
        page = render(
            "claim.html",
            claim=view,
            protocol=report.plan.protocol,
            reading=reading(report.confidence, report.resampler.num_resamples),
        )
        report.add(f"claims/{view['name']}.html", page)
    return verdicts, views


def claim_view(verdict: Verdict, confidence: float) -> dict[str, Any]:
    """For the templates."""
    claim = verdict.claim
    in_points = not isinstance(claim.test, Curve)
    rows = [
        [
            each.what,
            (points if in_points else plain)(each.estimate.value),
            _spread(each.estimate.sd, in_points),
            str(each.estimate.num_seeds),
            interval(each.estimate, confidence, factor=100 if in_points else 1),
            p_value(each.p),
            p_value(each.p_holm),
        ]
        for each in verdict.comparisons
    ]
    return {
        "name": claim.name,
        "text": claim.text,
        "section": claim.section,
        "verdict": verdict.verdict,
        "kind": KINDS[verdict.verdict],
        "reason": verdict.reason,
        "rule": rule_of(claim, 1 - confidence),
        "head": _HEAD,
        "rows": rows,
    }


def _spread(sd: float | None, in_points: bool) -> str:
    if sd is None:
        return NONE
    return f"{100 * sd:.2f}" if in_points else f"{sd:.3f}"


def rule_of(claim: Claim, alpha: float) -> str:
    """How this claim is judged, in a sentence."""
    test = claim.test
    sure = f"p of at most {alpha:.2g}"
    if isinstance(test, Curve) and test.within is not None:
        return (
            f"It holds if every interval lies within {test.within:g} of 0, and does not hold if "
            "one lies outside."
        )
    if isinstance(test, Better) and test.how == MOST:
        return (
            f"It holds if more than half of the comparisons are positive with Holm's {sure}, and "
            "does not hold if half or more are negative so."
        )
    what = "every mean" if isinstance(test, Better) and test.how == MEAN else "every comparison"
    return (
        f"It holds if {what} is positive with {sure}, and does not hold if one is negative with "
        f"Holm's {sure}."
    )


def reading(confidence: float, num_resamples: int) -> list[str]:
    """How to read the report."""
    return [
        "A score is the mean over seeds; sd is the standard deviation over them (n - 1).",
        f"Intervals ({confidence:.0%}) and p-values answer for other seeds and other test examples "
        f"at once: {num_resamples:,} resamples of the examples, the same for all systems, to each "
        "of which a draw of Student's t with n - 1 degrees of freedom times sd / sqrt(n) is added. "
        "With one seed they answer for the examples alone.",
        "Differences are paired: by example, and by seed where both systems have the same seeds. p "
        "is two-sided. 'p, these models' leaves the seeds out: the paired bootstrap over examples "
        "of the models as they were trained. In tables both are adjusted by Holm over the columns "
        "of a row.",
        "A claim that is a conjunction holds if each of its comparisons is sure by itself; one "
        "comparison that is sure of the opposite, after Holm's adjustment over all of the claim, "
        "refutes it. Otherwise it is not decidable, as is a claim with a number missing or with "
        "fewer than two seeds. With three seeds only differences that are large beside their sd "
        "are sure.",
        "Where dev data chose (a temperature, a learning rate, the best of several systems), test "
        "scores had no part in it. The best baseline of a column is chosen on test data, as in the "
        "paper, which is to the disadvantage of what is compared with it.",
    ]
