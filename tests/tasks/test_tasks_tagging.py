"""POS and NER: labels on first pieces, splitting at the limit, loss, decoding and scores."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metatlp.data.encoded import EncodedSplit
from metatlp.data.records import TaggedSentence
from metatlp.data.tsv import LABELS
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import TASK_CODES, TLP
from metatlp.tasks import TASKS, Limits, Padding
from metatlp.tasks.metrics import scores
from metatlp.tasks.tagging import split

POS, NER = TASKS["pos"], TASKS["ner"]
POS_EN = TLP("pos", "en")


def sentence(text, tags):
    return TaggedSentence(tuple(text.split()), tuple(tags.split()))


def encoded(task, examples, tokenizer, limits=None):
    result = task.encode(examples, tokenizer, limits or Limits())
    return EncodedSplit(result.columns, result.counts)


def gold_predictions(data):
    """What a model that makes no mistake would predict."""
    labels = data.ragged("labels")
    return [labels.row(i)[labels.row(i) != -100] for i in range(data.num_rows)]


def test_tasks_agree_with_the_grid_and_the_readers():
    assert tuple(TASKS) == TASK_CODES
    assert all(task.code == code for code, task in TASKS.items())
    assert all(LABELS[code] == TASKS[code].labels for code in LABELS)


def test_label_on_first_piece_by_hand(letters):
    # ab = a ##b = 4 31, c = 6; NOUN is label 7, VERB 15.
    data = encoded(POS, [sentence("ab c", "NOUN VERB")], letters)
    assert data.ragged("input_ids").row(0).tolist() == [2, 4, 31, 6, 3]
    assert data.ragged("token_type_ids").row(0).tolist() == [0, 0, 0, 0, 0]
    assert data.ragged("labels").row(0).tolist() == [-100, 7, -100, 15, -100]
    assert data.tokens.tolist() == [5] and data.counts == {}


def test_word_without_pieces_becomes_unknown(letters):
    data = encoded(POS, [sentence("a \u200b \u00ad b", "NOUN X SYM VERB")], letters)
    assert data.ragged("input_ids").row(0).tolist() == [2, 4, 1, 1, 5, 3]
    assert data.ragged("labels").row(0).tolist() == [-100, 7, 16, 14, 15, -100]
    assert data.counts == {"words_unk": 2}


def test_no_unknown_token_is_an_input_error(letters):
    tokenizer = SimpleNamespace(
        is_fast=True,
        backend_tokenizer=letters.backend_tokenizer,
        unk_token_id=None,
        model_input_names=["input_ids"],
    )
    with pytest.raises(InputError, match="no unknown token"):
        POS.encode([TaggedSentence(("\u200b",), ("X",))], tokenizer, Limits())


def test_slow_tokenizer_is_an_input_error():
    with pytest.raises(InputError, match="no fast version"):
        POS.encode([], SimpleNamespace(is_fast=False), Limits())


def test_split_by_hand():
    assert split(np.array([2, 2, 2]), 6) == [0]
    # Filled one after the other: 6 + 2; the smallest room for two parts is 4.
    assert split(np.array([2, 2, 2, 2]), 6) == [0, 2]
    assert split(np.array([5, 1, 1, 5]), 6) == [0, 2]
    assert split(np.array([4, 4, 4]), 6) == [0, 1, 2]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(9, 30))
def test_split_covers_in_fewest_parts(per_word, room):
    per_word = np.array(per_word)
    starts = split(per_word, room)
    parts = np.split(per_word, starts[1:])
    assert starts[0] == 0 and all(0 < part.sum() <= room for part in parts)
    fewest, used = 1, 0
    for pieces in per_word:
        fewest, used = (fewest, used + pieces) if used + pieces <= room else (fewest + 1, pieces)
    assert len(starts) == fewest


def test_long_sentence_is_split_and_scored_whole(letters):
    example = sentence("abcd abcd abcd", "NOUN VERB X")
    data = encoded(POS, [example], letters, Limits(max_length=10))
    assert data.counts == {"sentences_split": 1}
    assert data.tokens.tolist() == [10, 6] and data.num_examples == 1
    assert data.flat("example").tolist() == [0, 0]
    got = scores(POS.terms(POS_EN, data, gold_predictions(data), [example]))
    assert got == {"accuracy": 1.0, "macro_f1": 1.0, "words": 3, "examples": 1}


def test_word_longer_than_the_room_is_cut(letters):
    data = encoded(POS, [sentence("abcdefghij k", "NOUN VERB")], letters, Limits(max_length=8))
    assert data.ragged("input_ids").row(0).tolist() == [2, 4, 31, 32, 33, 34, 35, 3]
    assert data.ragged("input_ids").row(1).tolist() == [2, 14, 3]
    assert data.counts == {"sentences_split": 1, "words_cut": 1}


def test_cut_ends_inside_a_word_and_counts_the_rest(letters):
    example = sentence("abcd abcd ab c", "NOUN VERB X X")
    limits = Limits(max_length=8, long_inputs="cut")
    data = encoded(POS, [example, sentence("a", "X")], letters, limits)
    assert data.ragged("input_ids").row(0).tolist() == [2, 4, 31, 32, 33, 4, 31, 3]
    assert data.ragged("labels").row(0).tolist() == [-100, 7, -100, -100, -100, 15, -100, -100]
    assert data.counts == {"sentences_cut": 1, "words_dropped": 2}
    got = scores(POS.terms(POS_EN, data, gold_predictions(data), [example, sentence("a", "X")]))
    assert got["accuracy"] == 1.0 and got["words"] == 3


def test_empty_sentence_is_counted_and_not_scored(letters):
    examples = [sentence("a", "X"), TaggedSentence((), ())]
    data = encoded(POS, examples, letters)
    assert data.num_rows == 1 and data.counts == {"sentences_empty": 1}
    assert POS.decode(data, gold_predictions(data), examples) == [["X"], None]
    got = scores(POS.terms(POS_EN, data, gold_predictions(data), examples))
    assert got == {"accuracy": 1.0, "macro_f1": 1.0, "examples": 1}


def test_sentences_that_the_reader_left_out_are_not_missed(letters):
    # The reader of hub rows counts its empty sentences under the same name.
    examples = [sentence("a", "X")]
    counted = POS.encode(examples, letters, Limits()).columns
    data = EncodedSplit(counted, {"sentences_empty": 3})
    assert POS.terms(POS_EN, data, gold_predictions(data), examples)["accuracy"].sum() == 2


words = st.text("abcdefghijklm.", min_size=1, max_size=12) | st.sampled_from(
    ["\u200b", "über", "लोमड़ी", "狐狸", "fox's", "<x>", "\ufeff"]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.lists(st.tuples(words, st.sampled_from(POS.labels)), min_size=1, max_size=30),
        min_size=1,
        max_size=5,
    ),
    st.integers(8, 40),
)
def test_words_in_are_words_out(any_tokenizer, tagged, max_length):
    examples = [TaggedSentence(*map(tuple, zip(*pairs, strict=True))) for pairs in tagged]
    data = encoded(POS, examples, any_tokenizer, Limits(max_length=max_length))
    decoded = POS.decode(data, gold_predictions(data), examples)
    assert decoded == [list(example.tags) for example in examples]
    assert data.tokens.max() <= max_length


def test_words_are_encoded_as_in_a_running_sentence(any_tokenizer):
    text = "The quick fox springt über el perro ."
    words = text.split()
    data = encoded(POS, [TaggedSentence(tuple(words), ("X",) * len(words))], any_tokenizer)
    running = any_tokenizer(" " + text)["input_ids"]
    assert data.ragged("input_ids").row(0).tolist() == running
    assert ("token_type_ids" in data.names) == (any_tokenizer.pad_token == "[PAD]")


def test_collate_by_hand(letters):
    data = encoded(POS, [sentence("ab c", "NOUN VERB"), sentence("d", "X")], letters)
    batch = POS.collate(data, np.array([1, 0]), Padding.of(letters))
    assert batch["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 4, 31, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0] * 5] * 2
    assert batch["labels"].tolist() == [[-100, 16, -100, -100, -100], [-100, 7, -100, 15, -100]]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_loss_is_mean_of_row_means():
    # Logits (0, ln 3): p = 1/4, 3/4. Row 0 has one token of label 0, row 1 three of label 1.
    logits = torch.tensor([0.0, log(3)]).expand(2, 3, 2).to(torch.bfloat16)
    batch = {"labels": torch.tensor([[-100, 0, -100], [1, 1, 1]])}
    loss = POS.loss(SimpleNamespace(logits=logits), batch)
    assert loss.dtype == torch.float32
    # bf16 holds ln 3 to 2^-9.
    assert loss.item() == pytest.approx((log(4) + log(4 / 3)) / 2, rel=4e-3)


def test_predict_gives_one_label_per_word():
    logits = torch.zeros(2, 4, 3)
    logits[0, 1, 2] = logits[0, 3, 1] = logits[1, 2, 2] = 1
    batch = {"labels": torch.tensor([[-100, 0, -100, 0], [-100, -100, 1, -100]])}
    predictions = POS.predict(SimpleNamespace(logits=logits), batch)
    assert [p.tolist() for p in predictions] == [[2, 1], [2]]


def ner_scores(found, gold):
    return scores(NER.compare(TLP("ner", "en"), found, gold))


def test_entities_by_hand():
    # 1 of 2 found spans is one of 3 gold ones: 2 * 1 / (2 + 3).
    found = [["B-PER", "O", "B-LOC"], ["O"]]
    gold = [["B-PER", "O", "B-ORG"], ["B-LOC"]]
    assert ner_scores(found, gold)["entity_f1"] == 0.4
    assert ner_scores([["O"]], [["O"]]) == {"accuracy": 1.0, "entity_f1": 0.0, "examples": 1}


def test_an_entity_without_its_b_counts_as_one():
    # Entities of gold: PER 0-1, LOC 3-4, LOC 5, ORG 6, LOC 8; the last one of the sentence too.
    gold = ["I-PER", "I-PER", "O", "B-LOC", "I-LOC", "B-LOC", "I-ORG", "O", "I-LOC"]
    same = ["B-PER", "I-PER", "O", "I-LOC", "I-LOC", "B-LOC", "B-ORG", "O", "B-LOC"]
    assert ner_scores([same], [gold])["entity_f1"] == 1.0
    # LOC 3-5 in one; ORG 6 and LOC 8 gone: 1 of 2 is among the 5.
    other = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC", "O", "O", "O"]
    assert ner_scores([other], [gold])["entity_f1"] == pytest.approx(2 * 1 / (2 + 5))
    # A span ends with its sentence.
    assert ner_scores([["B-LOC"], ["I-LOC"]], [["B-LOC"], ["B-LOC"]])["entity_f1"] == 1.0


def test_macro_f1_by_hand():
    # ADJ: 2 * 1 / (1 + 2), ADP: 2 * 1 / (2 + 2); ADV is found only: 0 / 1. X is nowhere.
    found, gold = ["ADJ", "ADP", "ADP", "ADV"], ["ADJ", "ADJ", "ADP", "ADP"]
    got = scores(POS.compare(POS_EN, [found[:1], found[1:]], [gold[:1], gold[1:]]))
    assert got == {"accuracy": 0.5, "macro_f1": pytest.approx((2 / 3 + 2 / 4) / 3), "words": 4,
                   "examples": 2}  # fmt: skip


def test_real_words_are_all_there(real_xtreme, mbert):
    source = XtremeFolder(real_xtreme)
    for name in ("pos_ur", "ner_ta", "ner_ja"):
        tlp = TLP.parse(name)
        task, examples = TASKS[tlp.task], source.read(tlp, "test").examples
        data = encoded(task, examples, mbert)
        got = scores(task.terms(tlp, data, gold_predictions(data), examples))
        assert got["accuracy"] == 1.0 and got["examples"] == len(examples)
        assert got["words"] == sum(len(example.words) for example in examples)
        assert data.tokens.max() <= 128
