"""Checkpoints on disk: whole or refused, whatever happens to their files."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metatlp.engine import checkpoint
from metatlp.errors import InputError

TENSORS = {
    "theta": {"encoder.weight": torch.arange(12.0).reshape(3, 4), "head.bias": torch.ones(2)},
    "exp_avg": {"encoder.weight": torch.full((3, 4), -0.0), "head.bias": torch.tensor([1e-45, 0])},
}
STATE = {"cursors": {"pos_hi": 3}, "sampler": {"probs": [0.1, 0.9]}, "num_records": 4}
FILES = ("manifest.json", "state.json", "theta.safetensors", "exp_avg.safetensors")


def save(folder: Path, step: int, keep: int = 9) -> Path:
    return checkpoint.save(folder, step, STATE, TENSORS, keep)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    return str(caught.value)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_was_saved_is_read(tmp_path):
    path = save(tmp_path / "new" / "folder", 7)
    assert path == tmp_path / "new" / "folder" / "step_000007"
    read = checkpoint.load(path)
    assert read.state == {**STATE, "format": checkpoint.FORMAT, "step": 7}
    assert read.tensors.keys() == TENSORS.keys()
    for kind, named in TENSORS.items():
        for name, tensor in named.items():
            # As integers: -0.0 and denormal numbers must keep their bits.
            same = torch.equal(read.tensors[kind][name].view(torch.int32), tensor.view(torch.int32))
            assert same, (kind, name)


def test_a_checkpoint_holds_safetensors_and_json_only(tmp_path):
    save(tmp_path, 1)
    assert sorted(tree(tmp_path)) == sorted(f"step_000001/{name}" for name in FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


HARMS = (truncate, flip, append, empty, Path.unlink, into_folder, dangle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_harm_to_any_file_is_refused_and_named(tmp_path, name, harm):
    path = save(tmp_path, 1)
    harm(path / name)
    message = refused(path)
    assert name in message and "\n" not in message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_auto_takes_the_one_before_and_says_so(tmp_path, name, harm):
    save(tmp_path, 1)
    harm(save(tmp_path, 2) / name)
    lines: list[str] = []
    found = checkpoint.find(tmp_path, "auto", lines.append)
    assert found is not None and found.path.name == "step_000001"
    assert len(lines) == 1 and lines[0].startswith("checkpoint passed over: ") and name in lines[0]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_changed_byte_goes_unseen(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "flips"
    path = folder / "step_000001"
    whole = folder / "whole"
    if not whole.exists():
        save(folder, 1)
        shutil.copytree(path, whole)
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((whole / name).read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.sets(places, min_size=1, max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    (path / name).write_bytes(content)
    try:
        refused(path)
    finally:
        shutil.copy(whole / name, path / name)
    checkpoint.load(path)


def test_every_single_byte_of_the_manifest_counts(tmp_path):
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    whole = manifest.read_bytes()
    for place in range(len(whole)):
        for flipped in (1, 7, 32, 128):  # 7 turns a line feed into a carriage return
            manifest.write_bytes(
                whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :]
            )
            refused(path)


ENTRY = {"sha256": "0" * 64, "bytes": 3}
GARBAGE = {
    "not JSON": "{",
    "not UTF-8": b"\xff\xfe{}",
    "deep": "[" * 200_000,
    "long number": '{"files": ' + "9" * 10_000 + "}",
    "list": "[]",
    "number": "7",
    "null": "null",
    "no files": "{}",
    "files null": '{"files": null}',
    "files list": '{"files": ["state.json"]}',
    "files empty": '{"files": {}}',
    "without the state": json.dumps({"files": {"theta.safetensors": ENTRY}}),
    "entry null": json.dumps({"files": {"state.json": None}}),
    "entry number": json.dumps({"files": {"state.json": 3}}),
    "entry wrong": json.dumps({"files": {"state.json": ENTRY}}),
    "path above": json.dumps({"files": {"state.json": ENTRY, "../x.json": ENTRY}}),
    "absolute path": json.dumps({"files": {"state.json": ENTRY, "/etc/x.json": ENTRY}}),
    "NUL in a name": json.dumps({"files": {"state.json": ENTRY, "a\0.json": ENTRY}}),
    "a pickle": json.dumps({"files": {"state.json": ENTRY, "theta.pt": ENTRY}}),
    "itself": json.dumps({"files": {"state.json": ENTRY, "manifest.json": ENTRY}}),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_the_manifest(tmp_path, content):
    path = save(tmp_path, 1)
    (path / "manifest.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    assert str(path) in refused(path)


def test_a_file_that_the_manifest_does_not_list_is_not_read(tmp_path):
    path = save(tmp_path, 1)
    (path / "theta.pt").write_bytes(b"not ours")
    assert checkpoint.load(path).tensors.keys() == TENSORS.keys()


def test_another_format_is_refused(tmp_path):
    path = checkpoint.save(tmp_path, 1, {**STATE, "format": 3}, TENSORS, 1)
    assert "format 3, but this version reads 1 and 2" in refused(path)


def test_find(tmp_path):
    folder = tmp_path / "checkpoints"
    lines: list[str] = []
    assert checkpoint.find(folder, "auto", lines.append) is None
    one, two = save(folder, 1), save(folder, 2)
    (folder / ".step_000003.partial").mkdir()
    (folder / "step_3").mkdir()
    (folder / "notes.txt").touch()
    assert checkpoint.find(folder, "auto", lines.append).path == two
    assert checkpoint.find(folder, str(one), lines.append).path == one
    assert lines == []
    with pytest.raises(InputError, match="step_000009/manifest.json: No such file"):
        checkpoint.find(folder, str(folder / "step_000009"), lines.append)
    flip(two / "theta.safetensors")
    # A path means this one: nothing else is taken in its place.
    with pytest.raises(InputError, match="step_000002/theta.safetensors: damaged"):
        checkpoint.find(folder, str(two), lines.append)
    flip(one / "state.json")
    with pytest.raises(InputError, match="every checkpoint in .* is damaged"):
        checkpoint.find(folder, "auto", lines.append)
    assert len(lines) == 2


def test_keep_keeps_the_newest(tmp_path):
    for step in (2, 4, 999_998, 999_999, 1_000_000, 1_000_002):
        save(tmp_path, step, keep=3)
    # By number: as text, 1000000 comes before 999999.
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"step_999999", "step_1000000", "step_1000002"}
    found = checkpoint.find(tmp_path, "auto", print)
    assert found is not None and found.path.name == "step_1000002"


def test_later_steps_are_set_aside_until_the_next_save(tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, step)
    before = tree(tmp_path / "step_000006")
    aside = checkpoint.set_aside(tmp_path, 2)
    assert [path.name for path in aside] == ["step_000004", "step_000006"]
    assert tree(tmp_path / ".step_000006.old") == before
    assert checkpoint.find(tmp_path, "auto", print).path.name == "step_000002"
    save(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000002", "step_000003"]


def test_a_save_clears_what_a_killed_one_left(tmp_path):
    save(tmp_path, 1)
    for name in (".step_000002.partial", ".step_000001.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "theta.safetensors").write_bytes(b"half")
    save(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000001", "step_000002"]
    checkpoint.load(tmp_path / "step_000002")


def test_saving_a_step_again_replaces_it(tmp_path):
    flip(save(tmp_path, 1) / "theta.safetensors")
    save(tmp_path, 1)
    checkpoint.load(tmp_path / "step_000001")
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("a file, so nothing can be made below it")
    with pytest.raises(InputError, match="--output-dir: cannot write a checkpoint: .*Not a dir"):
        save(tmp_path / "file" / "checkpoints", 1)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A limit on the size of files stands for the full disk: writing fails in the same places."""
    save(tmp_path, 1)
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--output-dir: cannot write a checkpoint: ") == 2
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]


def save_on_a_full_disk(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    large = {"theta": {"weight": torch.zeros(10_000)}}
    long = {"cursors": list(range(10_000))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for state, tensors in ((STATE, large), (long, TENSORS)):
        try:
            checkpoint.save(folder, 2, state, tensors, 1)
        except InputError as error:
            print(error)


if __name__ == "__main__":
    save_on_a_full_disk(Path(sys.argv[1]))
