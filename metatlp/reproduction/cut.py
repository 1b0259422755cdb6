"""A folder in XTREME's layout with its training files cut to Table 1's proportions.

    python -m metatlp.reproduction cut --data-dir DATA --scale 0.01 --output-dir DIR

Of each TLP of Table 1 the first `scale` times its training examples there, rounded up. Lines are
kept as they are; all other files are links. cut.json says how many examples there were and are.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from metatlp.data.whole_folder import whole_folder
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TLP
from metatlp.script import ScriptParser

RESULT = "cut.json"


def main(argv: Sequence[str]) -> None:
    parser = ScriptParser("cut", (__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--scale", type=float, required=True, help="factor on Table 1's examples")
    parser.add_argument("--output-dir", type=Path, required=True)
    arguments = parser.parse_args(argv)
    if not 0 < arguments.scale <= 1:
        raise InputError(f"--scale {arguments.scale}: must be above 0, at most 1")
    shutil.rmtree(arguments.output_dir / "data", ignore_errors=True)
    counts = cut(arguments.data_dir, arguments.scale, arguments.output_dir)
    (arguments.output_dir / RESULT).write_text(json.dumps(counts, indent=1), encoding="utf-8")
    print(f"cut {len(counts)} training files to {arguments.scale:g} of Table 1's sizes")


def cut(source: Path, scale: float, folder: Path) -> dict[str, dict[str, int]]:
    """Write the folder's `data`.

    Returns:
        TLP -> examples that the file had (`there`) and that are `kept`.

    Raises:
        InputError: no data there, or less than is wanted of a TLP of Table 1.
    """
    xtreme, counts = XtremeFolder(source), {}
    trained = {xtreme.path(tlp, "train"): tlp for tlp in xtreme.tlps("train") if tlp in PAPER_SIZES}
    with whole_folder(folder / "data") as unfinished:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            place = unfinished / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            tlp = trained.get(path)
            if tlp is None:
                os.symlink(path.resolve(), place)
                continue
            number = math.ceil(PAPER_SIZES[tlp] * scale)
            text, there = first(path.read_bytes().decode("utf-8"), tlp, number)
            if there < number:
                raise InputError(f"{path}: {there} examples, but --scale {scale:g} takes {number}")
            place.write_bytes(text.encode("utf-8"))
            counts[str(tlp)] = {"there": there, "kept": number}
    return counts


def first(text: str, tlp: TLP, number: int) -> tuple[str, int]:
    """The first examples of a file, as they stand there, and how many there are in all."""
    if tlp.task == "qa":
        return _first_questions(json.loads(text), number)
    if tlp.task in ("pos", "ner"):
        sentences = [part for part in text.replace("\r\n", "\n").split("\n\n") if part.strip("\n")]
        return "".join(f"{part.strip(chr(10))}\n\n" for part in sentences[:number]), len(sentences)
    lines = text.splitlines(keepends=True)
    return "".join(lines[:number]), len(lines)


def _first_questions(document: dict, number: int) -> tuple[str, int]:
    left, there = number, 0
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            there += len(paragraph["qas"])
            paragraph["qas"] = paragraph["qas"][:left]
            left -= len(paragraph["qas"])
        article["paragraphs"] = [each for each in article["paragraphs"] if each["qas"]]
    document["data"] = [article for article in document["data"] if article["paragraphs"]]
    return json.dumps(document, ensure_ascii=False), there
