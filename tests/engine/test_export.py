"""What a run exports: folders that transformers alone loads, and where they come from."""

from __future__ import annotations

import ast
import copy
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from metatlp.engine import checkpoint, provenance
from metatlp.engine.arguments.command_line import parse_flags
from metatlp.engine.arguments.meta import resolved
from metatlp.engine.arguments.presets import preset_defaults
from metatlp.engine.model_card import model_card
from metatlp.engine.models import find_models, load_task_model
from metatlp.engine.provenance import Provenance
from metatlp.engine.reopen import reopen, saved_provenance
from metatlp.errors import InputError
from metatlp.export import command
from metatlp.tasks import TASKS
from metatlp.tasks.task import Limits

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
AUTO = {
    "qa": AutoModelForQuestionAnswering,
    "nli": AutoModelForSequenceClassification,
    "pa": AutoModelForSequenceClassification,
    "pos": AutoModelForTokenClassification,
    "ner": AutoModelForTokenClassification,
}
LIMITS = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)
FLAGS = ["--sampler", "multidds", "--dev-tlps", "lang:en", "--dds-every", "2"]
FLAGS += ["--max-meta-steps", "3", "--save-every", "2", "--eval-every", "2"]


@pytest.fixture(scope="module")
def learned(train_meta, grid_flags, tmp_path_factory) -> Path:
    """A finished run, with checkpoints after meta steps 2 and 3."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    assert train_meta.main([*grid_flags, *FLAGS, "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def stopped(learned, tmp_path_factory) -> Path:
    """The same run as it was after meta step 2."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    skipped = shutil.ignore_patterns("models", "step_000003")
    shutil.copytree(learned, folder, ignore=skipped)
    return folder


