"""The folder of the demo grid: its bytes, its sizes, what the project's own readers make of it."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.demo.__main__ import main
from metatlp.data.demo.fingerprint import generator_digest
from metatlp.data.demo.folder import DEFAULT_SCALE, write_demo
from metatlp.data.demo.languages import EXTERNAL, LANGUAGES, TRAINING
from metatlp.data.demo.splits import split_sizes
from metatlp.data.demo_source import DemoGrid
from metatlp.data.records import Example, TaggedSentence, TextPair
from metatlp.data.tsv import LABELS, POS_TAGS
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TASK_CODES, TLP

ROOT = Path(__file__).resolve().parents[2]
TINY = 0.0003
# Whoever changes a byte of the demo's examples changes this number.
GOLDEN = "b45dc3f3af37fc4a5420abb351010fad15a7284bf11333da475371414cf12a05"
PYTHONS = [f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info.minor]
SPLITS = ("train", "dev", "test")


def checksum(folder: Path) -> str:
    """sha256 over names and contents of all files but demo.json, which has the sources' digest."""
    digest = hashlib.sha256()
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "demo.json"]
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def examples_of(folder: Path) -> dict[tuple[str, TLP], list]:
    """(split, TLP) -> examples as the readers have them; fails where they repaired anything."""
    source = XtremeFolder(folder)
    found = {}
    for split in SPLITS:
        for tlp in source.tlps(split):
            result = source.read(tlp, split)
            assert set(result.counts) == {"read"}, (split, tlp, result.counts)
            found[split, tlp] = result.examples
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "grid"
    write_demo(folder, seed=7, scale=TINY)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "grid"
    write_demo(folder)
    return folder


def test_the_bytes_of_a_seed(tiny):
    assert checksum(tiny) == GOLDEN


