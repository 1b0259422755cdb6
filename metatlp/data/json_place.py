"""Where in a JSON text a value stands, for error messages.

Walks the text again after an error, so that the good path needs no parser of our own.
"""

from __future__ import annotations

import json
import re

from metatlp.data.plaintext import line_at

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def line_of(text: str, place: tuple[str | int, ...]) -> int:
    """The line, from 1, of the value at `place` in a valid JSON text.

    Args:
        text: the document.
        place: keys and indices from the root. What is not there ends the walk: the line is then
            that of the value in which it is missing.
    """
    offset = _after_space(text, 0)
    for part in place:
        found = _member(text, offset, part)
        if found is None:
            break
        offset = found
    return line_at(text, offset)


def _member(text: str, offset: int, part: str | int) -> int | None:
    """The offset of the member `part` of the container at `offset`, or None without one."""
    if text[offset] != ("[" if isinstance(part, int) else "{"):
        return None
    offset = _after_space(text, offset + 1)
    index = 0
    found = None
    while text[offset] not in "]}":
        key: str | int = index
        if isinstance(part, str):
            key, offset = _DECODER.raw_decode(text, offset)
            offset = _after_space(text, _after_space(text, offset) + 1)  # past the colon
        if key == part:
            found = offset
            if isinstance(part, int):  # of equal keys the last counts, as in json.loads
                break
        _, offset = _DECODER.raw_decode(text, offset)
        offset = _after_space(text, offset)
        if text[offset] == ",":
            offset = _after_space(text, offset + 1)
        index += 1
    return found


def _after_space(text: str, offset: int) -> int:
    match = _SPACE.match(text, offset)
    return match.end() if match else offset
