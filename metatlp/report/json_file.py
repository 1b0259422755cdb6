"""Reading what runs have written: a missing or damaged file is one line that names it.

Knows files; knows no result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metatlp.errors import InputError


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object.

    Args:
        what: it is, for the message.

    Raises:
        InputError: it is not there, or no JSON object.
    """
    found = _parsed(_text(path, what), str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path}: damaged (a JSON object was expected)")
    return found


def read_lines(path: Path, what: str) -> list[dict[str, Any]]:
    """A JSON object per line.

    Raises:
        InputError: it is not there, or a line is no JSON object.
    """
    found = []
    for number, line in enumerate(_text(path, what).splitlines(), 1):
        record = _parsed(line, f"{path}:{number}")
        if not isinstance(record, dict):
            raise InputError(f"{path}:{number}: damaged (a JSON object was expected)")
        found.append(record)
    return found


def number_at(record: Any, *keys: str, path: Path) -> float:
    """The number at record[keys[0]][keys[1]]...

    Raises:
        InputError: there is none.
    """
    found = record
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InputError(f"{path}: damaged (no number at {'.'.join(keys)})")
    return float(found)


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; it should hold {what}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged ({error})") from error


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: damaged ({error})") from error
