"""How a flag is written down: a dataclass field with its help, its name, and the commonest rule.

Knows no particular flag.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from typing import Any

from metatlp.errors import InputError


def flag(help_text: str, default: Any = None, choices: Collection[str] | None = None) -> Any:
    metadata: dict[str, Any] = {"help": help_text}
    if choices is not None:
        metadata["choices"] = choices
    return field(default=default, metadata=metadata)


def flag_name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def at_least(low: int, arguments: Any, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise InputError(f"{flag_name(name)} {value}: must be {low} or more")
