"""Checkpoints that several ranks write, each a share of the tensors, and any number reads."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from metatlp.engine import checkpoint, manifest
from metatlp.engine.parameters.gather import owners
from metatlp.engine.parameters.pieces import Pieces
from metatlp.engine.run_state import copy_pieces
from metatlp.errors import InputError

WORKER = "tests/engine/workers/shards.py"
made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "workers" / "shards.py")))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.view(torch.int32), b.view(torch.int32)) and a.shape == b.shape


def save_shards(folder: Path, step: int, ranks: int = 3) -> Path:
    """What that many ranks write, from this process."""
    checkpoint.begin(folder, step)
    chosen = owners(made_up.SHAPES, ranks)
    shards = []
    for kind in made_up.KINDS:
        named = made_up.whole(kind)
        for i in range(ranks):
            own = {name: named[name] for name, owner in chosen.items() if owner == i}
            shards.append(checkpoint.write_shard(folder, step, kind, i, ranks, own))
    return checkpoint.finish(folder, step, made_up.STATE, made_up.STEPS, shards, keep=9)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    return str(caught.value)


def test_owners_by_hand():
    sizes = {"d": 1, "a": 6, "c": 4, "b": 5}
    shapes = {name: torch.Size([size]) for name, size in sizes.items()}
    assert owners(shapes, 2) == {"a": 0, "b": 1, "c": 1, "d": 0}  # 7 and 9 elements
    assert set(owners(shapes, 1).values()) == {0}


@pytest.mark.parametrize(("world", "ranks"), [(3, 3), (4, 4), (4, 2)])
def test_ranks_write_together(fork_world, tmp_path, world, ranks):
    folder = tmp_path / "checkpoints"
    forks = fork_world([str(folder), str(ranks)], world, WORKER)
    reports = [json.loads(fork.out) for fork in forks]
    first, disk, main_disk, file, gone, not_shared, last = reports[0]["said"]
    assert all(report["said"] == reports[0]["said"] for report in reports)
    assert (first, last) == (str(folder / "step_000002"), str(folder / "step_000004"))
    for line in (disk, main_disk, file, gone, not_shared):
        assert line.startswith("--output-dir: cannot write a checkpoint: ") and "\n" not in line
    assert "File too large" in disk and "File too large" in main_disk
    assert "Not a directory" in file
    assert "elsewhere/.step_000003.partial" in gone and "No such file" in gone
    assert "checkpoints/.step_000003.partial/theta-" in not_shared and "No such file" in not_shared
    # Nothing of the failed ones is left, and the one before them is whole.
    assert sorted(path.name for path in folder.iterdir()) == ["step_000002", "step_000004"]
    for path in folder.iterdir():
        check_content(path, ranks)
    one = max(4 * shape.numel() for shape in made_up.LARGE.values())
    for report in reports:
        taken, owned = report["assembled"]
        assert owned <= taken <= owned + one


def check_content(path: Path, ranks: int) -> None:
    """The same as of one file, for one process and for other numbers of ranks."""
    kinds, steps = {kind: made_up.whole(kind) for kind in made_up.KINDS}, made_up.STEPS
    single = checkpoint.save(path.parent.parent / "single", 2, made_up.STATE, kinds | steps, 1)
    files = {f"theta-{i + 1:05d}-of-{ranks:05d}.safetensors" for i in range(ranks)}
    assert {file.name for file in path.glob("theta*")} == files | {"theta.index.json"}
    saved, whole = checkpoint.load(path), checkpoint.load(single)
    assert saved.state["cursors"] == whole.state["cursors"] and saved.state["format"] == 2
    assert saved.tensors.keys() == whole.tensors.keys()
    assert torch.equal(saved.tensors["inner_steps"]["steps"], torch.tensor([4, 5]))
    for kind in made_up.KINDS:
        assert saved.tensors[kind].keys() == whole.tensors[kind].keys()
        for name, tensor in whole.tensors[kind].items():
            assert same_bits(saved.tensors[kind][name], tensor)
        for others in made_up.CUTS:
            for member in range(others):
                pieces = made_up.cut(others, member)
                expected = made_up.flat(whole.tensors[kind], pieces)
                # Padding is left as it was, here no number.
                found = made_up.flat({n: torch.ones(s) for n, s in made_up.SHAPES.items()}, pieces)
                copy_pieces(saved, kind, found, pieces)
                assert same_bits(found, expected)


def test_the_index_is_in_the_form_of_hugging_face(tmp_path):
    index = json.loads((save_shards(tmp_path, 1) / "theta.index.json").read_text())
    assert index["metadata"] == {"total_size": 4 * (37 * 8 + 5 * 7 + 5 + 1 + 3 * 11)}
    assert index["weight_map"].keys() == made_up.SHAPES.keys()
    assert index["weight_map"]["encoder.embedding"] == "theta-00001-of-00003.safetensors"


def test_more_ranks_than_parameters(tmp_path):
    saved = checkpoint.load(save_shards(tmp_path, 1, ranks=9))
    assert saved.tensors["theta"].keys() == made_up.SHAPES.keys()


def test_a_version_without_shards_reads_no_further_than_the_format(tmp_path):
    """It knew files such as these in the manifest, and format 1; anything else is damage to it."""
    path = save_shards(tmp_path, 1)
    listed = json.loads((path / "manifest.json").read_text())["files"]
    assert sorted(listed) == ["inner_steps.safetensors", "shards.json", "state.json"]
    assert json.loads((path / "state.json").read_text())["format"] == 2


@pytest.mark.parametrize("change", ["name", "shape", "kind"])
def test_pieces_of_another_model_are_refused(tmp_path, change):
    saved, pieces = checkpoint.load(save_shards(tmp_path, 1)), made_up.cut(2, 1)
    shapes, kind = dict(pieces.shapes), "velocity" if change == "kind" else "theta"
    if change == "name":
        shapes["other"] = shapes.pop("head.scale")
    elif change == "shape":
        shapes["encoder.weight"] = torch.Size([7, 5])
    with pytest.raises(InputError, match=f"step_000001: {kind} does not hold this model's"):
        copy_pieces(saved, kind, torch.zeros(999), Pieces(shapes, pieces.own))


def test_only_what_is_held_comes_into_memory(tmp_path):
    named, size = {"large": torch.zeros(2**22)}, 2**24
    path = checkpoint.save(tmp_path, 1, {}, {"theta": named}, 1)
    shape = named["large"].shape
    piece = made_up.Piece("large", shape, 2**20, 2**20 + 2**16, 0)
    saved, flat, before = checkpoint.load(path), torch.ones(2**16), mapped_memory()
    copy_pieces(saved, "theta", flat, Pieces({"large": shape}, [piece]))
    assert not flat.any() and mapped_memory() - before < size // 4


def mapped_memory() -> int:
    """Bytes of files that this process has in its memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0]) * 1024


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink], ids=lambda harm: harm.__name__)
def test_harm_to_any_file_is_named_and_auto_takes_the_one_before(tmp_path, harm):
    save_shards(tmp_path, 1)
    for file in sorted(save_shards(tmp_path / "whole", 2).iterdir()):
        path = tmp_path / "step_000002"
        shutil.copytree(tmp_path / "whole" / "step_000002", path)
        harm(path / file.name)
        message = refused(path)
        assert file.name in message and "\n" not in message
        lines: list[str] = []
        found = checkpoint.find(tmp_path, "auto", lines.append)
        assert found is not None and found.path.name == "step_000001"
        assert lines == [f"checkpoint passed over: {message}"]
        shutil.rmtree(path)


