"""evaluate_zeroshot.py on the small grid: its scores are the tasks' own, whatever it writes."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from metatlp.data.cache import encode_split
from metatlp.data.records import TaggedSentence
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.build import head_specs
from metatlp.engine.models import export_models, load_task_model
from metatlp.engine.placement import start as start_process
from metatlp.engine.provenance import Provenance
from metatlp.engine.scoring.evaluation import EvalSplit, batches, predict_rows, predict_split
from metatlp.engine.scoring.jobs import Job
from metatlp.engine.scoring.scoring import (
    Work,
    check_answered,
    check_read,
    resamples_seed,
    score_piece,
)
from metatlp.engine.scoring.terms_file import read_terms
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import build_model, load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import scores
from metatlp.tasks.task import Limits, Padding

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)
# What one rank writes and another number of ranks does not, or what is measured.
CHANGES = ("arguments", "command", "placement", "started", "time")


@pytest.fixture(scope="module")
def evaluate():
    """evaluate_zeroshot.py as a module of this process."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location(
        "evaluate_zeroshot", ROOT / "evaluate_zeroshot.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.fixture(scope="module")
def models(encoder_dir, tmp_path_factory):
    """Two systems of all tasks, `one` and `two`, and `pairs` with heads for nli and pa only."""
    folder = tmp_path_factory.mktemp("systems")
    tokenizer = load_tokenizer(str(encoder_dir))
    for seed, (name, tasks, chosen) in enumerate(
        [
            ("one", TASKS, {"rewards": ("qa_es", "ner_zh")}),
            ("two", TASKS, {}),
            ("pairs", ("nli", "pa"), {"learning rate": ("pa_fr",)}),
        ]
    ):
        model = build_model(str(encoder_dir), head_specs(tasks), seed=seed)
        # With small random weights all answers would be alike.
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for parameter, _ in model.named_uses().values():
                if parameter.ndim == 2:
                    parameter.normal_(std=0.3)
        provenance = Provenance("meta", "encoder", ("pos_en", "qa_en"), chosen, LIMITS)
        export_models(model, tokenizer, folder / name / "models", provenance)
    return folder