def outputs(model, tokenizer) -> list[torch.Tensor]:
    batch = tokenizer(
        ["who lives in rome ?", "not red"],
        ["anna lives", "a dog"],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        found = model(**batch)
    return [found.logits] if "logits" in found else [found.start_logits, found.end_logits]


def own_model(saved: checkpoint.Checkpoint, task: str):
    """The task's model of a checkpoint."""
    return reopen(saved, print)[0].models[task]


def test_auto_classes_load_what_the_run_had_bit_for_bit(learned):
    saved = checkpoint.load(learned / "checkpoints" / "step_000003")
    model, tokenizer = reopen(saved, print)
    assert not model.training
    found = find_models(str(learned))
    assert list(found) == list(TASKS) and found["pos"] == learned / "models" / "pos"
    for task, folder in found.items():
        expected = outputs(model.models[task], tokenizer)
        loaded, report = AUTO[task].from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert loaded.config.id2label == dict(enumerate(TASKS[task].labels))
        assert loaded.config.label2id == {name: i for i, name in loaded.config.id2label.items()}
        own_tokenizer = AutoTokenizer.from_pretrained(folder)
        ours = load_task_model(folder, task, CPU)
        assert list(ours.models) == [task] and not ours.training
        for other in (loaded, ours.models[task]):
            for a, b in zip(outputs(other, own_tokenizer), expected, strict=True):
                assert torch.equal(a, b)


def test_no_file_knows_this_machine(learned, encoder_dir, grid_dir):
    for path in (learned / "models").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for place in (encoder_dir.parent, encoder_dir, grid_dir, learned.parent, Path.home()):
                assert str(place).encode() not in content, path


def test_a_run_says_what_it_was_made_with(learned, encoder_dir):
    own = provenance.read(learned / "models" / "ner")
    assert (own.system, own.task, own.limits) == ("meta", "ner", LIMITS)
    assert own.encoder == f"{encoder_dir.name} (a local folder)"
    assert len(own.trained_on) == 10 and "ner_zh" in own.trained_on
    english = ("qa_en", "nli_en", "pa_en", "pos_en", "ner_en")
    assert own.selected_on == {"rewards": english}
    details = {"sampler": "multidds", "meta_batch_size": 5, "inner_steps": 2, "inner_lr": 1e-3}
    details |= {"meta_lr": 1.0, "seed": 0, "preset": "paper", "head_average": "grid"}
    details |= {"inner_state": "average", "meta_steps": "3 of 3", "script": "train_meta.py"}
    assert details.items() <= own.details.items() and own.details["commit"]
    assert "encoder_revision" not in own.details  # of a folder there is none
    records = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    assert own.scores == {"dev": [r["dev"] for r in records if "dev" in r][-1]}


def test_pipelines_give_the_names_of_labels(learned):
    tag = pipeline("token-classification", model=str(learned / "models" / "pos"))
    found = tag("dog sees anna")
    assert [piece["word"] for piece in found] == ["dog", "sees", "anna"]
    assert {piece["entity"] for piece in found} <= set(TASKS["pos"].labels)
    classify = pipeline("text-classification", model=str(learned / "models" / "nli"))
    pair = {"text": "dog sees anna", "text_pair": "not dog sees anna"}
    of_pair = classify(pair)
    assert of_pair["label"] in TASKS["nli"].labels
    model, tokenizer = classify.model, classify.tokenizer
    with torch.no_grad():
        logits = model(**tokenizer(pair["text"], pair["text_pair"], return_tensors="pt")).logits[0]
    assert of_pair["label"] == TASKS["nli"].labels[int(logits.argmax())]
    assert of_pair["score"] == pytest.approx(float(logits.softmax(0).max()), rel=1e-6)


def code_of(markdown: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", markdown.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("task", ["pos", "pa", "qa"])
def test_the_card_has_code_that_works(learned, task, monkeypatch, capsys):
    folder = learned / "models" / task
    monkeypatch.chdir(folder)
    (code,) = code_of(folder / "README.md")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    if task == "qa":
        assert printed.strip() and printed.strip() in "Anna lives in Paris, and Boris in Rome."
    else:
        assert any(label in printed for label in TASKS[task].labels)


def test_the_code_of_the_docs_works(learned, tmp_path, monkeypatch, capsys):
    (tmp_path / "exported").symlink_to(learned / "models")
    monkeypatch.chdir(tmp_path)
    (code,) = code_of(ROOT / "docs" / "export.md")
    names: dict = {}
    exec(compile(code, "export.md", "exec"), names)
    assert names["windows"].num_rows > 3
    (answer,) = ast.literal_eval(capsys.readouterr().out)
    assert answer and answer in names["context"]


def test_the_card(learned):
    text = (learned / "models" / "pos" / "README.md").read_text(encoding="utf-8")
    _, matter, body = text.split("---\n", 2)
    fields = yaml.safe_load(matter)
    assert fields == {
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        "language": ["de", "en", "es", "fr", "hi", "zh"],
        "tags": ["metatlp", "meta", "pos"],
    }
    own = provenance.read(learned / "models" / "pos")
    accuracy = own.scores["dev"]["pos_hi"]["accuracy"]
    (row,) = re.findall(r"\| pos_hi \| .*", body)
    assert f"| {100 * accuracy:.2f} |" in row and "| 12 |" in row and "| nli_en |" not in body
    for said in ("| rewards | qa_en, nli_en, ", "16 `X`", "| meta steps | 3 of 3 |", "`license:`"):
        assert said in body, said


def test_the_card_of_other_systems():
    card = model_card(full(system="mtl", trained_on=("nli_no", "nli_x-klingon", "qa_en")))
    fields = yaml.safe_load(card.split("---\n", 2)[1])
    # Norwegian is no boolean, and what is no code of a language is left out.
    assert fields["language"] == ["en", "no"] and fields["tags"] == ["metatlp", "mtl", "nli"]
    assert fields["base_model"] == "bert-base-multilingual-cased"
    assert fields["pipeline_tag"] == "text-classification" and "license" not in fields
    for said in ("| note | a \\| b |", "| learning rate | nli_no, nli_de |", "| none | null |"):
        assert said in card, said
    assert "|  | dev accuracy | dev examples |\n| --- | --- | --- |\n| nli_no | 50.00 | 8 |" in card
    assert "## Command" not in card
    bare = model_card(full(selected_on={}, scores={}, encoder="demo"))
    assert "None: no dev data chose" in bare and "None were measured." in bare
    assert "base_model" not in bare


def test_the_command_of_the_card_resolves_to_the_flags_of_the_run(learned, train_meta):
    text = (learned / "models" / "pos" / "README.md").read_text(encoding="utf-8")
    words = shlex.split(re.search(r"```bash\n(.*?)```", text, re.S)[1].replace("\\\n", " "))
    assert words[:2] == ["python", "train_meta.py"]
    data, meta, rewards, run = parse_flags(train_meta.ARGUMENTS, preset_defaults, "", words[2:])
    found = resolved(data, meta, rewards, run)
    flags = checkpoint.load(learned / "checkpoints" / "step_000003").state["arguments"]
    places = dict.fromkeys(("data_dir", "output_dir", "model"))
    assert {k: v for k, v in found.items() if v != flags[k]} == {
        **{name: name.upper() for name in places},
        "cache_dir": None,
        "tokenizer": "MODEL",
    }


def full(**changed) -> Provenance:
    values = {
        "system": "finetuned",
        "encoder": "bert-base-multilingual-cased",
        "trained_on": ("qa_en", "nli_no"),
        "selected_on": {"rewards": ("qa_en",), "learning rate": ("nli_no", "nli_de")},
        "limits": Limits(max_length=64, long_inputs="cut"),
        "details": {"seed": 3, "rates": [1e-5, 2e-5], "note": "a | b", "none": None},
        "scores": {"dev": {"nli_no": {"accuracy": 0.5, "examples": 8}}, "test": {"nli_sw": {}}},
        "task": "nli",
    }
    return Provenance(**{**values, **changed})


def test_provenance_comes_back_as_it_was_written(tmp_path):
    full().write(tmp_path)
    assert provenance.read(tmp_path) == full()
    assert Provenance.of_json(json.loads(json.dumps(full().as_json()))) == full()
    assert provenance.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "change",
    [
        {"trained_on": "qa_en"},
        {"selected_on": {"rewards": "qa_en"}},
        {"limits": {}},
        {"limits": {**vars(Limits()), "qa_stride": True}},
        {"limits": {**vars(Limits()), "long_inputs": "drop"}},
        {"scores": {"dev": {"qa_en": 0.5}}},
        {"scores": {"dev": {"qa_en": {"f1": "0.5"}}}},
        {"details": None},
        {"system": None},
        {"task": 3},
        {"format": 2},
    ],
)
def test_a_damaged_provenance_is_one_line(tmp_path, change):
    full().write(tmp_path)
    path = tmp_path / "metatlp.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        provenance.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1', b"\xff"])
def test_a_broken_file_of_provenance(tmp_path, content):
    path = tmp_path / "metatlp.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=re.escape(str(path))):
        provenance.read(tmp_path)


def test_places_are_not_published(tmp_path, monkeypatch):
    (tmp_path / "enc").mkdir()
    monkeypatch.chdir(tmp_path)
    flags = {"model": "enc", "tokenizer": "enc", "data_dir": "/data/x", "cache_dir": None}
    flags |= {"weights_file": "w.json", "seed": 1, "selection": "all"}
    details = {"arguments": flags, "from": "/home/somebody/run", "sampler": "temp"}
    own = full(encoder="enc", details=details).published()
    assert own.encoder == "enc (a local folder)" and own.published() == own
    assert own.details["sampler"] == "temp" and "from" not in own.details
    assert own.details["arguments"] == {
        "model": "MODEL",
        "tokenizer": None,
        "data_dir": "DATA_DIR",
        "cache_dir": None,
        "weights_file": "WEIGHTS_FILE",
        "seed": 1,
        "selection": "all",
    }
    assert full(encoder="org/model").published().encoder == "org/model"
    assert full(encoder="/x/y/model").published().encoder == "model (a local folder)"


def tasks_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_run_is_copied(learned, tmp_path, capsys):
    output = tmp_path / "out"
    assert command.main(["--run", str(learned), "--output-dir", str(output)]) == 0
    difference = subprocess.run(["diff", "-r", learned / "models", output], capture_output=True)
    assert difference.returncode == 0 and not difference.stdout
    assert f"pos: {output / 'pos'}" in capsys.readouterr().out
    # What was exported can be exported again.
    again = ["--run", str(output), "--output-dir", str(tmp_path / "two"), "--tasks", "pos, qa"]
    assert command.main(again) == 0 and tasks_of(tmp_path / "two") == ["pos", "qa"]


def test_a_stopped_run_gives_the_models_of_its_newest_checkpoint(stopped, tmp_path):
    output = tmp_path / "out"
    assert command.main(["--run", str(stopped), "--output-dir", str(output)]) == 0
    assert tasks_of(output) == sorted(TASKS)
    saved = checkpoint.load(stopped / "checkpoints" / "step_000002")
    tokenizer = AutoTokenizer.from_pretrained(output / "ner")
    loaded = load_task_model(output / "ner", "ner", CPU).models["ner"]
    for a, b in zip(
        outputs(loaded, tokenizer), outputs(own_model(saved, "ner"), tokenizer), strict=True
    ):
        assert torch.equal(a, b)
    own = provenance.read(output / "ner")
    assert own.details["meta_steps"] == "2 of 3" and own.selected_on["rewards"][0] == "qa_en"
    first = next(
        record["dev"]
        for record in map(json.loads, (stopped / "metrics.jsonl").read_text().splitlines())
        if "dev" in record
    )
    assert own.scores == {"dev": first}


def test_a_checkpoint_whose_encoder_has_moved(learned, encoder_dir, tmp_path, capsys):
    saved = learned / "checkpoints" / "step_000003"
    moved = tmp_path / "moved"
    shutil.copytree(encoder_dir, moved / "new")
    lost = tmp_path / "step_000003"
    shutil.copytree(saved, lost)
    replace_in(lost, str(encoder_dir), str(moved / "old"))
    flags = ["--run", str(lost), "--output-dir", str(tmp_path / "out"), "--tasks", "pa"]
    assert command.main(flags) == 2
    assert f"--tokenizer {moved / 'old'}" in one_line(capsys)
    assert command.main([*flags, "--model", str(moved / "new")]) == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        found = (tmp_path / "out" / "pa" / name).read_bytes()
        assert found == (learned / "models" / "pa" / name).read_bytes()


def replace_in(folder: Path, old: str, new: str) -> None:
    """Change a checkpoint's state, and its manifest with it."""
    saved = checkpoint.load(folder)
    state = json.loads(json.dumps(saved.state).replace(old, new))
    step = state.pop("step")
    shutil.rmtree(folder)
    checkpoint.save(folder.parent, step, state, saved.tensors, keep=1)


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("python -m metatlp.export: error: ") and error.count("\n") == 1
    return error


def test_provenance_that_the_checkpoint_itself_holds(stopped, tmp_path):
    path = tmp_path / "step_000002"
    shutil.copytree(stopped / "checkpoints" / "step_000002", path)
    saved = checkpoint.load(path)
    of_state = full(task=None).as_json()
    state = json.loads(json.dumps(saved.state | {"provenance": of_state}))
    changed = checkpoint.Checkpoint(path, state, saved.tensors)
    assert saved_provenance(changed, {}) == full(task=None)
    scores = {"dev": {"qa_en": {"f1": 1.0}}}
    assert saved_provenance(changed, scores) == full(task=None, scores=scores)
    broken = copy.deepcopy(state)
    del broken["provenance"]["limits"]
    with pytest.raises(InputError, match="step_000002: does not say .*'limits' is missing"):
        saved_provenance(checkpoint.Checkpoint(path, broken, saved.tensors), {})
    # A checkpoint away from its run has no scores, and half a line is none.
    assert command.dev_scores(saved) == {}
    (tmp_path.parent / "metrics.jsonl").write_text('{"step": 2, "dev"')
    assert command.dev_scores(saved) == {}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run", "nowhere"], "--run nowhere: no such folder"),
        (["--run", "{run}", "--tasks", "pos,xx"], "--tasks xx: not in this run, which has qa, nli"),
        (["--run", "{run}", "--model", "x"], "--model and --tokenizer belong to checkpoints"),
        (["--run", "{run}", "--private"], "--private belongs to --push-to-hub"),
        (["--run", "{run}", "--output-dir", "{run}"], "is not empty"),
        (["--run", "{empty}"], "--run {empty}: neither a run (with models/), nor a folder of"),
        (["--run", "{new}"], "--run {new}: has no checkpoint yet"),
        (["--run", "{run}", "--push-to-hub", "a b"], "--push-to-hub a b: "),
        (["--run", "{run}", "--push-to-hub", "a/b"], "HF_HUB_OFFLINE is set; unset it"),
    ],
)
def test_export_says_what_is_wrong(learned, tmp_path, capsys, flags, message):
    places = {"run": learned, "empty": tmp_path / "empty", "new": tmp_path / "new"}
    places["empty"].mkdir()
    (places["new"] / "checkpoints").mkdir(parents=True)
    flags = [flag.format(**places) for flag in flags]
    assert command.main(["--output-dir", str(tmp_path / "out"), *flags]) == 2
    assert message.format(**places) in one_line(capsys)
    assert not (tmp_path / "out").exists()


