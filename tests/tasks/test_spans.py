"""Decoding of answers: the n best spans over all windows, against brute force and run_squad."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.encoded import EncodedSplit, Ragged
from metatlp.data.records import Answer, Question
from metatlp.tasks import TASKS, Limits, Padding

QA = TASKS["qa"]
LONGEST = 4
# 14 pieces of context in a window of which the next one begins 4 further.
SMALL = Limits(qa_max_length=20, qa_stride=4, qa_query_length=3, qa_answer_length=LONGEST)


def question(context):
    return Question("id", "x y z", context, (Answer(context[:1], 0),))


def encoded(examples, tokenizer, limits=SMALL):
    result = QA.encode(examples, tokenizer, limits)
    return EncodedSplit(result.columns, result.counts)


def predicted(data, tokenizer, seed):
    """Random logits of all windows and what QA.predict keeps of them."""
    batch = QA.collate(data, np.arange(data.num_rows), Padding.of(tokenizer))
    shape = (2, *batch["input_ids"].shape)
    start, end = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return start, end, QA.predict(SimpleNamespace(start_logits=start, end_logits=end), batch)


def by_hand(*windows):
    """A split of one question with a window per list of (first character, last) of its pieces."""
    lengths = np.array([len(window) for window in windows])
    chars = np.array([piece for window in windows for piece in window], dtype=np.int32)
    columns = {
        "input_ids": Ragged.from_lengths(np.zeros(lengths.sum(), np.int32), lengths),
        "char_starts": Ragged.from_lengths(chars[:, 0], lengths),
        "char_ends": Ragged.from_lengths(chars[:, 1], lengths),
        "context_start": np.full(len(windows), 2, np.int32),
        "example": np.zeros(len(windows), np.int32),
    }
    return EncodedSplit(columns, {})


def test_nbest_by_hand():
    # `ab  cd`: pieces `ab`, ` ` and ` cd`; the second window begins with the blank one.
    context, data = "ab  cd", by_hand([(0, 2), (2, 3), (3, 6)], [(2, 3), (3, 6)])
    first = np.array([[3, 3, 9.0], [3, 4, 4.0], [2, 3, 4.0], [2, 4, -np.inf]], dtype=np.float32)
    second = np.array([[3, 3, 5.0], [2, 2, 4.5]], dtype=np.float32)
    # The blank is no answer although it is best; `cd` is found three times; `ab` came later.
    found = QA.nbest(data, [first, second], [question(context)], 20)
    assert found == [[("cd", 4, 6, 5.0), ("ab", 0, 2, 4.0)]]
    assert QA.nbest(data, [first, second], [question(context)], 1) == [[("cd", 4, 6, 5.0)]]
    assert QA.decode(data, [first, second], [question(context)]) == ["cd"]


def test_of_equal_scores_the_earlier_window_is_first():
    data = by_hand([(0, 1), (2, 3)], [(2, 3), (4, 5)])
    spans = [np.array([[at, at, 1.0]], dtype=np.float32) for at in (2, 3)]
    (found,) = QA.nbest(data, spans, [question("a b c")], 2)
    assert [span.text for span in found] == ["a", "c"]


def test_nothing_but_blanks_and_nothing_at_all():
    data = by_hand([(0, 1), (1, 2)])
    blank = [np.array([[2, 3, 1.0]], dtype=np.float32)]
    none = [np.array([[2, 3, -np.inf], [2, 2, np.nan]], dtype=np.float32)]
    for predictions in (blank, none):
        assert QA.nbest(data, predictions, [question("  ")], 5) == [[]]
        assert QA.decode(data, predictions, [question("  ")]) == [""]


def all_spans(data, start, end):
    """(first character, last) -> the largest score of any span of at most LONGEST pieces."""
    best = {}
    for row in range(data.num_rows):
        at, stop = data.flat("context_start")[row], data.flat("context_end")[row]
        begins, ends = data.ragged("char_starts").row(row), data.ragged("char_ends").row(row)
        for i in range(at, stop):
            for j in range(i, min(i + LONGEST, stop)):
                chars = int(begins[i - at]), int(ends[j - at])
                best[chars] = max(best.get(chars, -np.inf), float(start[row, i] + end[row, j]))
    return sorted(((score, chars) for chars, score in best.items()), reverse=True)


def run_squad(data, start, end, keep=20):
    """The best score that BERT's script finds among the best starts and ends of each window."""
    found = -np.inf
    for row in range(data.num_rows):
        at, stop = data.flat("context_start")[row], data.flat("context_end")[row]
        for i in start[row].argsort(descending=True)[:keep].tolist():
            for j in end[row].argsort(descending=True)[:keep].tolist():
                if at <= i <= j < stop and j - i < LONGEST:
                    found = max(found, float(start[row, i] + end[row, j]))
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), n=st.integers(1, 20))
def test_nbest_is_the_best_of_all_spans_of_all_windows(letters, seed, size, n):
    context = " ".join("abcdefghijklmnopqrstuvwxyzabcd"[:size])
    examples = [question(context)]
    data = encoded(examples, letters)
    start, end, predictions = predicted(data, letters, seed)
    (found,) = QA.nbest(data, predictions, examples, n)
    expected = all_spans(data, start, end)[:n]
    assert [(span.score, (span.start, span.end)) for span in found] == expected
    assert found[0].score >= run_squad(data, start, end)
    assert found[0].score >= run_squad(data, start, end, keep=3)


@pytest.mark.parametrize("seed", range(5))
def test_texts_are_cut_from_the_context(any_tokenizer, seed):
    examples = [
        question("Der schnelle  braune Fuchs ,\n springt über den faulen Hund . " * 2),
        question(" 敏捷的棕色狐狸\u3000跳过了懒狗。"),
        question("तेज भूरी लोमड़ी\u00a0आलसी कुत्ते"),
        question("x"),
    ]
    data = encoded(examples, any_tokenizer)
    predictions = predicted(data, any_tokenizer, seed)[2]
    found = QA.nbest(data, predictions, examples, 20)
    for spans, example in zip(found, examples, strict=True):
        assert spans and all(span.text == example.context[span.start : span.end] for span in spans)
        assert all(span.text.strip() == span.text != "" for span in spans)
        assert len({(span.start, span.end) for span in spans}) == len(spans)
        assert [s.score for s in spans] == sorted((s.score for s in spans), reverse=True)
    assert QA.decode(data, predictions, examples) == [spans[0].text for spans in found]
    for fewer in (1, 3):
        shorter = QA.nbest(data, predictions, examples, fewer)
        assert shorter == [spans[:fewer] for spans in found]


def test_no_answer_is_longer_than_its_limit(letters):
    examples = [question("a b c d e f g h i j k l")]
    data = encoded(examples, letters)
    batch = QA.collate(data, np.arange(1), Padding.of(letters))
    start, end = torch.zeros(2, 1, batch["input_ids"].shape[1])
    # The start of `b` and the end of `k` are by far the likeliest, and ten pieces apart.
    at = int(batch["context_start"])
    start[0, at + 1], end[0, at + 10], end[0, at + 3] = 9.0, 9.0, 1.0
    found = QA.predict(SimpleNamespace(start_logits=start, end_logits=end), batch)
    assert QA.decode(data, found, examples) == ["b c d"]