@pytest.fixture(scope="module")
def flags(grid_dir, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return ["--data-dir", str(grid_dir), "--cache-dir", cache, "--bootstrap", "50"]


@pytest.fixture(scope="module")
def both(evaluate, models, flags, tmp_path_factory):
    """Folder of scores and submission of both systems on every test file."""
    folder = tmp_path_factory.mktemp("both")
    more = ["--languages", "all", "--submission", str(folder / "sub"), "--eval-batch-size", "4"]
    names = f"{models / 'one'},second={models / 'two' / 'models'}"
    argv = ["--model", names, *more, *flags, "--output-dir", str(folder / "out")]
    assert evaluate.main(argv) == 0
    return folder, argv


def record_of(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())


def table_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_scores_are_the_tasks_own(both, models, grid_dir, tmp_path):
    # Row by row and by hand, with no code of the evaluation between.
    found = record_of(both[0] / "out")["scores"]
    source = XtremeFolder(grid_dir)
    for name, folder in (("one", "one"), ("second", "two")):
        assert list(found[name]["test"]) == [str(tlp) for tlp in source.tlps("test")]
        for tlp in source.tlps("test"):
            where = models / folder / "models" / tlp.task
            tokenizer = load_tokenizer(str(where))
            encoded = encode_split(source, tlp, "test", tokenizer, LIMITS, tmp_path)
            model = load_task_model(where, tlp.task, torch.device("cpu"))
            place = (Padding.of(tokenizer), torch.device("cpu"), nullcontext)
            rows = [np.array([i]) for i in range(encoded.num_rows)]
            one_by_one = [predict_rows(model, tlp.task, encoded, r, *place)[0] for r in rows]
            examples = source.read(tlp, "test").examples
            expected = scores(TASKS[tlp.task].terms(tlp, encoded, one_by_one, examples))
            entry = found[name]["test"][str(tlp)]
            assert entry["examples"] == expected.pop("examples") == len(examples)
            expected.pop("words", None)
            values = {metric: each["value"] for metric, each in entry["metrics"].items()}
            assert values == pytest.approx(expected, abs=1e-6)
            for each in entry["metrics"].values():
                assert 0 <= each["low"] <= each["high"] <= 1


def test_the_terms_of_the_examples_give_the_scores(both):
    found, terms = record_of(both[0] / "out")["scores"], read_terms(both[0] / "out")
    for key, part in terms.items():
        system, tlp, split, metric = key.split("/")
        entry = found[system][split][tlp]
        assert len(part) == entry["examples"]
        assert scores({metric: part})[metric] == entry["metrics"][metric]["value"]
    pairs = sum(len(e["metrics"]) for s in found.values() for t in s.values() for e in t.values())
    assert len(terms) == pairs


def test_the_submission_has_these_scores(both, grid_dir):
    found = record_of(both[0] / "out")["scores"]["second"]["test"]
    for place, tlp, metric in (
        ("udpos/test-hi.tsv", "pos_hi", "accuracy"),
        ("panx/test-en.tsv", "ner_en", "accuracy"),
        ("xnli/test-fr.tsv", "nli_fr", "macro_f1"),
        ("pawsx/test-de.tsv", "pa_de", "accuracy"),
    ):
        gold = [r.split("\t")[-1] for r in (grid_dir / place).read_text().splitlines() if r]
        answers = [r for r in (both[0] / "sub" / "second" / place).read_text().split("\n") if r]
        expected = accuracy_score(gold, answers)
        if metric == "macro_f1":
            expected = f1_score(gold, answers, average="macro", labels=sorted(set(gold)))
        assert found[tlp]["metrics"][metric]["value"] == pytest.approx(expected), tlp
    answers = json.loads((both[0] / "sub" / "one" / "mlqa" / "test-es.json").read_text())
    assert set(answers) == {f"es-test-{i}" for i in range(3)}
    assert len(list((both[0] / "sub").glob("*/*/*"))) == 2 * 10


def test_tables_and_differences_agree(both):
    out = both[0] / "out"
    record, table = record_of(out), table_of(out / "scores.csv")
    tables = record["tables"]["test"]
    headline = {task: metric for task, metric in tables["metrics"].items()}
    for tlp in tables["tlps"]:
        task, _, lang = tlp.partition("_")
        one, two = (
            record["scores"][name]["test"][tlp]["metrics"][headline[task]]["value"]
            for name in ("one", "second")
        )
        difference = tables["differences"]["second - one"][tlp]
        assert difference["value"] == pytest.approx(two - one)
        assert difference["low"] <= difference["high"] and 0 < difference["p"] <= 1
        row = ["second", task, lang, "test", headline[task], f"{two:.6f}"]
        assert sum(line[:6] == row for line in table) == 1
    means = tables["systems"]["one"]
    of_tlps = [means[tlp]["value"] for tlp in tables["tlps"]]
    assert means["all"]["value"] == pytest.approx(sum(of_tlps) / 10)
    text = (out / "scores.md").read_text()
    assert "### ner, accuracy (%)" in text and "| second - one |" in text


def test_what_was_seen_is_marked_and_recorded(both):
    record, table = record_of(both[0] / "out"), table_of(both[0] / "out" / "scores.csv")
    seen = {tlp: entry["seen"] for tlp, entry in record["scores"]["one"]["test"].items()}
    assert seen["pos_en"] == {"trained": ["pos_en", "qa_en"]}
    assert seen["ner_en"] == {"trained": ["pos_en", "qa_en"]}
    assert seen["ner_zh"] == {"rewards": ["ner_zh"]} and seen["nli_fr"] == {}
    marks = {f"{r[1]}_{r[2]}": r[-1] for r in table if r[0] == "one"}
    assert {t: marks[t] for t in ("pos_en", "ner_en", "ner_zh", "nli_fr")} == {
        "pos_en": "t",
        "ner_en": "l",
        "ner_zh": "t",
        "nli_fr": "",
    }
    text = (both[0] / "out" / "scores.md").read_text()
    assert "- one had its rewards chosen by qa_es, ner_zh" in text
    assert "- second was trained on pos_en, qa_en" in text
    models = record["systems"]["one"]
    assert models["qa"]["provenance"]["selected_on"] == {"rewards": ["qa_es", "ner_zh"]}
    assert models["qa"]["limits"]["qa_max_length"] == 48
    assert {"torch", "transformers"} <= set(record["versions"]) and record["command"]


def test_two_ranks_write_the_same(both, fork_world):
    folder, argv = both
    argv = [word.replace(str(folder), str(folder / "ranks")) for word in argv]
    said = "".join(rank.out for rank in fork_world(argv, 2, "evaluate_zeroshot.py"))
    one, two = record_of(folder / "out"), record_of(folder / "ranks" / "out")
    assert two["placement"]["processes"] == 2
    assert {k: v for k, v in one.items() if k not in CHANGES} == {
        k: v for k, v in two.items() if k not in CHANGES
    }
    for path in (folder / "sub").glob("*/*/*"):
        other = folder / "ranks" / "sub" / path.relative_to(folder / "sub")
        assert path.read_bytes() == other.read_bytes()
    assert "means (%)" in said and said.count("wrote scores.json") == 1


def test_what_is_left_out_is_said(evaluate, models, flags, tmp_path, capsys):
    more = ["--languages", "seen", "--eval-examples", "2", "--output-dir", str(tmp_path / "out")]
    assert evaluate.main(["--model", str(models / "pairs"), *more, *flags]) == 0
    said = capsys.readouterr().out
    assert "left out, having no test data: qa_hi, qa_de, nli_es" in said
    assert "left out for pairs, which has models for nli, pa: qa_en, qa_es, pos_en" in said
    assert "ONLY THE FIRST 2 EXAMPLES of every file are scored" in said
    assert "pairs had its learning rate chosen by pa_fr" in said
    record = record_of(tmp_path / "out")
    assert record["scores"]["pairs"]["test"]["nli_en"]["examples"] == 2
    assert len(record["notes"]) == 3 and record["arguments"]["eval_examples"] == 2


def test_models_of_several_folders_can_be_one_system(evaluate, models, flags, tmp_path):
    names = f"mixed={models / 'one' / 'models' / 'pos'},mixed={models / 'pairs'}"
    more = ["--tlps", "pos_hi,pa_de", "--output-dir", str(tmp_path)]
    assert evaluate.main(["--model", names, *more, *flags]) == 0
    assert list(record_of(tmp_path)["scores"]["mixed"]["test"]) == ["pa_de", "pos_hi"]


@pytest.fixture
def piece(grid_dir, models, tmp_path):
    """A test file encoded so that long pairs are left out, as training may do."""
    source, tlp = XtremeFolder(grid_dir), TLP("pa", "de")
    folder = models / "one" / "models" / "pa"
    tokenizer = load_tokenizer(str(folder))
    limits = Limits(max_length=11, long_inputs="cut")
    encoded = encode_split(source, tlp, "test", tokenizer, limits, tmp_path)
    examples = source.read(tlp, "test").examples
    assert 0 < encoded.num_examples < len(examples) == 6
    data = EvalSplit(encoded, lambda: examples)
    return Work(Job("one", tlp, "test"), folder, data, Padding.of(tokenizer))


def test_an_example_without_an_answer_is_an_error(piece, evaluate):
    _, arguments = evaluate.parse_flags(
        evaluate.ARGUMENTS, lambda given: {}, "", ["--model", "x", "--data-dir", "x"]
    )
    model = load_task_model(piece.folder, "pa", torch.device("cpu"))
    missing = 6 - piece.data.encoded.num_examples
    with pytest.raises(InputError, match=f"^pa_de test: {missing} of 6 examples have no answer$"):
        score_piece(piece, model, arguments, start_process("none", ""))
    job = piece.job
    with pytest.raises(InputError, match="pa_de test: 6 of the file's 6 examples .* 5 were read"):
        check_read(job, piece.data.encoded.counts, None, 5)
    check_read(job, {"read": 6}, 4, 4)
    with pytest.raises(InputError, match="4 of the file's 6 examples .* 5 were read"):
        check_read(job, {"read": 6}, 4, 5)
    sentences = [TaggedSentence(words, ("",) * len(words)) for words in (("a",), ("b", "c"))]
    check_answered(job, [["X"], ["X", "X"]], sentences)
    with pytest.raises(InputError, match="^pa_de test: sentence 2: 1 tags for 2 words$"):
        check_answered(job, [["X"], ["X"]], sentences)


def test_predictions_come_back_in_row_order(grid_dir, models, tmp_path):
    folder = models / "one" / "models" / "pos"
    tokenizer = load_tokenizer(str(folder))
    source = XtremeFolder(grid_dir)
    encoded = encode_split(source, TLP("pos", "hi"), "dev", tokenizer, LIMITS, tmp_path)
    model, place = load_task_model(folder, "pos", torch.device("cpu")), torch.device("cpu")
    seen: list[torch.Size] = []
    model.register_forward_pre_hook(lambda m, args: seen.append(args[1]["input_ids"].shape))
    padding = Padding.of(tokenizer)
    found = predict_split(model, "pos", encoded, padding, 5, place, nullcontext)
    widths = [shape[1] for shape in seen]
    assert widths == sorted(widths) and sum(shape[0] for shape in seen) == encoded.num_rows == 12
    for i, tags in enumerate(found):
        (alone,) = predict_rows(model, "pos", encoded, np.array([i]), padding, place, nullcontext)
        assert tags.tolist() == alone.tolist()
    assert len({tuple(tags.tolist()) for tags in found}) > 6


def test_batches_by_hand():
    tokens = np.array([9, 2, 4, 2, 8, 3])
    assert [b.tolist() for b in batches(tokens, 2)] == [[1, 3], [5, 2], [4, 0]]
    assert [b.tolist() for b in batches(tokens, 9, 10)] == [[1, 3, 5], [2], [4], [0]]
    assert [b.tolist() for b in batches(tokens, 2, 8)] == [[1, 3], [5, 2], [4], [0]]
    assert [b.tolist() for b in batches(tokens, 9, 1)] == [[1], [3], [5], [2], [4], [0]]
    assert list(batches(tokens[:0], 4, 4)) == []


def test_translations_of_one_file_share_their_resamples():
    def seed(tlp, split="test", number=5010, system="one"):
        return resamples_seed(0, Job(system, TLP.parse(tlp), split), number)

    assert seed("nli_ar") == seed("nli_sw") == seed("nli_ar", system="two")
    others = [seed("pa_ar"), seed("nli_ar", "dev"), seed("nli_ar", number=5009)]
    assert len({seed("nli_ar"), *others}) == 4
