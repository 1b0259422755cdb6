"""Measure what the estimates need, by a short run of meta-training per task.

    python -m metatlp.reproduction calibrate FILE PROTOCOL [NAME=VALUE ...]

Runs are started as the protocol starts them. Seconds of an update: the median meta step, after the
first ones, by its m * k inner steps; of an example: the dev evaluation at the end; of a start:
what is left. The machine should have nothing else to do.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.reproduction import warm
from metatlp.reproduction.estimate import FORMAT
from metatlp.reproduction.plan import ROOT, make_plan
from metatlp.reproduction.protocol import Protocol
from metatlp.reproduction.run import call
from metatlp.reproduction.runs import Run
from metatlp.reproduction.systems import Systems

STEPS, SKIPPED = 8, 2


def calibrate(file: str, protocol_name: str, settings: Mapping[str, str]) -> None:
    """Write a calibration.

    Args:
        file: where to.
        protocol_name, settings: as of `make_plan`.

    Raises:
        InputError: the file cannot be written, or a run did not end well.
    """
    settings = {name: value for name, value in settings.items() if name != "calibration"}
    protocol = make_plan(protocol_name, settings).protocol
    server = None if protocol.launch or protocol.gpus else warm.start(ROOT, protocol.cpus)
    try:
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            measured = {task: _measure(protocol, task, where) for task in protocol.grid.tasks}
            start = statistics.median(each["start"] for each in measured.values())
            training = _training(protocol, where, start, measured)
    finally:
        if server:
            server.communicate(b"")
    found = {
        "format": FORMAT,
        "device": next(iter(measured.values()))["device"],
        "protocol": protocol.name,
        "flags": protocol.flags,
        "update": {task: each["update"] for task, each in measured.items()},
        "example": {task: each["example"] for task, each in measured.items()},
        "start": start,
        "training": training,
        "batch": {task: each["batch"] for task, each in measured.items()},
        "sizes": {
            split: {k: v for each in measured.values() for k, v in each["sizes"][split].items()}
            for split in ("train", "dev")
        },
    }
    found["sizes"]["test"] = _test_sizes(protocol)
    try:
        Path(file).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    print(f"wrote {file}: {json.dumps({k: found[k] for k in ('device', 'update', 'start')})}")


def _measure(protocol: Protocol, task: str, folder: Path) -> dict[str, Any]:
    run = Systems(protocol).meta(f"task:{task}", 0, tau="inf", rate="1e-5")
    changes = {"max-meta-steps": str(STEPS), "save-every": "0"}
    run = Run(run.kind, run.script, run.slug, run.label, {**run.flags, **changes})
    seconds = _run(run, protocol, folder)
    return figures(folder / run.folder, task, seconds)


def _training(
    protocol: Protocol, folder: Path, start: float, measured: Mapping[str, Mapping[str, Any]]
) -> float:
    """Seconds that a training of finetune.py takes besides its updates and its scores."""
    tlps = protocol.grid.tlps[:2]
    run = Systems(protocol).baseline(tlps, 0)
    flags = {k: v for k, v in run.flags.items() if k != "epochs"}
    few = {"updates": "1", "eval-examples": "1", "lr": "1e-5", "save-every": "0"}
    run = Run(run.kind, run.script, run.slug, run.label, {**flags, **few})
    updates = sum(measured[tlp.task]["update"] for tlp in tlps)
    return max(0.0, (_run(run, protocol, folder) - start - updates) / len(tlps))


def _run(run: Run, protocol: Protocol, folder: Path) -> float:
    """Run it to its end; seconds.

    Raises:
        InputError: it did not end well.
    """
    for need in run.needs:
        if not (folder / need.folder).exists():
            _run(need, protocol, folder)
    command = run.command(protocol.launch, folder)
    print(f"calibrate: {run.label}", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryFile() as log:
        code = call(command, log)
        seconds = time.monotonic() - begun
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["nothing was said"]
    if code:
        raise InputError(f"calibrate, {run.label}: exit code {code}: {lines[-1]}")
    return seconds


def figures(folder: Path, task: str, seconds: float) -> dict[str, Any]:
    """What a finished run of one task says.

    Args:
        seconds: from its start to its end.
    """
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    steps = [entry for entry in entries if "slots" in entry]
    dev = [entry for entry in entries if "dev" in entry][-1]
    of_step = statistics.median(entry["seconds"] for entry in steps[min(SKIPPED, len(steps) - 1) :])
    updates = sum(len(slot["losses"]) for slot in steps[-1]["slots"])
    examples = sum(scores["examples"] for scores in dev["dev"].values())
    record = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    sizes = dict(part.split("=") for part in args["arguments"]["batch_size"].split(","))
    spent = sum(entry["seconds"] for entry in steps) + dev["seconds"]
    return {
        "device": args["placement"]["device"],
        "update": of_step / updates,
        "example": dev["seconds"] / examples,
        "start": seconds - spent,
        "batch": int(sizes[task]),
        "sizes": {
            split: {
                name: [one["examples"], one["rows"]]
                for name, one in record["splits"][split].items()
            }
            for split in ("train", "dev")
        },
    }


def _test_sizes(protocol: Protocol) -> dict[str, list[int]]:
    """TLP -> examples, twice, of the test files."""
    from metatlp.engine.arguments.command_line import parse_flags
    from metatlp.engine.arguments.data import SourceArguments
    from metatlp.engine.grid_data import open_source

    known = {
        "data",
        "data-dir",
        "own-data",
        "demo-seed",
        "demo-scale",
        "demo-label-noise",
        "cache-dir",
    }
    words = [w for k, v in protocol.of("every").items() if k in known for w in (f"--{k}", v)]
    (arguments,) = parse_flags((SourceArguments,), lambda given: {}, "", words)
    source = open_source(arguments, print)
    wanted: Sequence[TLP] = [
        t for t in (*protocol.tlps, *protocol.external) if t in source.tlps("test")
    ]
    return {str(t): [len(source.read(t, "test").examples)] * 2 for t in wanted}
