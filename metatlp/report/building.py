"""A report while it is being made: what it reads with, and the files and sections so far.

Knows names and bytes; knows no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metatlp.report import figures
from metatlp.report.collected import Resampler
from metatlp.report.page import picture
from metatlp.report.plan_file import Plan
from metatlp.report.readings import Reader
from metatlp.report.sheets import Sheet, latex, markdown

TITLES = {
    "table1": "Table 1: training examples",
    "table2": "Table 2: selections and sampling strategies",
    "table3": "Table 3: zero-shot evaluation",
    "table4": "Table 4: temperatures",
    "figure2": "Figure 2: sizes and proportions",
    "figure3": "Figure 3: what MultiDDS learned",
    "grid_search": "Grid search of m, k and beta",
    "ablations": "Ablations",
    "claims": "Claims",
}


@dataclass
class Building:
    """The report.

    Attributes:
        paper: folder of the paper's numbers, where they are compared.
        partial: whether what has not been run is left out.
        files: name within the output folder -> bytes. sections: of index.html, in order.
        warnings: what a reader has to know before all else.
    """

    plan: Plan
    confidence: float
    reader: Reader
    resampler: Resampler
    paper: Path | None = None
    partial: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    sections: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, text: str | bytes) -> str:
        """Keep a file; returns its name."""
        self.files[name] = text if isinstance(text, bytes) else text.encode("utf-8")
        return name

    def add_sheets(
        self, target: str, sheets: Sequence[Sheet], notes: Sequence[str] = ()
    ) -> list[str]:
        """TARGET.md and TARGET.tex; returns their names."""
        lines = [f"## {TITLES[target]}", ""]
        lines += [line for sheet in sheets for line in markdown(sheet)]
        lines += [f"- {note}" for note in notes]
        tex = ["% needs \\usepackage{booktabs}", *(x for sheet in sheets for x in latex(sheet))]
        return [
            self.add(f"{target}.md", "\n".join(lines).rstrip() + "\n"),
            self.add(f"{target}.tex", "\n".join(tex)),
        ]

    def add_figure(self, target: str, figure: Any, caption: str) -> tuple[list[str], Any]:
        """TARGET.svg and TARGET.png; returns their names, and the picture for the page."""
        svg, png = figures.as_svg(figure), figures.as_png(figure)
        figures.close(figure)
        names = [self.add(f"{target}.svg", svg), self.add(f"{target}.png", png)]
        return names, picture(svg, caption)

    def section(self, target: str, **values: Any) -> None:
        """A section of index.html; what is not given is empty."""
        empty: dict[str, Any] = {"text": [], "blocks": [], "figures": [], "sheets": []}
        empty |= {"notes": [], "detail_head": [], "detail_rows": [], "files": []}
        empty |= {"with_paper": False, "colours": False}
        self.sections.append({"name": target, "title": TITLES[target]} | empty | values)
