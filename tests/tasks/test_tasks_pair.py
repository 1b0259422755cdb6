"""NLI and PA: layout of two texts, truncation, loss and scores."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatlp.data.encoded import EncodedSplit
from metatlp.data.records import TextPair
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Limits, Padding, model_inputs
from metatlp.tasks.metrics import scores
from metatlp.tasks.pair import truncated

NLI, PA = TASKS["nli"], TASKS["pa"]


def encoded(examples, tokenizer, limits=None):
    result = NLI.encode(examples, tokenizer, limits or Limits())
    return EncodedSplit(result.columns, result.counts)


def test_layout_by_hand(letters):
    data = encoded([TextPair("ab", "c d", "contradiction")], letters)
    assert data.ragged("input_ids").row(0).tolist() == [2, 4, 31, 3, 6, 7, 3]
    assert data.ragged("token_type_ids").row(0).tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert data.flat("labels").tolist() == [2] and data.counts == {}


def test_layout_is_the_tokenizers_own(any_tokenizer):
    first, second = "The quick fox .", "El perro perezoso ."
    data = encoded([TextPair(first, second, "neutral")], any_tokenizer)
    own = any_tokenizer(first, second)
    for name in own.keys() - {"attention_mask"}:
        assert data.ragged(name).row(0).tolist() == own[name]
    assert ("token_type_ids" in data.names) == ("token_type_ids" in own)


def test_truncation_settings_of_the_tokenizer_play_no_part(letters):
    pair = TextPair("a b c d e f", "a b c d e f", "neutral")
    letters("a b c", max_length=4, truncation=True, padding="max_length")
    assert encoded([pair], letters).tokens.tolist() == [15]


def one_by_one(first, second, room):
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@given(st.integers(0, 60), st.integers(0, 60), st.integers(5, 60))
def test_truncation_takes_from_the_longer_one(first, second, room):
    got = truncated(np.array([first]), np.array([second]), room)
    assert tuple(int(a[0]) for a in got) == one_by_one(first, second, room)


def test_long_pairs_are_truncated_or_dropped(letters):
    pairs = [TextPair("a b c d e", "f g h", "neutral"), TextPair("a", "b", "entailment")]
    kept = encoded(pairs, letters, Limits(max_length=8))
    assert kept.ragged("input_ids").row(0).tolist() == [2, 4, 5, 6, 3, 9, 10, 3]
    assert kept.counts == {"pairs_truncated": 1}
    cut = encoded(pairs, letters, Limits(max_length=8, long_inputs="cut"))
    assert cut.num_rows == 1 and cut.counts == {"pairs_dropped": 1}
    assert cut.flat("example").tolist() == [1] and cut.flat("labels").tolist() == [0]
    got = scores(NLI.terms(TLP("nli", "en"), cut, [np.int16(0)], pairs))
    assert got["accuracy"] == 1.0 and got["examples"] == 1
    assert NLI.decode(cut, [np.int16(0)], pairs) == [None, "entailment"]


def test_empty_text(letters):
    data = encoded([TextPair("", "a", "neutral")], letters)
    assert data.ragged("input_ids").row(0).tolist() == [2, 3, 4, 3]


def test_collate_loss_predict_score(letters):
    pairs = [TextPair("a", "b", "neutral"), TextPair("a b", "c", "entailment")]
    data = encoded(pairs, letters)
    batch = NLI.collate(data, np.array([0, 1]), Padding.of(letters))
    assert batch["input_ids"].tolist() == [[2, 4, 3, 5, 3, 0], [2, 4, 5, 3, 6, 3]]
    assert batch["attention_mask"].sum(1).tolist() == [5, 6]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]
    assert set(model_inputs(batch)) == {"input_ids", "attention_mask", "token_type_ids"}
    # p(neutral) = 1/2 and p(entailment) = 1/4.
    logits = torch.log(torch.tensor([[1.0, 2, 1], [1, 2, 1]]))
    outputs = SimpleNamespace(logits=logits)
    assert NLI.loss(outputs, batch).item() == pytest.approx((log(2) + log(4)) / 2)
    predictions = NLI.predict(outputs, batch)
    got = scores(NLI.terms(TLP("nli", "en"), data, predictions, pairs))
    # neutral: 2 * 1 / (2 + 1); entailment: 0.
    assert got == {"accuracy": 0.5, "macro_f1": pytest.approx(1 / 3), "examples": 2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"long_inputs": "drop"}, "--long-inputs drop: choose from keep, cut"),
        ({"max_length": 3}, "--max-length 3"),
        ({"qa_stride": 0}, "--qa-stride"),
        ({"qa_max_length": 128}, "--qa-max-length 128: at least"),
    ],
)
def test_limits_that_make_no_sense(fields, message):
    with pytest.raises(InputError, match=message):
        Limits(**fields)


def test_padding_needs_a_padding_token():
    with pytest.raises(InputError, match="no padding token"):
        Padding.of(SimpleNamespace(pad_token_id=None, pad_token_type_id=0))
