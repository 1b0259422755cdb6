"""Submissions from test files as XTREME strips them: the same predictions as from labelled ones."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from metatlp.data.records import TaggedSentence, TextPair
from metatlp.data.submission import check_aligned
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.build import head_specs
from metatlp.engine.models import export_models
from metatlp.engine.provenance import Provenance
from metatlp.model.multitask import build_model, load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.task import Limits

REAL = Path(__file__).parents[3] / "shared" / "data" / "xtreme"
QA = "mlqa/MLQA_V1/test/test-context-es-question-es.json"
STRIPPED_OF_MIXED = {"udpos/test-hi.tsv", "panx/test-en.tsv", "xnli/test-fr.tsv", QA}
LIMITS = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)


def strip(path: Path) -> None:
    """As XTREME's utils_preprocess.py, which has no labels in test files."""
    if path.suffix == ".json":
        questions = [
            {"paragraphs": [{"context": paragraph["context"], "qas": [entry]}]}
            for article in json.loads(path.read_text())["data"]
            for paragraph in article["paragraphs"]
            for entry in paragraph["qas"]
        ]
        for article in questions:
            article["paragraphs"][0]["qas"][0]["answers"] = [{"answer_start": 0, "text": ""}]
        path.write_text(json.dumps({"data": questions, "version": "1.1"}))
        return
    lines = path.read_bytes().split(b"\n")
    tagged = path.parent.name in ("udpos", "panx")
    ends = b"\t" if path.parent.name == "panx" else b"" if tagged else b"\r"
    # Some versions of XTREME's files keep the tab.
    path.write_bytes(b"\n".join(line and line.rpartition(b"\t")[0] + ends for line in lines))


def hidden_files(root: Path) -> list[Path]:
    return [*root.glob("[upx]*/test-*.tsv"), *root.glob("*/*/test/*"), *root.glob("xquad/*")]


@pytest.fixture(scope="module")
def folders(grid_dir, tmp_path_factory):
    """The small grid with XQuAD in Spanish; the same with some or all test files stripped."""
    root = tmp_path_factory.mktemp("stripped")
    for name in ("labelled", "mixed", "all"):
        shutil.copytree(grid_dir, root / name)
        (root / name / "xquad").mkdir()
        shutil.copy(root / name / QA, root / name / "xquad" / "xquad.es.json")
    for path in hidden_files(root / "all"):
        strip(path)
    for name in STRIPPED_OF_MIXED:
        strip(root / "mixed" / name)
    return root


@pytest.fixture(scope="module")
def model(encoder_dir, tmp_path_factory):
    """A folder of models of all tasks, with weights large enough that answers differ."""
    folder = tmp_path_factory.mktemp("model")
    model = build_model(str(encoder_dir), head_specs(TASKS), seed=0)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter, _ in model.named_uses().values():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    provenance = Provenance("meta", "encoder", (), {}, LIMITS)
    export_models(model, load_tokenizer(str(encoder_dir)), folder / "models", provenance)
    return folder


@pytest.fixture(scope="module")
def evaluate(fork, folders, model):
    """Start evaluate_zeroshot.py on one of the folders; all share a cache."""

    def run(data: str, *more: str):
        flags = ["--model", f"one={model}", "--data-dir", str(folders / data), "--bootstrap", "20"]
        flags += ["--cache-dir", str(folders / "cache"), *more]
        return fork(flags, "evaluate_zeroshot.py")

    return run


@pytest.fixture(scope="module")
def submitted(evaluate, folders):
    """Name of a folder -> the process that has written its submission and scores, to its end."""
    runs = {
        data: evaluate(
            *(data, "--languages", "all", "--submission", str(folders / f"{data}-sub")),
            *("--output-dir", str(folders / f"{data}-out")),
        )
        for data in ("labelled", "mixed", "all")
    }
    for run in runs.values():
        assert run.wait() == 0, run.err[-3000:]
    return runs


def record_of(folder: Path) -> dict:
    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads((folder / "scores.json").read_text(), parse_constant=refuse)


def test_predictions_are_byte_for_byte_those_of_the_labelled_files(submitted, folders):
    gold = {p.relative_to(folders / "labelled-sub"): p for p in folders.glob("labelled-sub/*/*")}
    assert len(gold) == 11 and len({path.read_bytes() for path in gold.values()}) > 8
    assert len((folders / "labelled-sub" / "panx" / "test-zh.tsv").read_text().split("\n\n")) == 7
    for name in ("mixed", "all"):
        found = {p.relative_to(folders / f"{name}-sub") for p in folders.glob(f"{name}-sub/*/*")}
        assert found == set(gold)
        for place, path in gold.items():
            assert (folders / f"{name}-sub" / place).read_bytes() == path.read_bytes(), place


def test_what_has_labels_is_scored_as_ever(submitted, folders):
    whole, mixed = (record_of(folders / f"{name}-out") for name in ("labelled", "mixed"))
    without = ["qa_es", "nli_fr", "pos_hi", "ner_en"]
    assert whole["tables"]["test"]["unlabelled"] == []
    assert mixed["tables"]["test"]["unlabelled"] == without
    assert mixed["scores"]["one"]["xquad"] == whole["scores"]["one"]["xquad"]
    expected, found = (record["scores"]["one"]["test"] for record in (whole, mixed))
    for tlp, entry in found.items():
        none = {"metrics": {}, "labelled": False} if tlp in without else {}
        assert entry == expected[tlp] | none and expected[tlp]["labelled"]
    row, full = (record["tables"]["test"]["systems"]["one"] for record in (mixed, whole))
    labelled = [name for name in full if "_" in name and name not in without]
    assert {name for name in row if "_" in name} == set(labelled)
    assert row["pos"]["value"] == full["pos_en"]["value"]
    values = [full[name]["value"] for name in labelled]
    assert row["all"]["value"] == pytest.approx(sum(values) / 6)