def written_by(python: str, folder: Path, **environment: str) -> str:
    """The checksum of the grid as a Python writes it that sees this project and no package."""
    # Without `site` there are no installed packages: the standard library has to do.
    command = [python, "-S", "-m", "metatlp.data.demo", "--output-dir", str(folder / "grid")]
    subprocess.run(
        [*command, "--seed", "7", "--scale", str(TINY)],
        check=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    return checksum(folder / "grid")


@pytest.mark.parametrize("hash_seed", ["0", "4321"])
def test_the_same_bytes_in_every_process(tmp_path, hash_seed):
    assert written_by(sys.executable, tmp_path, PYTHONHASHSEED=hash_seed) == GOLDEN


def other_pythons() -> list[str]:
    """Those on PATH and of pyenv that run: a name on PATH may stand for what is not installed."""
    ask = ["-c", "import sys; print(sys.executable)"]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [python for python in map(shutil.which, PYTHONS) if python]
    found += [str(path) for name in PYTHONS for path in pyenv.glob(f"versions/*/bin/{name}")]
    answers = [subprocess.run([each, *ask], capture_output=True, text=True) for each in found]
    return sorted({answer.stdout.strip() for answer in answers if answer.returncode == 0})


def test_the_same_bytes_with_other_pythons(tmp_path):
    pythons = other_pythons()
    if not pythons:
        pytest.skip(f"none of {', '.join(PYTHONS)} is here and runs")
    for number, python in enumerate(pythons):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert written_by(python, folder) == GOLDEN, python


def test_the_examples_in_the_docs_are_in_the_grid(full):
    docs = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    shown = docs.split("## The tasks")[1].split("## Sizes")[0]
    english = "\n".join(path.read_text(encoding="utf-8") for path in full.rglob("*en*.*"))
    sentences = re.findall(r"`((?:\w+ ){3,}[^`]*[.?])`", shown)
    assert len(sentences) == 2 + 6 + 2, sentences
    for sentence in sentences:
        assert sentence.removesuffix(" ...") in english, sentence
    tables = re.findall(r"^\| (.*) \|\n\|-.*\n\| .* \|\n\| (.*) \|$", shown, re.MULTILINE)
    tagged = [rows for rows in tables if re.search("PUNCT|B-LOC", rows[1])]
    assert len(tagged) == 2, tables
    for words, tags in tagged:
        pairs = zip(words.split(" | "), tags.rstrip(" |").split(" | "), strict=False)
        rows = [f"{word}\t{tag}" for word, tag in pairs if word != "..."]
        assert "\n".join(rows) in english, words


def test_sizes_follow_table_1_and_its_holes_are_holes(full):
    found = {key: len(examples) for key, examples in examples_of(full).items()}
    assert {tlp for split, tlp in found if split == "train"} == set(PAPER_SIZES)
    for tlp, size in PAPER_SIZES.items():
        assert found["train", tlp] == math.ceil(size / 50)
    wanted = {*PAPER_SIZES, *(TLP(task, code) for task in TASK_CODES for code in EXTERNAL)}
    for split in ("dev", "test"):
        assert {tlp for each, tlp in found if each == split} == wanted
        assert all(found[split, tlp] == 100 for tlp in wanted)
    facts = json.loads((full / "demo.json").read_text())
    assert sum(facts.pop("examples").values()) == sum(found.values())
    assert facts == {
        "generator": generator_digest(),
        "seed": 0,
        "scale": DEFAULT_SCALE,
        "label_noise": 0.0,
    }


def test_labels_at_the_default_scale(full):
    for (split, tlp), examples in examples_of(full).items():
        if tlp.task == "pos" and split == "train":
            assert {tag for one in examples for tag in one.tags} == set(POS_TAGS), tlp
        if tlp.task in ("nli", "pa"):
            counts = Counter(one.label for one in examples)
            assert set(counts) == set(LABELS[tlp.task])
            assert max(counts.values()) - min(counts.values()) <= 1
        if tlp.task == "ner":
            assert {tag for one in examples for tag in one.tags} == set(LABELS["ner"]), tlp


def sentences_of(example: Example) -> list[str]:
    """What may not be in two splits, by a rule that the generator has no part in."""
    if isinstance(example, TaggedSentence):
        return [" ".join(example.words)]
    if isinstance(example, TextPair):
        return [example.first, example.second]
    # The full stops of Latin, Cyrillic and the like; Hindi and Bengali; Chinese and Japanese; Urdu.
    facts = re.findall("[^.।。۔]+[.।。۔]", example.context)
    assert len(facts) == 4 and "".join(facts) == example.context
    return [fact.strip() for fact in facts]


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_readers_repair_nothing_and_splits_share_no_sentence(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("seed") / "grid"
    write_demo(folder, seed, scale=0.0002)
    homes: dict[tuple[TLP, str], str] = {}
    for (split, tlp), examples in examples_of(folder).items():
        assert len(set(examples)) == len(examples)
        for example in examples:
            for sentence in sentences_of(example):
                assert homes.setdefault((tlp, sentence), split) == split
            for answer in getattr(example, "answers", ()):
                end = answer.start + len(answer.text)
                assert example.context[answer.start : end] == answer.text
                assert answer.text == answer.text.strip() != ""


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-6, 0.5))
def test_sizes_for_any_scale(scale):
    for code in LANGUAGES:
        for task in TASK_CODES:
            tlp = TLP(task, code)
            sizes = split_sizes(tlp, scale)
            assert ("train" in sizes) == (tlp in PAPER_SIZES)
            assert bool(sizes) == (tlp in PAPER_SIZES or code not in TRAINING)
            for split, size in sizes.items():
                exact = scale * (PAPER_SIZES[tlp] if split == "train" else 5_000)
                assert size >= 1 and exact - 1e-5 <= size < exact + 1


def differing(one: Path, other: Path) -> dict[tuple[str, str], float]:
    """(split, task) -> share of labels (words for POS and NER) that differ."""
    labels: dict[tuple[str, str], list[bool]] = {}
    theirs = examples_of(other)
    for (split, tlp), examples in examples_of(one).items():
        for mine, its in zip(examples, theirs[split, tlp], strict=True):
            pairs = {
                "TaggedSentence": lambda e: e.tags,
                "TextPair": lambda e: [e.label],
                "Question": lambda e: [e.answers],
            }[type(mine).__name__]
            same = [a != b for a, b in zip(pairs(mine), pairs(its), strict=True)]
            labels.setdefault((split, tlp.task), []).extend(same)
    return {key: sum(each) / len(each) for key, each in labels.items()}


