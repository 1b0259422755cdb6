"""Values out of a YAML file, checked: an error names the file, the key and what would be right.

Knows no key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from metatlp.errors import InputError

Value = TypeVar("Value")


class Node:
    """A value of the file, and where it stands."""

    def __init__(self, value: Any, file: str, key: str = ""):
        self.value, self.file, self.key = value, file, key

    def fail(self, message: str) -> NoReturn:
        """Raises InputError at this place."""
        raise InputError(f"{self.file}: {self.key or 'the file'}: {message}")

    def mapping(self, known: Sequence[str] | None = None) -> dict[str, Node]:
        """Key -> node.

        Raises:
            InputError: it is no mapping, or has a key that is not `known`.
        """
        if not isinstance(self.value, dict):
            self.fail(f"write keys with values, not {self.value!r}")
        found = {}
        for key, value in self.value.items():
            node = Node(value, self.file, f"{self.key}.{key}" if self.key else str(key))
            if known is not None and key not in known:
                node.fail(f"unknown key; choose from {', '.join(known)}")
            found[str(key)] = node
        return found

    def list_of(self, read: Callable[[Node], Value], least: int = 0) -> tuple[Value, ...]:
        """Raises InputError: it is no list, is shorter than `least`, or has something twice."""
        if not isinstance(self.value, list):
            self.fail(f"write a list like [1, 2], not {self.value!r}")
        nodes = [Node(v, self.file, f"{self.key}[{i}]") for i, v in enumerate(self.value)]
        if len(nodes) < least:
            self.fail(f"at least {least} of them")
        found = tuple(read(node) for node in nodes)
        for node, one in zip(nodes, found, strict=True):
            if found.count(one) > 1:
                node.fail(f"{one} stands there twice")
        return found

    def one_of(self, *choices: Any) -> Any:
        if self.value not in choices or isinstance(self.value, bool) != isinstance(
            choices[0], bool
        ):
            self.fail(f"{self.value!r}; choose from {', '.join(map(str, choices))}")
        return self.value

    def whole(self, low: int = 0) -> int:
        """A whole number, `low` or more."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < low:
            self.fail(f"{self.value!r}; write a whole number, {low} or more")
        return self.value

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            self.fail(f"{self.value!r}; write a text")
        return " ".join(self.value.split())

    def word(self) -> str:
        """A flag's value as a command line has it; equal numbers give equal words."""
        if self.value is None or isinstance(self.value, (list, dict)):
            self.fail(f"{self.value!r}; write one value")
        return canonical(self.value)


def canonical(value: Any) -> str:
    """One spelling for a flag's value: 1, 1.0 and "1" are `1`; so are the parts of `1.0,2`."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(_number(part.strip()) for part in str(value).split(","))


def _number(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def merged(*flags: Mapping[str, str]) -> dict[str, str]:
    """The flags of several mappings; of the same flag the last."""
    return {name: value for part in flags for name, value in part.items()}
