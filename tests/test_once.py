"""Folders built once: one builder, and never half a folder."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from metatlp.data.once import built_once
from metatlp.data.whole_folder import whole_folder
from metatlp.errors import InputError

# Builds FOLDER slowly, with its process number in two files; says when it has begun.
BUILDER = """\
import os, sys, time
from pathlib import Path
from metatlp.data.once import built_once

def build(folder):
    (folder / "first").write_text(str(os.getpid()))
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "second").write_text(str(os.getpid()))

built_once(Path(sys.argv[1]), build)
"""


def builder(folder, seconds):
    command = [sys.executable, "-c", BUILDER, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(folder):
    (folder / "second").write_text("whole")


def refuse(folder):
    raise AssertionError("built again")


def test_the_second_call_finds_it(tmp_path):
    assert built_once(tmp_path / "deep" / "x", fill) == tmp_path / "deep" / "x"
    assert built_once(tmp_path / "deep" / "x", refuse) == tmp_path / "deep" / "x"
    assert (tmp_path / "deep" / "x" / "second").read_text() == "whole"


def test_several_processes_build_one_folder(tmp_path):
    running = [builder(tmp_path / "x", 0.3) for _ in range(4)]
    begun = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(begun) == ["", "", "", "begun\n"]
    names = [(tmp_path / "x" / name).read_text() for name in ("first", "second")]
    assert names[0] == names[1]
    assert names_in(tmp_path) == ["x", "x.lock"]


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(tmp_path):
    process = builder(tmp_path / "x", 600)
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.wait()
    assert not (tmp_path / "x").exists()
    (first,) = tmp_path.rglob("first")
    assert first.parent.parent.name.startswith("x.unfinished-")
    # Of another folder, whose name only begins the same.
    (tmp_path / "x.y.unfinished-1").mkdir()
    begun = time.monotonic()
    built_once(tmp_path / "x", fill)
    assert time.monotonic() - begun < 30, "the lock of the killed process is gone with it"
    assert names_in(tmp_path / "x") == ["second"]
    assert names_in(tmp_path) == ["x", "x.lock", "x.y.unfinished-1"]


def test_a_failed_build_leaves_nothing_either(tmp_path):
    with pytest.raises(AssertionError):
        built_once(tmp_path / "x", refuse)
    assert names_in(tmp_path) == ["x.lock"]
    assert built_once(tmp_path / "x", fill).is_dir()


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="^--cache-dir .*file: cannot be used"):
        built_once(Path(tmp_path / "file" / "x"), fill)


def test_what_has_come_to_hold_something_is_left_alone(tmp_path):
    with pytest.raises(OSError), whole_folder(tmp_path / "x") as unfinished:
        fill(unfinished)
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "mine").touch()
    assert names_in(tmp_path) == ["x"] and names_in(tmp_path / "x") == ["mine"]
