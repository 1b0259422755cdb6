"""add_task: the task of docs/own_task.md and what may not be added."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metatlp import grid
from metatlp.data.encoded import EncodedSplit
from metatlp.data.own import OwnFolder
from metatlp.data.own_rows import ROW_FORMATS, pair_rows, tagged_rows
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.build import head_specs
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid, select, training_grid
from metatlp.script import run_other
from metatlp.tasks import BATCH_SIZES, TASKS, Limits, add_task
from metatlp.tasks.metrics import scores
from metatlp.tasks.pair import PairClassification
from metatlp.tasks.tagging import Tagging

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "own_task.md").read_text(encoding="utf-8")
ROWS = pair_rows(("yes", "no"))


@pytest.fixture
def tasks_as_before():
    registries = (TASKS, BATCH_SIZES, ROW_FORMATS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)
    grid._added_codes.clear()


@pytest.fixture
def sentiment(tasks_as_before, tmp_path):
    """The script of the docs, run as a module is; its names."""
    (script,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    (tmp_path / "sentiment.py").write_text(script)
    return SimpleNamespace(**runpy.run_path(str(tmp_path / "sentiment.py")))


@pytest.fixture
def own(sentiment, tmp_path):
    _, text = re.findall(r"```csv\n(.*?)```", DOC, re.DOTALL)
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "sent_en.train.csv").write_text(text)
    return OwnFolder(folder)


def refusal(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    return str(caught.value)


def test_it_is_a_task_like_the_others(own):
    tlp = TLP.parse("sent_en")
    there = [tlp, TLP("ner", "zh"), TLP("sent", "de"), TLP("qa", "en")]
    assert [str(each) for each in Grid.of(there).tlps] == ["qa_en", "ner_zh", "sent_en", "sent_de"]
    assert Grid.of(there).tasks == ("qa", "ner", "sent")
    assert own.tlps("train") == [tlp]
    whole = training_grid(there, own=[tlp])
    assert select(whole, "task:sent") == select(whole, "sent_en") == Grid((tlp,))
    assert DataArguments().batch_sizes()["sent"] == 16
    assert DataArguments(batch_size="sent=4,qa=2").batch_sizes()["sent"] == 4
    assert DataArguments(batch_size="2").batch_sizes()["sent"] == 2
    assert "choose" not in refusal(lambda: TLP.parse("other_en"))
    assert "qa, nli, pa, pos, ner, sent" in refusal(lambda: TLP.parse("other_en"))


def test_its_rows_are_read_encoded_and_scored(own, sentiment, letters):
    tlp, task = TLP("sent", "en"), TASKS["sent"]
    examples = own.read(tlp, "train").examples
    assert examples[1] == sentiment.Review("dull, and too long", "negative")
    assert [review.label for review in examples] == ["positive", "negative"] * 2
    examples = [sentiment.Review("a b", "positive"), sentiment.Review("c " * 9, "negative")]
    encoded = task.encode(examples, letters, Limits(max_length=8))
    data = EncodedSplit(encoded.columns, encoded.counts)
    assert data.ragged("input_ids").row(0).tolist() == [2, 4, 5, 3]
    assert data.ragged("input_ids").row(1).tolist() == [2, 6, 6, 6, 6, 6, 6, 3]
    assert data.flat("labels").tolist() == [1, 0] and data.counts == {"reviews_cut": 1}
    terms = task.terms(tlp, data, [np.int16(1), np.int16(1)], examples)
    assert scores(terms) == {"accuracy": 0.5, "macro_f1": (2 / 3) / 2, "examples": 2}


def test_faults_in_its_rows_name_the_line(own):
    path = own.root / "sent_en.train.csv"
    for row, message in (("x,good", "unknown label 'good'"), (" ,positive", "the text is blank")):
        path.write_text(f"text,label\na,positive\n{row}\n")
        said = refusal(lambda: own.read(TLP("sent", "en"), "train"))
        assert said.startswith(f"{path}:3: {message}")


def test_another_script_means_other_rows(own, tmp_path):
    before = own.fingerprint(TLP("sent", "en"), "train")
    script = tmp_path / "sentiment.py"
    for changed in ("", "# Another.\n"):
        del TASKS["sent"], BATCH_SIZES["sent"], ROW_FORMATS["sent"]
        grid._added_codes.clear()
        script.write_text(script.read_text() + changed)
        runpy.run_path(str(script))
        assert (own.fingerprint(TLP("sent", "en"), "train") != before) == bool(changed)


def test_an_existing_class_will_do(tasks_as_before, tmp_path):
    labels = ("B", "I", "O")
    add_task(Tagging("chunk", labels), tagged_rows(labels))
    (tmp_path / "chunk_en.dev.csv").write_text("words,tags\nthe cat,B I\n")
    (sentence,) = OwnFolder(tmp_path).read(TLP("chunk", "en"), "dev").examples
    assert sentence.tags == ("B", "I") and BATCH_SIZES["chunk"] == 32
    assert TASKS["chunk"].labels == labels


REFUSED = {
    "nli": "task code 'nli' is taken; there are qa, nli, pa, pos, ner",
    "two": "task code 'two' is taken",
    "items": "task code 'items' is taken by torch's ModuleDict",
    "training": "task code 'training' is taken by torch's ModuleDict",
    **dict.fromkeys(("", "Sent", "my_task", "a.b", "1st", "a" * 17, "é"), "write a lower-case"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_codes_that_are_refused(tasks_as_before, code):
    add_task(PairClassification("two", ("yes", "no")), ROWS)
    before = list(TASKS)
    said = refusal(lambda: add_task(PairClassification(code, ("yes", "no")), ROWS))
    assert REFUSED[code] in said and list(TASKS) == before


def test_what_else_is_refused(tasks_as_before):
    def added(labels=("yes", "no"), rows=ROWS, **more):
        return refusal(lambda: add_task(PairClassification("two", labels), rows, **more))

    assert "the batch size is 0" in added(batch_size=0)
    assert "labels are to be different" in added(labels=("yes", "yes"))
    assert "labels are to be different" in added(labels=())
    assert "names no column" in added(rows=type(ROWS)((), ROWS.read))
    names = {}
    exec("def read(row, counts): pass", names)
    assert "has to be defined in a file" in added(rows=type(ROWS)(("a",), names["read"]))
    assert "two" not in TASKS


def test_the_script_runs_another_or_a_module(tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.py"
    other.write_text("import sys\nprint(__name__, *sys.argv[1:])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["own.py"])
    run_other([str(other), "--flag", "-m"])
    run_other(["-m", "other", "--flag"])
    assert capsys.readouterr().out == "__main__ --flag -m\n__main__ --flag\n"
    for argv in ([], ["-m"], ["--flag"]):
        with pytest.raises(SystemExit) as caught:
            run_other(argv)
        assert caught.value.code == 2
        assert "name a script, or -m and a module" in capsys.readouterr().err


def test_without_the_script_the_task_is_named(tmp_path):
    assert "--batch-size: unknown task 'sent'; there are qa, nli, pa, pos, ner; one of your" in (
        refusal(lambda: DataArguments(batch_size="qa=8,sent=16"))
    )
    (tmp_path / "sent_en.dev.csv").write_text("text,label\n")
    assert "(or added by add_task)" in refusal(lambda: OwnFolder(tmp_path))
    assert list(head_specs(["nli", "qa"])) == ["qa", "nli"]
    assert "task 'sent' is not known here" in refusal(lambda: head_specs(["qa", "sent"]))