def refused(what, *arguments) -> str:
    with pytest.raises(InputError) as error:
        what(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_plain_encoder_is_no_model_of_a_task(encoder_dir, learned, tmp_path):
    assert "is BertModel, without a head of any task" in refused(find_models, str(encoder_dir))
    # Even with the right labels in its configuration.
    folder = tmp_path / "pos"
    AutoModel.from_pretrained(encoder_dir).save_pretrained(folder)
    for name in ("config.json", "metatlp.json"):
        shutil.copy(learned / "models" / "pos" / name, folder)
    assert find_models(str(folder)) == {"pos": folder}
    assert "has no weights for classifier." in refused(load_task_model, folder, "pos", CPU)


def test_labels_in_another_order_are_refused(learned, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(learned / "models" / "nli", folder)
    config = json.loads((folder / "config.json").read_text())
    names = ["contradiction", "neutral", "entailment"]
    config["id2label"] = {str(i): name for i, name in enumerate(names)}
    config["label2id"] = {name: i for i, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    message = refused(load_task_model, folder, "nli", CPU)
    assert "contradiction, neutral, entailment; task 'nli' needs, in this order" in message
    assert "task 'pa' needs" in refused(load_task_model, folder, "pa", CPU)
    (folder / "metatlp.json").unlink()
    assert "those of 0 of the tasks nli, pa" in refused(find_models, str(folder))


def test_one_task_folder_without_provenance_is_known_by_its_head(learned, tmp_path):
    for task in TASKS:
        folder = tmp_path / f"some-{task}"
        shutil.copytree(learned / "models" / task, folder)
        (folder / "metatlp.json").unlink()
        assert find_models(str(folder)) == {task: folder}
    (folder / "metatlp.json").write_text("{")
    assert "metatlp.json: damaged" in refused(find_models, str(folder))


def test_what_is_no_model_says_what_would_be(stopped, tmp_path):
    assert refused(find_models, "nowhere") == "--model nowhere: no such folder"
    assert "finish it with --resume auto, or write" in refused(find_models, str(stopped))
    assert f"python -m metatlp.export --run {stopped}" in refused(find_models, str(stopped))
    assert "neither a run (with models/)" in refused(find_models, str(tmp_path))


def test_a_damaged_model_is_one_line(learned, tmp_path):
    folder = tmp_path / "pos"
    shutil.copytree(learned / "models" / "pos", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert str(folder) in refused(load_task_model, folder, "pos", CPU)
    # Never a pickle.
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert str(folder) in refused(load_task_model, folder, "pos", CPU)
