"""finetune.py: rates, seeds and shots in one call; what it keeps, and how it goes on."""

from __future__ import annotations

import csv
import json
import shutil
import time

import pytest
from safetensors.torch import load_file, save_file

from metatlp.engine.provenance import read
from metatlp.engine.scoring.systems import find_systems
from metatlp.engine.scoring.terms_file import read_terms
from metatlp.export.command import main as export
from metatlp.grid import TLP
from metatlp.report import __main__ as report
from metatlp.report.plan_file import Cell
from metatlp.report.readings import Reader
from metatlp.tasks.metrics import scores

SCRIPT = "finetune.py"
LR = "0.001,0.0001"


@pytest.fixture(scope="module")
def meta(fork, meta_flags, tmp_path_factory):
    """A finished meta-trained run on POS and NER."""
    folder = tmp_path_factory.mktemp("meta") / "run"
    flags = [*meta_flags, "--selection", "task:pos,ner", "--max-meta-steps", "2"]
    run = fork([*flags, "--output-dir", str(folder)])
    assert run.wait() == 0, run.err[-3000:]
    return folder


@pytest.fixture(scope="module")
def flags(supervised_flags, meta):
    """From the meta-trained model; its lengths are not named again."""
    own = {"--model", "--max-length", "--qa-max-length", "--qa-stride", "--qa-query-length"}
    pairs = zip(supervised_flags[::2], supervised_flags[1::2], strict=True)
    kept = [word for pair in pairs if pair[0] not in own for word in pair]
    return [
        *kept,
        "--init-from",
        str(meta),
        "--updates",
        "6",
        "--save-every",
        "2",
        "--eval-every",
        "2",
    ]


@pytest.fixture(scope="module")
def call(fork, flags, tmp_path_factory):
    """POS and PA, which has no head there; no example, 5 and all; two rates."""
    folder = tmp_path_factory.mktemp("finetune") / "call"
    wanted = ["--tlp", "pos_hi,pa_en", "--shots", "5,full", "--lr", LR]
    run = fork([*flags, *wanted, "--output-dir", str(folder)], SCRIPT)
    assert run.wait() == 0, run.err[-3000:]
    return folder, run.out, [*flags, *wanted]


