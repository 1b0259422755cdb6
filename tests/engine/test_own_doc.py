"""The files and the script of docs/own_task.md: pasted from there, trained with and resumed."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from metatlp import grid
from metatlp.data.own_rows import ROW_FORMATS
from metatlp.tasks import BATCH_SIZES, TASKS

ROOT = Path(__file__).resolve().parents[2]
OWN = {"nli_sw", "sent_en"}


@pytest.fixture
def written(tmp_path) -> Path:
    """A folder with sentiment.py and own/, the files that the docs name."""
    text = (ROOT / "docs" / "own_task.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "sentiment.py").write_text(script, encoding="utf-8")
    (tmp_path / "own").mkdir()
    for table in re.findall(r"```csv\n(.*?)```", text, re.DOTALL):
        before = text[: text.index(table)]
        for name in re.findall(r"`(own/\w+\.\w+\.csv)`", before)[-2:]:
            (tmp_path / name).write_text(table, encoding="utf-8")
    return tmp_path


@pytest.fixture
def sentiment(written):
    """The script's task in this process."""
    registries = (TASKS, BATCH_SIZES, ROW_FORMATS)
    runpy.run_path(str(written / "sentiment.py"))
    yield
    for registry in registries:
        del registry["sent"]
    grid._added_codes.clear()


def test_a_tlp_and_a_task_of_ones_own_train_resume_and_are_exported(
    written, meta_flags, fork, sentiment, train_meta
):
    run = written / "run"
    arguments = [
        *(*meta_flags, "--own-data", str(written / "own")),
        *("--selection", "sent_en,nli_sw,nli_en", "--max-meta-steps", "4", "--save-every", "2"),
        *("--keep", "9", "--output-dir", str(run)),
    ]

    def records():
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    done = fork(["train_meta.py", *arguments], written / "sentiment.py")
    assert done.wait() == 0, done.err[-3000:]
    scores = records()[-1]["dev"]
    assert scores.keys() == {*OWN, "nli_en"}
    assert all(scores[tlp]["examples"] == 4 for tlp in OWN)
    slots = [slot for record in records() for slot in record.get("slots", ())]
    assert {slot["tlp"] for slot in slots} >= OWN
    data = json.loads((run / "data.json").read_text())["splits"]["train"]
    assert {tlp: data[tlp]["examples"] for tlp in OWN} == {"nli_sw": 4, "sent_en": 4}
    checkpoint = str(run / "checkpoints" / "step_000002")
    assert train_meta.main([*arguments, "--resume", checkpoint]) == 0
    assert [r["step"] for r in records() if "slots" in r] == [1, 2, 3, 4]
    assert records()[-1]["dev"] == scores
    for task, labels in (
        ("sent", {0: "negative", 1: "positive"}),
        ("nli", {0: "entailment", 1: "neutral", 2: "contradiction"}),
    ):
        folder = run / "models" / task
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        assert model.config.id2label == labels
        text = AutoTokenizer.from_pretrained(folder)("a good film", return_tensors="pt")
        assert model(**text).logits.shape == (1, len(labels))
