"""The command line of evaluate_zeroshot.py: every flag, and one line for every mistake."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from metatlp.data.records import SPLITS
from metatlp.engine.arguments.command_line import FlagParser, parse_flags, run_script
from metatlp.engine.arguments.data import SourceArguments
from metatlp.engine.arguments.evaluate import EvaluateArguments
from metatlp.engine.build import head_specs
from metatlp.engine.models import export_models
from metatlp.engine.provenance import Provenance
from metatlp.engine.scoring.jobs import choose_jobs, wanted_tlps
from metatlp.engine.scoring.systems import System, find_systems
from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP
from metatlp.model.multitask import build_model, load_tokenizer
from metatlp.tasks.task import Limits

ROOT = Path(__file__).resolve().parents[2]
TYPES = (SourceArguments, EvaluateArguments)

# Every flag with its default and choices. A new flag needs a row here, a line in
# docs/evaluate_zeroshot.md, and help with the unit.
FLAGS = {
    "--data": (None, ("folder", "hub", "demo", "own")),
    "--data-dir": (None, None),
    "--own-data": (None, None),
    "--demo-seed": (None, None),
    "--demo-scale": (None, None),
    "--demo-label-noise": (None, None),
    "--cache-dir": (None, None),
    "--model": (None, None),
    "--languages": (None, None),
    "--tlps": (None, None),
    "--split": ("test", SPLITS),
    "--eval-batch-size": (64, None),
    "--eval-examples": (None, None),
    "--bootstrap": (1000, None),
    "--confidence": (0.95, None),
    "--seed": (0, None),
    "--output-dir": ("runs/zeroshot", None),
    "--submission": (None, None),
    "--allow-seen": (False, None),
}


def parse(line: str) -> EvaluateArguments:
    return parse_flags(TYPES, lambda given: {}, "", line.split())[1]


def test_every_flag_its_default_and_its_choices():
    actions = {
        action.option_strings[-1]: action
        for action in FlagParser(TYPES, "")._actions
        if not isinstance(action, argparse._HelpAction)
    }
    assert {
        flag: (action.default, tuple(action.choices) if action.choices else None)
        for flag, action in actions.items()
    } == FLAGS
    for flag, action in actions.items():
        assert action.help and len(action.help) > 15, flag


def test_docs_have_a_line_for_every_flag():
    text = (ROOT / "docs" / "evaluate_zeroshot.md").read_text()
    assert set(re.findall(r"^\| `(--[a-z-]+)", text, flags=re.M)) == set(FLAGS)


BAD = [
    ("", "--model: name a run, or a folder of models"),
    ("--model=", "--model: the value is empty"),
    ("--model m --tlps pos_et --languages et", "--tlps and --languages exclude each other"),
    ("--model m --language et", "unknown flag --language; did you mean --languages?"),
    ("--model m --split xuad", None),
    ("--model m --eval-batch-size 0", "--eval-batch-size 0: must be 1 or more"),
    ("--model m --eval-examples 0", "--eval-examples 0: must be 1 or more"),
    ("--model m --bootstrap 0", "--bootstrap 0: must be 1 or more"),
    ("--model m --confidence 1", "--confidence 1.0: must be above 0 and below 1"),
    ("--model m --confidence nan", "--confidence nan: must be above 0 and below 1"),
    ("--model m --seed -1", "--seed -1: must be at least 0 and below 2^32"),
    ("--model m --allow-seen --languages all", "--allow-seen belongs to --languages external"),
    ("--model m --allow-seen --tlps pos_et", "--allow-seen belongs to --languages external"),
    ("--model m --submission s --split dev", "--submission belongs to --split test or xquad, not"),
    ("--model m --submission s --eval-examples 3", "--submission needs every example: leave out"),
    ("--model m --data folder", "--data-dir: name a folder in XTREME's layout"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_one_line_for_every_mistake(line, message):
    with pytest.raises(InputError) as caught:
        parse(line)
    assert message is None or str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def models(encoder_dir, tmp_path_factory):
    """A run with models of pos and pa, which pos_hi trained and nli_fr chose."""
    folder = tmp_path_factory.mktemp("run")
    model = build_model(str(encoder_dir), head_specs(("pos", "pa")), seed=0)
    chosen = {"learning rate": ("nli_fr",)}
    provenance = Provenance("mtl", "encoder", ("pos_hi",), chosen, Limits())
    export_models(model, load_tokenizer(str(encoder_dir)), folder / "models", provenance)
    return folder


def test_names_of_systems(models):
    pos = models / "models" / "pos"
    assert [s.name for s in find_systems(f"{models},{pos}, b={pos}")] == [models.name, "pos", "b"]
    (system,) = find_systems(str(models / "models"))
    assert system.name == models.name and list(system.models) == ["pa", "pos"]
    (whole,) = find_systems(f"x={pos},x={models / 'models' / 'pa'}")
    assert list(whole.models) == ["pa", "pos"] and whole.models["pos"] == pos
    for text, message in (
        (f"{models},{models}", "has a model for 'pa' already, in .*give one another name"),
        (f"={models}", "cannot read '="),
        (f"a|b={models}", "'a.b' is no name"),
        (f".={models}", "'[.]' is no name"),
        (f"{models},", "cannot read ''"),
        ("nowhere", "--model nowhere: no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            find_systems(text)


def test_tables_of_tlps():
    assert len(EXTERNAL_TLPS) == len(set(EXTERNAL_TLPS)) == 28
    assert not {t.lang for t in EXTERNAL_TLPS} & {t.lang for t in PAPER_SIZES}
    path = ROOT.parent / "shared" / "paper" / "table3.csv"
    if path.is_file():
        rows = [line.split(",")[:2] for line in path.read_text().splitlines()[1:]]
        assert {TLP(*row) for row in rows} == set(EXTERNAL_TLPS)


def test_which_tlps_are_scored():
    there = [TLP.parse(name) for name in ["pos_et", "pos_hi", "ner_hi", "qa_ar", "qa_el"]]

    def wanted(line):
        tlps, lines = wanted_tlps(there, parse(f"--model m {line}"))
        return " ".join(map(str, tlps)), lines

    tlps, (line,) = wanted("--languages external")
    assert tlps == "qa_ar pos_et" and wanted("") == (tlps, [line])
    assert line.startswith("left out, having no test data: qa_vi, nli_ar, nli_bg, ")
    assert len(line.split(",")) == 1 + 26
    assert wanted("--languages seen")[0] == "pos_hi ner_hi"
    assert wanted("--languages all") == ("qa_ar qa_el pos_hi pos_et ner_hi", [])
    assert wanted("--languages el,hi") == ("qa_el pos_hi ner_hi", [])
    assert wanted("--tlps pos_et,qa_ar,pos_et") == ("qa_ar pos_et", [])
    for line, message in (
        ("--languages hi,xx", "--languages: no test data in 'xx'; choose from hi, ar, el, et, or"),
        ("--languages external,hi", "--languages: no test data in 'external'"),
        ("--tlps pos_xx,pos_et", "--tlps: no test data for pos_xx; it was found for qa_ar, qa_el"),
        ("--tlps verbs_et", "'verbs_et' is no task-language pair"),
        ("--tlps pos_et,", "'' is no task-language pair"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(message)}"):
            wanted(line)
    with pytest.raises(InputError, match="^--languages external: no test data; it was found for q"):
        wanted_tlps([TLP("qa", "en")], parse("--model m"))


class Files:
    """A source of names only."""

    def __init__(self, test: str, xquad: str = ""):
        self.files = {"test": test.split(), "xquad": xquad.split()}

    def tlps(self, split):
        return [TLP.parse(name) for name in self.files[split]]


def system(tasks: str, trained: str = "", **chosen: str) -> System:
    provenance = Provenance(
        "mtl",
        "e",
        tuple(trained.split()),
        {k: tuple(v.split()) for k, v in chosen.items()},
        Limits(),
    )
    names = tasks.split()
    return System("s", dict.fromkeys(names, Path()), dict.fromkeys(names, provenance))


def test_a_submission_has_both_test_sets_of_qa():
    files = Files("qa_ar pos_et", "qa_ar qa_el qa_th")

    def jobs(line, tasks="qa pos"):
        found, _ = choose_jobs([system(tasks)], files, parse(f"--model m {line}"))
        return " ".join(f"{job.tlp}:{job.split}" for job in found)

    assert jobs("") == "qa_ar:test pos_et:test"
    assert jobs("--submission d") == "qa_ar:test pos_et:test qa_ar:xquad"
    assert jobs("--submission d --languages all").endswith(" qa_ar:xquad qa_el:xquad qa_th:xquad")
    assert jobs("--submission d --tlps pos_et") == "pos_et:test"
    assert jobs("--submission d", "pos") == "pos_et:test"
    assert jobs("--submission d --split xquad") == "qa_ar:xquad"


def test_nothing_seen_may_be_scored_as_unseen():
    files = Files("pos_et ner_ur")

    def check(line="", **uses):
        return choose_jobs([system("pos ner", **uses)], files, parse(f"--model m {line}"))

    check(trained="pos_en qa_hi", rewards="qa_en")
    for uses, message in (
        ({"trained": "pos_en qa_et"}, "qa_et trained s, so pos_et is not unseen"),
        ({"rewards": "nli_ur nli_en"}, "nli_ur chose the rewards of s, so ner_ur is not unseen"),
    ):
        with pytest.raises(InputError, match=f"^--languages external: {message}; --allow-seen"):
            check(**uses)
        check("--allow-seen", **uses)
        check("--languages all", **uses)
    unknown = System("u", {"pos": Path()}, {"pos": None})
    assert unknown.seen(TLP("pos", "et")) is None
    choose_jobs([unknown], files, parse("--model m"))


def test_a_model_for_every_tlp_asked_for_by_name():
    files = Files("pos_et ner_ur")
    jobs, lines = choose_jobs([system("pos")], files, parse("--model m"))
    assert [job.tlp for job in jobs] == [TLP("pos", "et")]
    assert lines[-1] == "left out for s, which has models for pos: ner_ur"
    for line in ("--tlps pos_et,ner_ur", "--tlps ner_ur", "--languages ur"):
        with pytest.raises(InputError, match="^--model: s has models for pos, but none for ner_ur"):
            choose_jobs([system("pos")], files, parse(f"--model m {line}"))


def test_training_that_left_examples_out_leaves_none_out_here():
    provenance = Provenance("meta", "e", (), {}, Limits(max_length=40, long_inputs="cut"))
    assert System("s", {}, {"pos": provenance}).limits("pos") == Limits(max_length=40)
    assert System("s", {}, {"pos": None}).limits("pos") == Limits()


@pytest.fixture(scope="module")
def script():
    before = list(sys.path)
    path = ROOT / "evaluate_zeroshot.py"
    spec = importlib.util.spec_from_file_location("evaluate_zeroshot", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


def test_mistakes_end_with_code_2_and_one_line(
    script, models, grid_dir, tmp_path, monkeypatch, capsys
):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "scores.json").touch()
    start = ["evaluate_zeroshot.py", "--model", str(models), "--data-dir", str(grid_dir)]
    start += ["--cache-dir", str(tmp_path / "cache")]
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    for more, message in (
        (["--languages", "all", "--output-dir", old], "old holds scores.json already; name"),
        (["--languages", "all", "--output-dir", new, "--submission", old], "old: is there already"),
        (["--output-dir", new], "--languages external: no test data; it was found for qa_en"),
        (["--tlps", "qa_en", "--output-dir", new], "but none for qa_en"),
    ):
        monkeypatch.setattr(sys, "argv", [*start, *more])
        with pytest.raises(SystemExit) as ended:
            run_script(script.main)
        error = capsys.readouterr().err
        assert ended.value.code == 2 and error.count("\n") == 1 and message in error
    assert not (tmp_path / "cache").exists()
