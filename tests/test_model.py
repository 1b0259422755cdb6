"""The multi-task model and its arena: sharing, layout, export, several encoder families."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertModel,
    DistilBertConfig,
    ModernBertConfig,
    XLMRobertaConfig,
)

from metatlp.engine.adamw import InnerConfig
from metatlp.errors import InputError
from metatlp.model.arena import ALIGNMENT, Arena
from metatlp.model.multitask import HeadSpec, build_model, count_parameters, load_config

HEADS = {
    "qa": HeadSpec(AutoModelForQuestionAnswering, ()),
    "nli": HeadSpec(AutoModelForSequenceClassification, ("entailment", "neutral", "contradiction")),
    "pa": HeadSpec(AutoModelForSequenceClassification, ("0", "1")),
    "pos": HeadSpec(AutoModelForTokenClassification, ("NOUN", "VERB", "X")),
}
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2}
DISTIL = {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
FAMILIES = {
    "bert": BertConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES, pad_token_id=0),
    "modernbert": ModernBertConfig(**SIZES, **SPECIAL, sep_token_id=2),
    "distilbert": DistilBertConfig(**DISTIL),
}
TASK_NAMES = frozenset(HEADS)


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path):
    FAMILIES[request.param].save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def bert(tmp_path):
    torch.manual_seed(0)
    BertModel(FAMILIES["bert"]).save_pretrained(tmp_path)
    return tmp_path


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_every_family_trains_every_head_on_one_encoder(family):
    model = build_model(str(family), HEADS, seed=0, dropout=0.0, from_config=True)
    arena = Arena(model.named_uses())
    assert arena.segments[0].tasks == TASK_NAMES
    assert sum(segment.tasks == {"pos"} for segment in arena.segments) == 1
    for task in HEADS:
        arena.grad.zero_()
        outputs = model(task, inputs())
        logits = outputs.start_logits + outputs.end_logits if task == "qa" else outputs.logits
        logits.square().sum().backward()
        for segment in arena.segments:
            moved = bool(arena.grad[segment.span].any())
            assert moved == (task in segment.tasks), (task, segment)


def test_every_family_exports_lossless(family, tmp_path):
    model = build_model(str(family), HEADS, seed=0, dropout=0.0, from_config=True)
    arena = Arena(model.named_uses())
    arena.live.mul_(1.5)
    for task, head in HEADS.items():
        model.export(task, tmp_path / task)
        loaded = head.auto_class.from_pretrained(tmp_path / task).eval()
        model.eval()
        with torch.no_grad():
            ours, theirs = model(task, inputs()), loaded(**inputs())
        assert torch.equal(ours[0], theirs[0])
        if head.labels:
            assert loaded.config.id2label == dict(enumerate(head.labels))


def test_pretrained_weights_are_loaded_and_the_pooler_serves_pairs_only(bert):
    pretrained = BertModel.from_pretrained(bert).state_dict()
    model = build_model(str(bert), HEADS, seed=0)
    uses = model.named_uses()
    for name, tensor in pretrained.items():
        if name in ("embeddings.position_ids", "embeddings.token_type_ids"):
            continue
        parameter, tasks = uses[f"encoder.{name}"]
        assert torch.equal(parameter, tensor)
        assert tasks == ({"nli", "pa"} if name.startswith("pooler") else TASK_NAMES)
    assert all(parameter.dtype == torch.float32 for parameter, _ in uses.values())


def test_heads_are_a_function_of_seed_and_task(bert):
    first = dict(build_model(str(bert), HEADS, seed=1).named_uses())
    torch.manual_seed(99)
    fewer = {task: HEADS[task] for task in ("pos", "qa")}
    again = build_model(str(bert), fewer, seed=1).named_uses()
    other = build_model(str(bert), fewer, seed=2).named_uses()
    for name in ("head.pos.classifier.weight", "head.qa.qa_outputs.weight"):
        assert torch.equal(first[name][0], again[name][0])
        assert not torch.equal(first[name][0], other[name][0])


def test_building_leaves_the_random_state_alone(bert):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_model(str(bert), HEADS, seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_dropout_reaches_every_place(family):
    config = load_config(str(family), 0.25)
    found = {k: v for k, v in config.to_dict().items() if "dropout" in k}
    assert found and set(found.values()) == {0.25}
    model = build_model(str(family), HEADS, seed=0, dropout=0.25, from_config=True)
    rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.25}


def test_counting_parameters_makes_none(bert):
    model = build_model(str(bert), HEADS, seed=0)
    arena = Arena(model.named_uses())
    assert count_parameters(str(bert), HEADS) == arena.num_parameters
    assert arena.num_parameters == sum(p.numel() for p, _ in model.named_uses().values())


def test_arena_layout_by_hand():
    # Three parameters of 3, 32 and 5 numbers; each starts at a multiple of 32.
    a, b, c = (nn.Parameter(torch.full((n,), float(n))) for n in (3, 32, 5))
    one, two = frozenset({"pos"}), frozenset({"pos", "ner"})
    arena = Arena({"a": (a, one), "b": (b, two), "c": (c, two)})
    assert [(s.name, s.start, s.stop) for s in arena.segments] == [
        ("ner+pos", 0, 64),
        ("pos", 64, 96),
    ]
    assert ALIGNMENT == 32 and len(arena) == 96 and arena.num_parameters == 40
    assert arena.live[:32].eq(32).all() and arena.live[32:37].eq(5).all()
    assert arena.live[37:64].eq(0).all() and arena.live[64:67].eq(3).all()
    arena.live[64] = 7.0
    assert a[0].item() == 7.0
    (a.sum() * 2 + b.sum()).backward()
    assert arena.grad[64:67].tolist() == [2.0, 2.0, 2.0] and arena.grad[:32].eq(1).all()
    assert [s.name for s in InnerConfig().stepped("ner", arena.segments)] == ["ner+pos"]


@pytest.mark.parametrize("broken", ["missing", "no-config", "bad-json", "unknown-type"])
def test_a_model_that_cannot_be_had_is_one_clear_error(tmp_path, broken):
    folder = tmp_path / broken
    if broken != "missing":
        folder.mkdir()
    if broken == "bad-json":
        (folder / "config.json").write_text("{")
    if broken == "unknown-type":
        (folder / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(InputError, match="--model"):
        build_model(str(folder), HEADS, seed=0)


def test_a_model_without_weights_is_an_error_unless_from_config(tmp_path):
    FAMILIES["bert"].save_pretrained(tmp_path)
    with pytest.raises(InputError, match="--model"):
        build_model(str(tmp_path), HEADS, seed=0)
    build_model(str(tmp_path), HEADS, seed=0, from_config=True)
