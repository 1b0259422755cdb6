"""What every benchmark reports with: the machine, a table, and the results file.

Knows neither a benchmark nor a model. The file is Markdown, with a JSON file of every number beside
it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from metatlp.errors import InputError

Section = tuple[str, Sequence[str]]  # title, lines


def machine(device: torch.device) -> dict[str, Any]:
    """Where the numbers come from."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or "CPU",
        "cpu": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns line up as text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]


def page(title: str, command: str, facts: Sequence[str], sections: Sequence[Section]) -> str:
    """The Markdown: title, command, what was measured on what, and the tables."""
    lines = [f"# {title}", "", f"Command: `{command}`", "", *(f"- {fact}" for fact in facts)]
    for heading, body in sections:
        lines += ["", f"## {heading}", "", *body]
    return "\n".join(lines) + "\n"


def without_paths(argv: Sequence[str]) -> list[str]:
    """A command line without the paths of one machine."""
    shown = list(argv)
    for i, word in enumerate(shown[:-1]):
        if word in ("--data-dir", "--model", "--cache-dir") and os.sep in shown[i + 1]:
            shown[i + 1] = word.removeprefix("--").upper()
    return shown


def check_output(output: str | None) -> Path | None:
    """Make its folder. Raises InputError before hours of work, not after."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix != ".md":
        raise InputError(f"--output {output}: must end in .md; the JSON file is put beside it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}") from error
    return path


def save(path: Path | None, text: str, results: Mapping[str, Any]) -> None:
    """After every part, so that what was measured is kept if a later one fails."""
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}") from error