def test_label_noise_is_in_the_training_data_only(tmp_path):
    clean, noisy = tmp_path / "clean", tmp_path / "noisy"
    write_demo(clean, scale=0.001)
    write_demo(noisy, scale=0.001, label_noise=0.2)
    for (split, _), share in differing(clean, noisy).items():
        # PA has 250 training examples: a standard deviation of 0.025.
        assert share == 0 if split != "train" else abs(share - 0.2) < 0.1


def test_a_demo_folder_is_replaced_and_another_is_not(tmp_path):
    folder = tmp_path / "grid"
    write_demo(folder, seed=1, scale=TINY)
    first = checksum(folder)
    write_demo(folder, seed=2, scale=TINY)
    assert checksum(folder) != first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty and no demo folder"):
        write_demo(tmp_path / "mine", scale=TINY)
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    for text in ("{}", "no JSON", '{"examples": 3}'):
        (tmp_path / "mine" / "demo.json").write_text(text)
        with pytest.raises(InputError, match="is not empty and no demo folder"):
            write_demo(tmp_path / "mine", scale=TINY)
    (folder / "xnli" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty and no demo folder"):
        write_demo(folder, scale=TINY)
    assert (folder / "xnli" / "thesis.tex").read_text() == "x"


def test_a_failed_generation_leaves_nothing(tmp_path, monkeypatch):
    # One draw for an example is not enough for long.
    monkeypatch.setattr("metatlp.data.demo.splits.MAX_TRIES", 1)
    with pytest.raises(InputError, match=r"--scale: no \d+th different \w+ example of \w+_\w+ was"):
        write_demo(tmp_path / "grid", scale=DEFAULT_SCALE)
    assert os.listdir(tmp_path) == []


def kill_while_writing(command: list[str], folder: Path) -> None:
    """Start Python, and end it by SIGKILL when it has written a part of the grid in the folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, *command], env=environment) as process:
        while process.poll() is None and not list(folder.rglob("train-en.tsv")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_generation_leaves_no_folder(tmp_path):
    folder = tmp_path / "grid"
    kill_while_writing(["-m", "metatlp.data.demo", "--output-dir", str(folder)], tmp_path)
    assert not folder.exists()


CACHED = """\
import sys
from pathlib import Path
from metatlp.data.demo_source import DemoGrid
DemoGrid(scale=0.004).build(Path(sys.argv[1]), print)
"""


def test_what_a_kill_leaves_in_the_cache_goes_with_the_next_build(tmp_path):
    kill_while_writing(["-c", CACHED, str(tmp_path)], tmp_path)
    grid = DemoGrid(scale=0.004)
    folder = grid.folder(tmp_path)
    lock, left = sorted(os.listdir(folder.parent))
    assert lock == f"{folder.name}.lock" and left.startswith(f"{folder.name}.unfinished-")
    assert grid.build(tmp_path, lambda line: None) == folder
    assert sorted(os.listdir(folder.parent)) == [folder.name, lock]
    parts = ["demo.json", "mlqa", "panx", "pawsx", "squad", "udpos", "xnli"]
    assert sorted(os.listdir(folder)) == parts


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scale", "0"], "--scale 0.0: must be above 0"),
        (["--scale", "nan"], "--scale nan: must be above 0"),
        (["--scale", "2"], "--scale 2.0: must be above 0, and at most 1"),
        (["--scale", "huge"], "--scale: invalid float value: 'huge'"),
        (["--label-noise", "1.5"], "--label-noise 1.5: must be between 0 and 1"),
        (["--label-noise", "nan"], "--label-noise nan: must be between 0 and 1"),
        (["--seed", "one"], "--seed: invalid int value: 'one'"),
        (["--sede", "1"], "unrecognized arguments: --sede 1"),
        (["--scal", "0.1"], "unrecognized arguments: --scal 0.1"),
        (["--output-dir", "/proc/demo"], "--output-dir /proc/demo: cannot be written"),
        (["--output-dir", "/etc/hostname/demo"], "--output-dir /etc/hostname/demo: "),
        (["--output-dir", "/etc"], "--output-dir /etc: is not empty and no demo folder"),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    assert main(["--output-dir", str(tmp_path / "grid"), *flags]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("python -m metatlp.data.demo: error: ") and shown.count("\n") == 1
    assert message in shown and not os.listdir(tmp_path)


def test_the_output_folder_has_to_be_given(capsys):
    assert main([]) == 2
    assert "required: --output-dir" in capsys.readouterr().err
