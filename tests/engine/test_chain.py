"""The whole chain on the demo grid: every script hands its models to the next one, and whatever
loads them, the scores are the same."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForTokenClassification

from metatlp.data.demo_source import DemoGrid, DemoSource
from metatlp.data.encoded import EncodedSplit
from metatlp.engine.provenance import read
from metatlp.engine.scoring.evaluation import predict_split
from metatlp.export.command import main as export_main
from metatlp.grid import TLP
from metatlp.model.multitask import MultiTaskModel, load_tokenizer
from metatlp.tasks import TASKS, Padding
from metatlp.tasks.metrics import scores

SCALE = "0.001"
TEST = "pos_hi,qa_en,nli_en"


@pytest.fixture(scope="module")
def chain(fork, tmp_path_factory):
    """OUT/mtl, meta, tuned, exported, scores: each made by its script."""
    out = tmp_path_factory.mktemp("chain")
    demo = ["--demo-scale", SCALE, "--cache-dir", str(out / "cache")]

    def run(script, folder, *flags):
        done = fork([*demo, "--output-dir", str(out / folder), *flags], script)
        assert done.wait() == 0, done.err[-3000:]
        return done.out

    run("train_meta.py", "meta", "--max-meta-steps", "8", "--save-every", "4")
    run("train_mtl.py", "mtl", "--match-updates", str(out / "meta"), "--average-last", "1")
    tune = ["--init-from", str(out / "meta"), "--tlp", "pos_hi", "--updates", "8"]
    run("finetune.py", "tuned", *tune, "--lr", "1e-3,1e-4")
    checkpoint = str(out / "meta" / "checkpoints" / "step_000008")
    assert export_main(["--run", checkpoint, "--output-dir", str(out / "exported")]) == 0
    systems = {
        "mtl": out / "mtl",
        "meta": out / "meta",
        "tuned": out / "tuned/pos_hi/seed_0",
        "exported": out / "exported",
    }
    models = ",".join(f"{name}={path}" for name, path in systems.items())
    few = ["--model", models, "--bootstrap", "20"]
    external = run("evaluate_zeroshot.py", "external", *few)
    run("evaluate_zeroshot.py", "scores", *few[2:], "--tlps", TEST, "--model",
        ",".join(m for m in models.split(",") if "tuned" not in m))  # fmt: skip
    run("evaluate_zeroshot.py", "tuned_scores", *few[2:], "--tlps", "pos_hi", "--model",
        f"tuned={systems['tuned']}")  # fmt: skip
    return out, external


def scored(folder):
    """System -> TLP -> metric -> value."""
    systems = json.loads((folder / "scores.json").read_text())["scores"]
    return {
        name: {
            tlp: {metric: entry["value"] for metric, entry in one["metrics"].items()}
            for tlp, one in splits["test"].items()
        }
        for name, splits in systems.items()
    }


def test_as_many_updates(chain):
    state = (chain[0] / "mtl/checkpoints").glob("step_*/state.json")
    assert max(json.loads(path.read_text())["step"] for path in state) == 8 * 4 * 3  # m = 4, k = 3


def test_all_external_languages_in_one_call(chain):
    out, said = chain
    found = scored(out / "external")
    assert len(found["meta"]) == len(found["mtl"]) == 28
    assert set(found["tuned"]) == {tlp for tlp in found["meta"] if tlp.startswith("pos_")}
    assert "mean of all 28" in said and "left out for tuned" in said


def test_an_export_scores_as_its_run(chain):
    found = scored(chain[0] / "scores")
    assert found["exported"] == found["meta"] != found["mtl"]
    external = scored(chain[0] / "external")
    assert external["exported"] == external["meta"]


def test_finetuning_reports_what_evaluation_finds(chain):
    out, _ = chain
    (result,) = json.loads((out / "tuned/results.json").read_text())["results"]
    found = scored(out / "tuned_scores")["tuned"]["pos_hi"]
    own = {name: result["scores"]["test"][name] for name in found}
    assert own == found
    assert (
        read(out / "tuned/pos_hi/seed_0/models/pos").scores["test"]["pos_hi"]["accuracy"]
        == (found["accuracy"])
    )


def test_reloaded_by_transformers_alone_it_scores_the_same(chain):
    out, _ = chain
    folder = out / "tuned/pos_hi/seed_0/models/pos"
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert tuple(model.config.id2label.values()) == TASKS["pos"].labels
    tokenizer, tlp = load_tokenizer(str(folder)), TLP("pos", "hi")
    grid = DemoGrid(scale=float(SCALE))
    source = DemoSource(grid, grid.build(out / "cache", lambda line: None))
    examples = source.read(tlp, "test").examples
    encoded = TASKS["pos"].encode(examples, tokenizer, read(folder).limits)
    split = EncodedSplit(encoded.columns, {})
    predictions = predict_split(
        MultiTaskModel({"pos": model}), "pos", split, Padding.of(tokenizer), 8,
        torch.device("cpu"), torch.no_grad,
    )  # fmt: skip
    own = scores(TASKS["pos"].terms(tlp, split, predictions, examples))
    found = scored(out / "tuned_scores")["tuned"]["pos_hi"]
    assert {name: own[name] for name in found} == found
