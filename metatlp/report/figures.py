"""The paper's figures, and the curves of a run, with matplotlib.

Knows numbers; reads no file. The same numbers give the same SVG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metatlp.grid import TLP, Grid, task_codes
from metatlp.report.curves import Curves
from metatlp.report.figure import load_pyplot
from metatlp.sampling.probabilities import temperature_probs

TAUS = (1.0, 2.0, 5.0, math.inf)
STYLES = ("-", "--", ":", "-.")
_RC = {
    "svg.hashsalt": "metatlp",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # name -> x, y


def sizes_figure(sizes: Mapping[TLP, int]) -> Any:
    """Figure 2: (a) training examples by task and language, (b) proportions per tau."""
    pyplot = load_pyplot()
    grid = Grid.of(sizes)
    with pyplot.rc_context(_RC):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
        width = 0.8 / len(grid.languages)
        for place, lang in enumerate(grid.languages):
            at = [i + place * width for i in range(len(grid.tasks))]
            counts = [sizes.get(TLP(task, lang), 0) for task in grid.tasks]
            left.bar(at, counts, width, label=lang)
        middle = 0.4 - width / 2
        left.set_xticks([i + middle for i in range(len(grid.tasks))], grid.tasks)
        left.set_yscale("log")
        left.set_ylabel("training examples")
        left.set_title("(a) size by task and language")
        left.legend(fontsize=7, ncols=3)
        bottom = np.zeros(len(TAUS))
        columns = [temperature_probs([sizes[tlp] for tlp in grid.tlps], tau) for tau in TAUS]
        for task in grid.tasks:
            of_task = [i for i, tlp in enumerate(grid.tlps) if tlp.task == task]
            share = np.array([column[of_task].sum() for column in columns])
            right.bar(range(len(TAUS)), share, 0.6, bottom=bottom, label=task, color=_color(task))
            bottom += share
        right.set_xticks(range(len(TAUS)), [_tau(tau) for tau in TAUS])
        right.set_ylabel("share of the draws")
        right.set_title("(b) proportions in meta-training")
        right.legend(fontsize=7, bbox_to_anchor=(1.0, 1.0), loc="upper left")
        figure.tight_layout()
    return figure


def proportions(sizes: Mapping[TLP, int]) -> list[tuple[TLP, list[float]]]:
    """TLP -> its probability for each of TAUS."""
    tlps = Grid.of(sizes).tlps
    columns = [temperature_probs([sizes[tlp] for tlp in tlps], tau) for tau in TAUS]
    return [(tlp, [float(column[i]) for column in columns]) for i, tlp in enumerate(tlps)]


def sampler_figure(runs: Sequence[tuple[str, Sequence[Curves]]]) -> Any:
    """Figure 3: a column per run of MultiDDS; above psi (or p), below rewards, means over seeds.

    Args:
        runs: title and the curves of each seed.
    """
    pyplot = load_pyplot()
    with pyplot.rc_context(_RC):
        figure, axes = pyplot.subplots(
            2, len(runs), figsize=(max(5.0, 3.4 * len(runs)), 5.2), squeeze=False, sharex="col"
        )
        for column, (title, curves) in enumerate(runs):
            has_psi = all(each.psi for each in curves)
            upper, lower = axes[0][column], axes[1][column]
            _lines(upper, curves, "psi" if has_psi else "p", 0)
            _lines(lower, curves, "rewards", 1)
            upper.set_title(title, fontsize=9)
            lower.set_xlabel("meta step")
            if column == 0:
                upper.set_ylabel("ψ" if has_psi else "probability")
                lower.set_ylabel("reward")
            lower.legend(fontsize=6, ncols=2)
        figure.tight_layout()
    return figure


def _lines(axes: Any, curves: Sequence[Curves], what: str, skip: int) -> None:
    """A line per TLP: the mean over the runs, of the updates that all have; the range as a band."""
    tlps = list(curves[0].p)
    languages = list(dict.fromkeys(tlp.lang for tlp in tlps))
    for tlp in tlps:
        series = [getattr(each, what)[tlp] for each in curves if tlp in getattr(each, what)]
        shortest = min(map(len, series))
        values = np.array([each[:shortest] for each in series])
        steps = list(curves[0].steps)[skip : skip + shortest]
        style = STYLES[languages.index(tlp.lang) % len(STYLES)]
        marker = "." if len(steps) == 1 else None
        look = {"color": _color(tlp.task), "linewidth": 1.2, "marker": marker}
        axes.plot(steps, values.mean(0), style, label=str(tlp), **look)
        if len(values) > 1:
            axes.fill_between(
                steps, values.min(0), values.max(0), color=_color(tlp.task), alpha=0.15, linewidth=0
            )


def curves_figure(panels: Mapping[str, Series], x_label: str) -> Any:
    """A panel per title, of at most three in a row, with a line per name."""
    pyplot = load_pyplot()
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with pyplot.rc_context(_RC):
        figure, axes = pyplot.subplots(
            rows, columns, figsize=(4.2 * columns, 3.0 * rows), squeeze=False
        )
        for place, (title, series) in enumerate(panels.items()):
            panel = axes[place // columns][place % columns]
            for number, (name, (x, y)) in enumerate(series.items()):
                task = name.partition("_")[0]
                known = task in task_codes()
                style = STYLES[number % len(STYLES)] if known else "-"
                color = _color(task) if known else f"C{number % 10}"
                mark = "." if len(x) < 2 else None
                panel.plot(x, y, style, color=color, marker=mark, linewidth=1.1, label=name)
            panel.set_title(title, fontsize=9)
            panel.set_xlabel(x_label)
            if len(series) > 1:
                panel.legend(fontsize=5, ncols=1 + len(series) // 9)
        for place in range(len(panels), rows * columns):
            axes[place // columns][place % columns].axis("off")
        figure.tight_layout()
    return figure


def as_svg(figure: Any) -> bytes:
    """The figure as SVG, without a date."""
    return _saved(figure, "svg", {"Date": None})


def as_png(figure: Any) -> bytes:
    """The figure as PNG, 150 dots per inch."""
    return _saved(figure, "png", {"Software": None})


def close(figure: Any) -> None:
    load_pyplot().close(figure)


def _saved(figure: Any, kind: str, metadata: Mapping[str, None]) -> bytes:
    data = io.BytesIO()
    with load_pyplot().rc_context(_RC):
        figure.savefig(data, format=kind, dpi=150, metadata=dict(metadata))
    return data.getvalue()


def _color(task: str) -> str:
    return f"C{task_codes().index(task) % 10}"


def _tau(tau: float) -> str:
    return "τ = ∞" if math.isinf(tau) else f"τ = {tau:g}"
