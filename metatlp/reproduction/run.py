"""One run of a plan: started, or gone on with, to its end; then workflow.json says that it is done.

    python -m metatlp.reproduction run OUT KEY

Knows plan.json and the folder of the run; what the scripts do is theirs. Imports nothing heavy.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from metatlp.errors import InputError
from metatlp.reproduction import warm
from metatlp.reproduction.choice import choose
from metatlp.reproduction.devices import held

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("metatlp", "torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
RESUMES = ("baseline", "mtl", "meta", "finetune")
DONE, BEGUN, LOG = "workflow.json", "begun.json", "log.txt"
COUNTED = ("starts", "seconds")  # of all starts together; a killed one's seconds are not known


def main(argv: Sequence[str]) -> None:
    """OUT and the keys of runs, which are made one after the other.

    Raises:
        InputError: a run did not end well.
    """
    if len(argv) < 2:
        raise InputError("run: name OUT, the folder with plan.json, and the keys of runs")
    out = Path(argv[0])
    plan = read_json(out / "plan.json")
    for key in argv[1:]:
        if key not in plan["runs"]:
            raise InputError(f"{out}/plan.json has no run {key}")
        with held(out, plan["protocol"]["devices"], plan["protocol"]["gpus"]):
            make(out, key, plan["runs"])


def make(out: Path, key: str, runs: Mapping[str, Any]) -> None:
    """Make a run of the plan, unless it is done.

    Raises:
        InputError: a run that it starts from is not done, or it did not end well.
    """
    run, folder = runs[key], out / runs[key]["folder"]
    inputs = {need: _finished(out / runs[need]["folder"], need) for need in run["needs"]}
    with _alone(folder):
        done = folder / DONE
        if done.exists() and read_json(done).get("inputs") == inputs:
            os.utime(done)
            return
        begun = {"key": key, "inputs": inputs}
        again = _same(folder / BEGUN, begun)
        if not again:
            # Of another version of what it starts from, or of another plan's folder.
            _empty(folder)
            _write(folder / BEGUN, begun)
        if run["kind"] == "evaluate":
            (folder / run["result"]).unlink(missing_ok=True)
        chosen, scores = choose(out, run["choices"], runs)
        command = [_filled(word, run, chosen) for word in run["command"]]
        resumed = ["--resume", "auto"] if again and run["kind"] in RESUMES else []
        _count(folder, starts=1)
        _start(command + resumed, folder, run)
        for pattern in run["drop"]:
            for path in folder.glob(pattern):
                shutil.rmtree(path)
        record = {
            "key": key,
            "inputs": inputs,
            "command": command,
            **{name: read_json(folder / BEGUN)[name] for name in COUNTED},
            **_about(folder),
        }
        _write(done, record | ({"chosen": chosen, "dev": scores} if chosen else {}))


def _start(command: list[str], folder: Path, run: Mapping[str, Any]) -> None:
    """Run the command to its end; its output goes to log.txt, its seconds to begun.json.

    Raises:
        InputError: it did not end well.
    """
    begun = time.monotonic()
    log = folder / LOG
    with log.open("ab") as file:
        code = call(command, file)
    _count(folder, seconds=time.monotonic() - begun)
    if code or not (folder / run["result"]).exists():
        why = f"exit code {code}" if code else "stopped before its end"
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        said = lines[-1].strip() if lines else "nothing was said"
        raise InputError(f"{run['label']}: {why}: {said} ({log} has it all)")


def call(command: Sequence[str], log: IO[bytes]) -> int:
    """Start a command of the plan in the project's folder; its exit code. log: where it writes."""
    program, *words = command
    if program == "python":
        return warm.run(words, ROOT, log)
    # The launcher of this Python, whichever is first on the PATH.
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else program
    return subprocess.run([found, *words], cwd=ROOT, stdout=log, stderr=log).returncode


def _finished(folder: Path, key: str) -> str:
    """When a run that is needed was finished."""
    path = folder / DONE
    if not path.exists():
        raise InputError(f"run {key} is needed and not done: {folder}")
    return str(read_json(path)["finished"])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder; wait while another process has it, as one that a killed workflow left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process is at it; waiting", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == ".lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _same(path: Path, value: Mapping[str, Any]) -> bool:
    if not path.exists():
        return False
    return {k: v for k, v in read_json(path).items() if k not in COUNTED} == value


def _count(folder: Path, **more: float) -> None:
    """Add to begun.json, so that the starts that were stopped are counted, and their time."""
    begun = read_json(folder / BEGUN)
    _write(folder / BEGUN, begun | {name: begun.get(name, 0) + more[name] for name in more})


def _filled(word: str, run: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    """A word of the command, with the chosen value in the place of `<best of ...>`."""
    for flag, value in chosen.items():
        if word == f"<best of {','.join(run['choices'][flag])}>":
            return value
    return word


def _about(folder: Path) -> dict[str, Any]:
    """When, with what and where it was made."""
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    found: dict[str, Any] = {"finished": f"{finished} {time.time_ns()}"}
    path = folder / "args.json"
    if path.exists():
        record = read_json(path)
    else:
        path = folder / "scores.json"
        record = read_json(path) if path.exists() else {}
    placement = record.get("placement") or {"device": None}
    found |= {
        "started": record.get("started"),
        "versions": record.get("versions") or {name: _version(name) for name in PACKAGES},
        "device": placement["device"],
        "placement": placement,
        "commit": record.get("commit"),
    }
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_json(path: Path) -> dict[str, Any]:
    """Raises InputError: it is not there, or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: a JSON object was expected")
    return found


def _write(path: Path, value: Mapping[str, Any]) -> None:
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(beside, path)