def results(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def without_times(folder):
    """Everything the call wrote, but for times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        elif path.suffix in (".safetensors", ".npz"):
            found[name] = path.read_bytes()
        elif path.is_file() and path.name != "args.json" and path.parent.parent.name != "models":
            text = path.read_text().replace(str(folder), "OUT")
            found[name] = text.replace('"resume": "auto"', '"resume": null')
    return found


def test_every_training_has_its_result(call):
    folder, out, _ = call
    found = results(folder)
    assert [(r["tlp"], r["shots"]) for r in found] == [
        ("pa_en", "5"), ("pa_en", "full"), ("pos_hi", "5"), ("pos_hi", "full"),
    ]  # fmt: skip
    for result in found:
        assert [trial["lr"] for trial in result["trials"]] == [1e-3, 1e-4]
        kept = max(result["trials"], key=lambda trial: trial["dev"]["accuracy"])
        assert result["lr"] == kept["lr"] and result["scores"]["dev"] == kept["dev"]
        assert result["scores"]["test"]["examples"] == 6
        assert result["examples"] == (5 if result["shots"] == "5" else 40)
        assert all(trial["distance"] > 0 for trial in result["trials"])
    assert "pos: from " in out and "models/pos, with its own head" in out
    assert "models/pos, with a new head" in out  # PA
    assert "dev by learning rate: 0.001: " in out


def test_the_model_says_where_it_comes_from(call, meta):
    folder = call[0]
    history = read(folder / "pos_hi/seed_0/models/pos")
    assert history.system == "finetuned"
    assert history.trained_on == ("pos_en", "pos_hi", "ner_en", "ner_zh")
    assert history.selected_on == {
        "update of finetuning": ("pos_hi",),
        "learning rate of finetuning": ("pos_hi",),
    }
    assert history.limits == read(meta / "models/pos").limits and history.limits.max_length == 32
    assert set(history.scores) == {"dev", "test"}
    card = (folder / "pos_hi/seed_0/models/pos/README.md").read_text()
    command = card.partition("## Command")[2]
    assert "python finetune.py" in command and "--tlp pos_hi" in command
    assert "--init-from" in command and "--model" not in command
    assert not list(folder.rglob("checkpoints")) and not list(folder.rglob("lr_*/models"))


def test_what_is_exported_has_the_best_dev_score(call, fork, supervised_flags, tmp_path):
    """Scored again, by the other script."""
    folder = call[0]
    assert any(trial["update"] < 6 for r in results(folder) for trial in r["trials"])
    data = supervised_flags[: supervised_flags.index("--model")]
    for tlp in ("pos_hi", "pa_en"):
        model = ["--model", str(folder / tlp / "seed_0"), "--tlps", tlp, "--split", "dev"]
        scored = tmp_path / tlp
        run = fork(
            [*data, *model, "--bootstrap", "2", "--output-dir", str(scored)],
            "evaluate_zeroshot.py",
        )
        assert run.wait() == 0, run.err[-3000:]
        (system,) = json.loads((scored / "scores.json").read_text())["scores"].values()
        found = {name: one["value"] for name, one in system["dev"][tlp]["metrics"].items()}
        (result,) = [r for r in results(folder) if r["tlp"] == tlp and r["shots"] == "full"]
        assert {name: result["scores"]["dev"][name] for name in found} == found


def test_the_terms_of_the_examples_give_the_scores(call):
    folder = call[0]
    for result in results(folder):
        shots = "" if result["shots"] == "full" else f"shots_{result['shots']}"
        terms = read_terms(folder / result["tlp"] / shots / f"seed_{result['seed']}")
        test = result["scores"]["test"]
        own = {name.removeprefix("test/"): part for name, part in terms.items()}
        assert scores(own) == test and len(own["accuracy"]) == test["examples"]


def test_the_reports_read_it(call, tmp_path):
    folder = call[0]
    reader = Reader(folder.parent)
    for result in results(folder):
        if result["shots"] == "full":
            tlp, file = TLP.parse(result["tlp"]), f"{folder.name}/results.json"
            cell = Cell("table2", "row", tlp, result["seed"], "{}", "run", file, "test")
            found, scored = reader.read(cell), result["scores"]
            assert found.value == scored["test"]["accuracy"]
            assert found.dev == scored["dev"]["accuracy"] and found.distance == result["distance"]
            assert len(found.terms["accuracy"]) == scored["test"]["examples"]
    assert not reader.without_terms
    assert report.main([str(folder), "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    for text in ("pos_hi, full, seed 0", "pa_en, 5, seed 0", "Learning rates", "dev scores"):
        assert text in page


def test_history_is_handed_on(call, fork, flags, supervised_flags, tmp_path):
    """Of what each task starts from, through two finetunings; and that there is none."""
    folder = call[0]
    mixed = tmp_path / "mixed"
    shutil.copytree(folder / "pos_hi/seed_0/models/pos", mixed / "pos")
    shutil.copytree(folder / "pa_en/seed_0/models/pa", mixed / "pa")
    (mixed / "pa/metatlp.json").unlink()
    own = [*flags, "--init-from", str(mixed), "--lr", "1e-3", "--updates", "4"]
    run = fork([*own, "--tlp", "pos_en,pa_de", "--output-dir", str(tmp_path / "again")], SCRIPT)
    assert run.wait() == 0, run.err[-3000:]
    pos = read(tmp_path / "again/pos_en/seed_0/models/pos")
    assert pos.trained_on == ("pos_en", "pos_hi", "ner_en", "ner_zh") and pos.complete
    assert pos.selected_on == {
        "update of finetuning": ("pos_hi", "pos_en"),
        "learning rate of finetuning": ("pos_hi",),
    }
    pa = read(tmp_path / "again/pa_de/seed_0/models/pa")
    assert pa.trained_on == ("pa_de",) and not pa.complete
    (system,) = find_systems(str(tmp_path / "again/pa_de/seed_0"))
    assert system.seen(TLP("pa", "es")) is None and system.seen(TLP("pa", "de"))
    # Other weights in the same place are another start.
    path = mixed / "pos/model.safetensors"
    save_file({k: v + 1 for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    more = ["--tlp", "pos_en", "--resume", "auto", "--output-dir", str(tmp_path / "again")]
    run = fork([*own, *more], SCRIPT)
    assert run.wait() == 2 and "other data for the weights to start from" in run.err


def test_resumption_asks_for_the_same_data_and_whole_files(call, fork, grid_dir, tmp_path):
    whole, _, flags = call
    folder, grid = tmp_path / "run", tmp_path / "grid"
    shutil.copytree(whole, folder)
    shutil.copytree(grid_dir, grid)
    again = [*flags, "--data-dir", str(grid), "--output-dir", str(folder), "--resume", "auto"]
    dev = grid / "udpos/dev-hi.tsv"
    text = dev.read_text()
    dev.write_text(text.replace("dog", "cat"))
    for harm, message in (
        (lambda: None, "was made with other data for dev pos_hi"),
        (lambda: dev.write_text(text), None),
        (lambda: (folder / "pa_en/seed_0/result.json").write_text("[]"), "not a result"),
        (lambda: (folder / "args.json").write_text("[]"), "a JSON object was expected"),
    ):
        harm()
        run = fork(again, SCRIPT)
        assert run.wait() == (2 if message else 0), run.err[-3000:]
        assert message is None or (message in run.err and "Traceback" not in run.err)
    few = [*flags, "--output-dir", str(tmp_path / "new"), "--shots", "2,5000"]
    run = fork(few, SCRIPT)
    assert run.wait() == 2 and "--shots 5000: pa_en has 40 training examples" in run.err
    assert not list((tmp_path / "new").glob("*/*"))
    run = fork([*few[:-2], "--shots", "2", "--updates", "1"], SCRIPT)
    assert run.wait() == 0, run.err[-3000:]  # the mistake did not take the folder


def test_a_stopped_training_is_exported(call, fork, tmp_path):
    flags = call[2]
    folder = tmp_path / "run"
    run = fork([*flags, "--updates", "4000", "--output-dir", str(folder)], SCRIPT)
    begun = folder / "pa_en/shots_5/seed_0/lr_0.001"
    end = time.monotonic() + 120
    while not list((begun / "checkpoints").glob("step_*")):
        assert time.monotonic() < end and not run.ended(), run.err[-3000:]
        time.sleep(0.002)
    run.kill(15)
    assert run.wait() == 0 and "go on with the same command" in run.out
    assert export(["--run", str(begun), "--output-dir", str(tmp_path / "out")]) == 0
    history = read(tmp_path / "out/pa")
    assert history.system == "finetuned" and "pa_en" in history.trained_on


def test_the_tables_have_every_number(call):
    folder = call[0]
    rows = list(csv.DictReader((folder / "results.csv").open()))
    for result in results(folder):
        for split, metrics in result["scores"].items():
            for metric, value in metrics.items():
                (row,) = [
                    r for r in rows
                    if (r["tlp"], r["shots"], r["split"], r["metric"], r["kept"])
                    == (result["tlp"], result["shots"], split, metric, "True")
                ]  # fmt: skip
                assert float(row["value"]) == value
    others = [row for row in rows if row["kept"] == "False"]
    assert {row["split"] for row in others} == {"dev"} and len(others) == 4 * 3 + 2
    accuracy = 100 * results(folder)[0]["scores"]["test"]["accuracy"]
    assert "| pa_en | 5 | accuracy | " in (text := (folder / "results.md").read_text())
    assert f"| {accuracy:.2f} |" in text


def test_zero_shots_are_the_scores_of_the_start(fork, flags, meta, tmp_path):
    wanted = ["--tlp", "pos_hi", "--shots", "0", "--output-dir", str(tmp_path / "zero")]
    run = fork([*flags, *wanted], SCRIPT)
    assert run.wait() == 0, run.err[-3000:]
    (result,) = results(tmp_path / "zero")
    lines = [json.loads(line) for line in (meta / "metrics.jsonl").read_text().splitlines()]
    assert result["scores"]["dev"] == lines[-1]["dev"]["pos_hi"]
    more = ["--output-dir", str(tmp_path / "none")]
    run = fork([*flags, "--tlp", "pa_en", "--shots", "0", *more], SCRIPT)
    assert run.wait() == 2 and "has no head for pa_en" in run.err


def test_a_folder_that_holds_a_call_is_not_taken(call, fork):
    folder, _, flags = call
    before = without_times(folder)
    run = fork([*flags, "--output-dir", str(folder)], SCRIPT)
    assert run.wait() == 2 and "holds a run; go on with --resume auto" in run.err
    assert without_times(folder) == before


def test_killed_in_the_second_rate_it_goes_on_bit_for_bit(call, fork, tmp_path):
    whole, _, flags = call
    folder = tmp_path / "run"
    first = fork([*flags, "--output-dir", str(folder)], SCRIPT)
    begun = folder / "pa_en/seed_0/lr_0.0001/checkpoints"
    end = time.monotonic() + 120
    while not list(begun.glob("step_*")):
        assert time.monotonic() < end and not first.ended(), first.err[-3000:]
        time.sleep(0.002)
    first.kill(9)
    first.wait()
    second = fork([*flags, "--output-dir", str(folder), "--resume", "auto"], SCRIPT)
    assert second.wait() == 0, second.err[-3000:]
    assert f"resumed {begun}/step_" in second.out
    assert "lr_0.001/checkpoints" not in second.out.split("pos_hi, 5")[0]
    assert without_times(folder) == without_times(whole)
    # Once more, with a seed more: what is finished stays as it is.
    more = ["--tlp", "pos_hi", "--shots", "5", "--seeds", "0,1", "--resume", "auto"]
    before = (folder / "pos_hi/shots_5/seed_0/result.json").stat().st_mtime_ns
    third = fork([*flags, *more, "--output-dir", str(folder)], SCRIPT)
    assert third.wait() == 0, third.err[-3000:]
    assert "(2 seeds)" in (folder / "results.md").read_text()
    assert (folder / "pos_hi/shots_5/seed_0/result.json").stat().st_mtime_ns == before
    assert len(json.loads((folder / "args.json").read_text())["earlier_starts"]) == 2
    fourth = fork([*flags, *more, "--output-dir", str(folder), "--updates", "7"], SCRIPT)
    assert fourth.wait() == 2 and "was made with --updates 6, not 7" in fourth.err
