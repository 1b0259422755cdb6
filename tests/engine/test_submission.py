"""Submissions: gold answers score 100 by a scorer that shares nothing with ours; others do not."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from seqeval.metrics import f1_score
from sklearn.metrics import accuracy_score

from metatlp.data.records import Question, TaggedSentence, TextPair
from metatlp.data.submission import (
    check_aligned,
    check_folder,
    file_of,
    text_of,
    write_submission,
)
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, TLP

REAL = Path(__file__).parents[3] / "shared" / "data" / "xtreme"


def gold_of(example):
    if isinstance(example, TaggedSentence):
        return list(example.tags)
    return example.label if isinstance(example, TextPair) else example.answers[0].text


def shuffled(answers: list, rng: random.Random) -> list:
    """Tags within their file, so that sentences keep their lengths; answers between examples."""
    if not isinstance(answers[0], list):
        return rng.sample(answers, len(answers))
    tags = [tag for sentence in answers for tag in sentence]
    rng.shuffle(tags)
    rest = iter(tags)
    return [[next(rest) for _ in sentence] for sentence in answers]


def blocks(path: Path) -> list[list[str]]:
    """As XTREME's script reads tags: stripped lines, parted by empty ones."""
    text = path.read_text(encoding="utf-8")
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            found[-1].append(line.strip().split("\t")[-1])
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def score(answers: Path, gold: Path) -> float:
    """Percent: span F1 of panx, accuracy of udpos, xnli and pawsx, exact match of QA."""
    if answers.suffix == ".json":
        found, right, number = json.loads(answers.read_text(encoding="utf-8")), 0, 0
        for article in json.loads(gold.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for entry in paragraph["qas"]:
                    right += found[entry["id"]] in [answer["text"] for answer in entry["answers"]]
                    number += 1
        assert number == len(found)
        return 100 * right / number
    # Whether the file ends with an empty line does not matter.
    lines = [path.read_text(encoding="utf-8").rstrip("\n").count("\n") for path in (answers, gold)]
    assert lines[0] == lines[1], (answers, lines)
    if answers.parent.name == "panx":
        return 100 * f1_score(blocks(gold), blocks(answers))
    if answers.parent.name == "udpos":
        one, two = ([tag for block in blocks(path) for tag in block] for path in (gold, answers))
        return 100 * accuracy_score(one, two)
    with gold.open(encoding="utf-8", newline="") as file:
        labels = [row[-1] for row in csv.reader(file, delimiter="\t")]
    return 100 * accuracy_score(labels, answers.read_text(encoding="utf-8").split("\n")[:-1])


def scores(source: XtremeFolder, jobs, folder: Path, answer) -> dict[str, float]:
    """File -> score of a submission whose answers are `answer(gold)`."""
    files, places = {}, {}
    for tlp, split in jobs:
        read = source.read(tlp, split)
        check_aligned(tlp, split, read.counts)
        name = file_of(tlp, split)
        files[name] = text_of(read.examples, answer([gold_of(e) for e in read.examples]))
        places[name] = source.path(tlp, split)
    write_submission(folder, files)
    return {name: score(folder / name, places[name]) for name in files}


def check_gold_and_shuffled(source, jobs, folder):
    rng = random.Random(3)
    found = scores(source, jobs, folder / "gold", lambda gold: gold)
    assert found == dict.fromkeys(found, 100) and len(found) == len(jobs)
    found = scores(source, jobs, folder / "shuffled", lambda gold: shuffled(gold, rng))
    assert max(found.values()) < 90 and sum(found.values()) / len(found) < 60


def test_gold_scores_100_and_shuffled_does_not(grid_dir, tmp_path):
    source = XtremeFolder(grid_dir)
    check_gold_and_shuffled(source, [(tlp, "test") for tlp in source.tlps("test")], tmp_path)
    files = {str(p.relative_to(tmp_path / "gold")) for p in tmp_path.glob("gold/*/*")}
    assert files >= {"udpos/test-hi.tsv", "panx/test-zh.tsv", "xnli/test-fr.tsv"}
    assert files >= {"pawsx/test-de.tsv", "mlqa/test-es.json"} and len(files) == 10


def test_all_external_files_of_the_real_data(tmp_path):
    if not REAL.is_dir():
        pytest.skip("no real data: ../shared/data/xtreme is not there")
    source = XtremeFolder(REAL)
    jobs = [(tlp, "test") for tlp in EXTERNAL_TLPS]
    jobs += [(tlp, "xquad") for tlp in EXTERNAL_TLPS if tlp.task == "qa"]
    check_gold_and_shuffled(source, jobs, tmp_path)
    assert (tmp_path / "gold" / "xquad" / "test-vi.json").is_file()


def test_the_texts_by_hand():
    sentences = [TaggedSentence(("a", "b"), ("O", "X")), TaggedSentence(("c",), ("O",))]
    assert text_of(sentences, [["NOUN", "DET"], ["VERB"]]) == "NOUN\nDET\n\nVERB\n\n"
    pairs = [TextPair("a", "b", "0"), TextPair("c", "d", "1")]
    assert text_of(pairs, ["1", "1"]) == "1\n1\n"
    questions = [Question(name, "?", "", ()) for name in ("x", "ü")]
    assert json.loads(text_of(questions, ["", "été"])) == {"x": "", "ü": "été"}
    with pytest.raises(InputError, match="the same id"):
        text_of([questions[0], questions[0]], ["", ""])


def test_a_file_whose_lines_are_not_its_examples_is_refused(tmp_path):
    (tmp_path / "pawsx").mkdir()
    (tmp_path / "pawsx" / "test-de.tsv").write_text("a\tb\t1\n\t\t0\n")
    read = XtremeFolder(tmp_path).read(TLP("pa", "de"), "test")
    with pytest.raises(InputError, match="pa_de's test file were left out .pairs_empty 1.,"):
        check_aligned(TLP("pa", "de"), "test", read.counts)


def test_it_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "sub"
    # The second place needs a folder where the first has put a file.
    with pytest.raises(InputError, match="--submission"):
        write_submission(folder, {"udpos": "x", "udpos/test-et.tsv": "x"})
    assert list(tmp_path.iterdir()) == []
    write_submission(folder, {"udpos/test-et.tsv": "x"})
    with pytest.raises(InputError, match="is there already"):
        check_folder(folder)
    with pytest.raises(InputError, match="--submission"):
        write_submission(folder, {"udpos/test-et.tsv": "y"})
    assert (folder / "udpos" / "test-et.tsv").read_text() == "x"
