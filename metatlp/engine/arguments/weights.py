"""Reading `--weights-file`: fixed sampling weights, one for each selected TLP.

Knows the two file forms; knows nothing of what the weights are used for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metatlp.data.plaintext import read_text, shown
from metatlp.errors import InputError

# Where a weight stands (for messages), its name, and its value as it was written.
Entry = tuple[str, str, Any]


def read_weights(path: Path, names: Sequence[str]) -> list[float]:
    """The weights of the selected TLPs, in their order.

    A JSON object `{"pos_hi": 2.0, ...}` (a name that ends in .json, or a text that begins like
    JSON), or lines `name<TAB>weight`, where blank lines are skipped.

    Args:
        path: the file.
        names: TLP names, e.g. `pos_hi`, in the order that numbers the arms.

    Returns:
        One weight per name: finite, >= 0, not all 0; not normalised.

    Raises:
        InputError: naming the file and the line (TSV) or the key (JSON).
    """
    text, _ = read_text(path)
    is_json = path.suffix == ".json" or text.lstrip()[0] in "{["
    entries = _json_entries(path, text) if is_json else _tsv_entries(path, text)
    weights: dict[str, float] = {}
    for place, name, value in entries:
        if name in weights:
            raise InputError(f"{place}: {shown(name)} has a weight already")
        if name not in names:
            raise InputError(
                f"{place}: {shown(name)} is not among the selected TLPs ({', '.join(names)})"
            )
        weights[name] = _weight(place, value)
    missing = [name for name in names if name not in weights]
    if missing:
        raise InputError(f"{path}: no weight for {', '.join(missing)}")
    if not any(weights.values()):
        raise InputError(f"{path}: all weights are 0: nothing can be drawn")
    return [weights[name] for name in names]


def _tsv_entries(path: Path, text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        cells = line.split("\t")
        if len(cells) != 2:
            raise InputError(
                f"{place}: {len(cells)} columns, expected 2, name<TAB>weight: {shown(line)}"
            )
        yield place, cells[0].strip(), cells[1].strip()


def _json_entries(path: Path, text: str) -> Iterator[Entry]:
    try:
        # Objects become tuples of pairs, so that a key given twice is seen; lists stay lists.
        pairs = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        # An integer of thousands of digits; brackets nested thousands deep.
        raise InputError(f"{path}:1: not readable as JSON ({error})") from None
    if not isinstance(pairs, tuple):
        raise InputError(f'{path}:1: not a JSON object like {{"pos_hi": 2.0}}')
    for name, value in pairs:
        yield f"{path}: key {shown(name)}", name, value


def _weight(place: str, value: Any) -> float:
    """A number (JSON) or the text of one (TSV). bool is an int in Python, but no weight."""
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(
            f"{place}: the weight must be a finite number >= 0, not {shown(str(value))}"
        )
    return weight
