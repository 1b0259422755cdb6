"""The systems that are compared: whose models they are, and which data they have seen.

Knows folders of models and what lies beside the weights; loads no weights and reads no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from metatlp.engine.models import find_models
from metatlp.engine.provenance import Provenance, read
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS
from metatlp.tasks.task import Limits

TRAINED = "trained"


@dataclass(frozen=True)
class System:
    """One row of the tables: a model per task.

    Attributes:
        name: in tables and files.
        models: task -> folder.
        provenance: task -> where its model comes from; None: nothing says.
    """

    name: str
    models: Mapping[str, Path]
    provenance: Mapping[str, Provenance | None]

    def limits(self, task: str) -> Limits:
        """The lengths it was trained with. No example is left out, whatever training did."""
        provenance = self.provenance[task]
        return replace(provenance.limits if provenance else Limits(), long_inputs="keep")

    def as_json(self) -> dict[str, Any]:
        """Folder and provenance of each task's model."""
        return {
            task: {
                "folder": str(folder),
                "limits": asdict(self.limits(task)),
                "provenance": known.as_json() if (known := self.provenance[task]) else None,
            }
            for task, folder in self.models.items()
        }

    def seen(self, tlp: TLP) -> dict[str, tuple[str, ...]] | None:
        """What data in the TLP's language did: `trained`, or what it chose -> the TLPs.

        None where nothing says what the model has seen.
        """
        provenance = self.provenance[tlp.task]
        if provenance is None:
            return None
        uses = {TRAINED: provenance.trained_on} | dict(provenance.selected_on)
        same = {
            use: tuple(name for name in names if name.partition("_")[2] == tlp.lang)
            for use, names in uses.items()
        }
        found = {use: names for use, names in same.items() if names}
        return found if found or provenance.complete else None


def find_systems(text: str) -> list[System]:
    """The systems of --model, in its order.

    Args:
        text: `PATH` or `NAME=PATH`, several with commas between.

    Raises:
        InputError: no models there, or two of a system for one task.
    """
    found: dict[str, System] = {}
    for entry in text.split(","):
        name, path = _named(entry.strip())
        models = find_models(path)
        before = found.get(name, System(name, {}, {}))
        twice = [task for task in TASKS if task in models and task in before.models]
        if twice:
            raise InputError(
                f"--model {entry}: '{name}' has a model for '{twice[0]}' already, in "
                f"{before.models[twice[0]]}; give one another name, as NAME={path}"
            )
        folders = {**before.models, **models}
        folders = {task: folders[task] for task in TASKS if task in folders}
        found[name] = System(name, folders, {task: read(f) for task, f in folders.items()})
    return list(found.values())


def _named(entry: str) -> tuple[str, str]:
    name, equals, path = entry.partition("=")
    # A path may have an = of its own.
    if not equals or "/" in name:
        name, path = "", entry
    if not path or entry.startswith("="):
        raise InputError(f"--model: cannot read '{entry}'; write PATH or NAME=PATH")
    folder = Path(path).absolute()
    own = folder.parent if folder.name == "models" else folder
    name = name or own.name
    # Names become folders of a submission, and cells of a table.
    if name.startswith(".") or any(c in name for c in '/\\|,"\n') or not name.strip():
        raise InputError(f"--model {entry}: '{name}' is no name; write NAME=PATH with another")
    return name, path


def check_unseen(system: System, tlps: Iterable[TLP]) -> None:
    """That the system was neither trained nor chosen with data in the languages of these TLPs.

    Raises:
        InputError: it was, and by what.
    """
    for tlp in tlps:
        for use, names in (system.seen(tlp) or {}).items():
            did = "trained" if use == TRAINED else f"chose the {use} of"
            raise InputError(
                f"--languages external: {', '.join(names)} {did} {system.name}, so {tlp} is not "
                "unseen; --allow-seen scores and marks it"
            )