def list_again(path: Path) -> None:
    """Make the lists say what the files are, so that only their content is wrong."""
    files = json.loads((path / "shards.json").read_text())["files"]
    files = {name: manifest.describe(path / name) for name in files if (path / name).exists()}
    (path / "shards.json").write_bytes(manifest.as_manifest(files))
    files = json.loads((path / "manifest.json").read_text())["files"]
    files = {name: manifest.describe(path / name) for name in files}
    (path / "manifest.json").write_bytes(manifest.as_manifest(files))


def test_an_index_that_does_not_fit_the_shards(tmp_path):
    path = save_shards(tmp_path, 1)
    index = path / "theta.index.json"
    whole = index.read_text()
    for content in (whole.replace("00001-of", "00002-of", 1), whole.replace("0", "1", 1), "[]"):
        index.write_text(content)
        list_again(path)
        assert refused(path).endswith(
            "theta.index.json: damaged (not what the shards beside it hold)"
        )
    index.unlink()
    list_again(path)
    assert "theta.index.json: No such file" in refused(path)
    index.write_text(whole)
    (path / "theta-00002-of-00003.safetensors").unlink()
    list_again(path)
    assert "theta.index.json" in refused(path)
    list_again(save_shards(tmp_path, 1))
    checkpoint.load(path)
