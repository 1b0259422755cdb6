"""Data cut to Table 1's proportions: the first examples, as they stand in the files."""

from __future__ import annotations

import json

import pytest

from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.reproduction.cut import cut, first, main


def question(i: int) -> dict:
    return {"id": f"q{i}", "question": "who?", "answers": [{"text": "a", "answer_start": 0}]}


def test_the_first_examples_of_a_file():
    tagged = "a\tDET\nb\tNOUN\n\nc\tVERB\n\n\nd\tX\n"
    assert first(tagged, TLP("pos", "en"), 2) == ("a\tDET\nb\tNOUN\n\nc\tVERB\n\n", 3)
    pairs = '"a ""b"""\tb\t1\r\nc\td\t0\r\n'
    assert first(pairs, TLP("pa", "en"), 1) == ('"a ""b"""\tb\t1\r\n', 2)
    paragraphs = [{"context": "a b", "qas": [question(1), question(2)]},
                  {"context": "a c", "qas": [question(3)]}]  # fmt: skip
    text, there = first(json.dumps({"version": "1.1", "data": [
        {"title": "t", "paragraphs": paragraphs}, {"title": "u", "paragraphs": paragraphs}]}),
        TLP("qa", "en"), 4)  # fmt: skip
    kept = json.loads(text)["data"]
    assert there == 6
    assert [len(p["qas"]) for article in kept for p in article["paragraphs"]] == [2, 1, 1]
    text, _ = first(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}),
                    TLP("qa", "en"), 2)  # fmt: skip
    assert len(json.loads(text)["data"][0]["paragraphs"]) == 1


def sentences(number: int) -> str:
    return "".join(f"w{i}\tNOUN\n\n" for i in range(number))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "xtreme" / "udpos"
    folder.mkdir(parents=True)
    for name, number in (("train-en", 60), ("train-hi", 50), ("train-ta", 9), ("dev-en", 5)):
        (folder / f"{name}.tsv").write_text(sentences(number))
    return folder.parent


def test_a_folder(source, tmp_path):
    """Table 1 has 21,200 sentences in en and 13,300 in hi; ta does not train."""
    out = tmp_path / "out"
    command = ["--data-dir", str(source), "--scale", "0.0025", "--output-dir", str(out)]
    main(command)
    own, before = XtremeFolder(out / "data"), XtremeFolder(source)
    for lang, number in (("en", 53), ("hi", 34), ("ta", 9)):
        kept = own.read(TLP("pos", lang), "train").examples
        assert list(kept) == list(before.read(TLP("pos", lang), "train").examples)[:number]
        assert len(kept) == number
    assert own.path(TLP("pos", "en"), "dev").resolve() == source / "udpos" / "dev-en.tsv"
    counts = json.loads((out / "cut.json").read_text())
    assert counts == {"pos_en": {"there": 60, "kept": 53}, "pos_hi": {"there": 50, "kept": 34}}
    main(command)  # again, over what an earlier one left


def test_more_than_there_is(source, tmp_path):
    with pytest.raises(InputError, match=r"train-en.tsv: 60 examples, but --scale 0.005 takes 106"):
        cut(source, 0.005, tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()
    with pytest.raises(InputError, match="--scale 2.0: must be above 0"):
        main(["--data-dir", str(source), "--scale", "2", "--output-dir", str(tmp_path / "o")])