def test_the_tables_say_that_there_are_no_labels(submitted, folders):
    line = "no labels in the test files of qa_es, nli_fr, pos_hi, ner_en: predicted, not scored, "
    line += "and left out of the means"
    page = (folders / "mixed-out" / "scores.md").read_text()
    said = submitted["mixed"].out
    assert f"- {line}\n" in page and f"{line}\n" in said and "mean of all 6" in said
    assert re.search(r"^pos, accuracy .* en +hi\none +[0-9.]+ +no labels$", said, re.M)
    assert "no labels" not in submitted["labelled"].out
    with (folders / "mixed-out" / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "pos"]
    assert [row["metric"] for row in rows if row["lang"] == "en"] == ["accuracy", "macro_f1"]
    (hidden,) = (row for row in rows if row["lang"] == "hi")
    assert hidden["metric"] == "no labels" and hidden["examples"] == "6"
    assert hidden["value"] == hidden["low"] == hidden["high"] == ""


def test_of_no_labels_at_all_there_is_no_score(submitted, folders):
    record = record_of(folders / "all-out")
    assert all(table["systems"] == {"one": {}} for table in record["tables"].values())
    assert len(record["tables"]["test"]["unlabelled"]) == 10
    assert record["tables"]["xquad"]["unlabelled"] == ["qa_es"]
    assert "mean" not in submitted["all"].out.replace("left out of the means", "")
    assert "predicted 69 examples of 11 files in" in submitted["all"].out


def without_gold(example):
    if isinstance(example, TaggedSentence):
        return example.words
    if isinstance(example, TextPair):
        return example.first, example.second
    return example.id, example.question, example.context


def test_stripped_real_files_hold_the_same_examples(tmp_path):
    if not REAL.is_dir():
        pytest.skip("no real data: ../shared/data/xtreme is not there")
    for path in (path for path in hidden_files(REAL) if re.search("[-.](de|ja|zh)[-.]", path.name)):
        copy = tmp_path / path.relative_to(REAL)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        strip(copy)
    whole, stripped = XtremeFolder(REAL), XtremeFolder(tmp_path, unlabelled=True)
    assert [len(stripped.tlps(split)) for split in ("test", "xquad")] == [13, 2]
    for split in ("test", "xquad"):
        for tlp in stripped.tlps(split):
            found, gold = stripped.read(tlp, split), whole.read(tlp, split)
            assert list(map(without_gold, found.examples)) == list(map(without_gold, gold.examples))
            assert found.counts["unlabelled"] == found.counts["read"] == gold.counts["read"]
            check_aligned(tlp, split, found.counts)


def ends_with_one_line(run, *parts: str) -> None:
    code, said = run.wait(), run.err[run.err.find("error: ") :]  # behind the progress bar
    assert code == 2 and said.count("\n") == 1, run.err[-3000:]
    for part in parts:
        assert part in said


def test_without_submission_there_is_nothing_to_do(submitted, evaluate, folders, tmp_path):
    # Although the cache holds the file encoded, for a submission.
    run = evaluate("all", "--tlps", "pos_hi", "--output-dir", str(tmp_path / "out"))
    place = folders / "all" / "udpos" / "test-hi.tsv"
    ends_with_one_line(run, f"{place}:1: ", "evaluate_zeroshot.py --submission writes")


def test_training_scripts_take_no_such_file(submitted, fork, folders, encoder_dir, tmp_path):
    flags = ["--tlp", "pos_hi", "--data-dir", str(folders / "all"), "--model", str(encoder_dir)]
    flags += ["--cache-dir", str(folders / "cache"), "--output-dir", str(tmp_path / "out")]
    run = fork([*flags, "--max-length", "32"], "finetune.py")
    ends_with_one_line(run, f"{folders / 'all' / 'udpos' / 'test-hi.tsv'}:1: ")


@pytest.mark.parametrize(
    ("name", "tlp", "line"), [("udpos/test-hi.tsv", "pos_hi", 1), ("xnli/test-fr.tsv", "nli_fr", 3)]
)
def test_half_the_labels_are_an_error(evaluate, folders, tmp_path, name, tlp, line):
    data = tmp_path / "data"
    path, whole = data / name, (folders / "labelled" / name).read_bytes().split(b"\n")
    path.parent.mkdir(parents=True)
    half = (folders / "all" / name).read_bytes().split(b"\n")
    cut = 2
    lines = [*half[:cut], *whole[cut:]] if line == 1 else [*whole[:cut], *half[cut:]]
    path.write_bytes(b"\n".join(lines))
    places = ("--submission", str(tmp_path / "sub"), "--output-dir", str(tmp_path / "out"))
    ends_with_one_line(evaluate(str(data), "--tlps", tlp, *places), f"{path}:{line}: ")
    assert not (tmp_path / "sub").exists()


def test_a_stripped_dev_file_is_an_error(evaluate, folders, tmp_path):
    path = tmp_path / "data" / "pawsx" / "dev-de.tsv"
    path.parent.mkdir(parents=True)
    shutil.copy(folders / "all" / "pawsx" / "test-de.tsv", path)
    more = ("--tlps", "pa_de", "--split", "dev", "--output-dir", str(tmp_path / "out"))
    run = evaluate(str(tmp_path / "data"), *more)
    ends_with_one_line(run, f"{path}:1: 2 columns, expected 3: first, second, label")
