"""Tables of text, as Markdown, LaTeX and CSV.

Knows strings; computes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "°": r"$^\circ$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "θ": r"$\theta$",
}


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        title: above it. head: of the columns. rows: as long as the head.
        bold: (row, column) of what stands out.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)


def markdown(sheet: Sheet) -> list[str]:
    """Lines, with an empty one at the end."""
    rows = [
        [f"**{cell}**" if (i, j) in sheet.bold else cell for j, cell in enumerate(row)]
        for i, row in enumerate(sheet.rows)
    ]
    lines = ["| " + " | ".join(_md(cell) for cell in row) + " |" for row in (sheet.head, *rows)]
    rule = "|" + "---|" * len(sheet.head)
    return [f"### {sheet.title}", "", lines[0], rule, *lines[1:], ""]


def latex(sheet: Sheet) -> list[str]:
    """A tabular for the package booktabs, without a float around it."""
    align = "ll" + "r" * (len(sheet.head) - 2) if len(sheet.head) > 2 else "l" * len(sheet.head)
    lines = [
        f"% {tex(sheet.title)}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _tex_row(map(tex, sheet.head)),
        r"\midrule",
    ]
    for i, row in enumerate(sheet.rows):
        cells = [
            rf"\textbf{{{tex(cell)}}}" if (i, j) in sheet.bold else tex(cell)
            for j, cell in enumerate(row)
        ]
        lines.append(_tex_row(cells))
    return [*lines, r"\bottomrule", r"\end{tabular}", ""]


def tex(text: str) -> str:
    """Escaped for LaTeX."""
    return "".join(_TEX.get(sign, sign) for sign in text)


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _tex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _md(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
