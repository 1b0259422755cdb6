"""QA: windows, alignment of answers, the best span, and scores."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatlp.data.encoded import EncodedSplit
from metatlp.data.records import Answer, Question
from metatlp.data.xtreme import XtremeFolder
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Limits, Padding
from metatlp.tasks.metrics import scores
from metatlp.tasks.qa import span_of, window_starts

QA = TASKS["qa"]
SMALL = Limits(qa_max_length=20, qa_stride=4, qa_query_length=3)


def question(text, context, answer, start=None):
    start = context.index(answer) if start is None else start
    return Question("id", text, context, (Answer(answer, start),))


def encoded(examples, tokenizer, limits=None):
    result = QA.encode(examples, tokenizer, limits or Limits())
    return EncodedSplit(result.columns, result.counts)


def gold_predictions(data):
    """The targets as spans of score 1; windows without the answer have no span."""
    starts, ends = data.flat("start_positions"), data.flat("end_positions")
    return [
        np.array([[start, end, 1.0 if start else -np.inf]], dtype=np.float32)
        for start, end in zip(starts, ends, strict=True)
    ]


def test_windows_by_hand(letters):
    # 20 pieces of context; the query is cut to 3, and 3 special tokens leave room for 14.
    context = "a b c d e f g h i j k l m n o p q r s t"
    data = encoded([question("w x y z", context, "p q")], letters, SMALL)
    assert data.num_rows == 3 and data.num_examples == 1
    first = data.ragged("input_ids").row(0).tolist()
    assert first == [2, 26, 27, 28, 3, *range(4, 18), 3]
    assert data.ragged("input_ids").row(1).tolist() == [2, 26, 27, 28, 3, *range(8, 22), 3]
    assert data.ragged("input_ids").row(2).tolist() == [2, 26, 27, 28, 3, *range(12, 24), 3]
    assert data.ragged("token_type_ids").row(0).tolist() == [0] * 5 + [1] * 15
    # `p q` are pieces 15 and 16: not in the first window, then at 5 + 11 and at 5 + 7.
    assert data.flat("start_positions").tolist() == [0, 16, 12]
    assert data.flat("end_positions").tolist() == [0, 17, 13]
    assert data.flat("context_start").tolist() == [5, 5, 5]
    assert data.flat("context_end").tolist() == [19, 19, 17]
    assert data.ragged("char_starts").row(2).tolist() == list(range(16, 40, 2))
    assert data.counts == {"windows": 3, "queries_cut": 1}
    assert QA.decode(data, gold_predictions(data), [question("w", context, "p q")]) == ["p q"]


def test_stride_is_the_distance_of_starts_not_the_overlap():
    assert window_starts(300, 300, 128) == [0]
    assert window_starts(301, 300, 128) == [0, 128]
    assert window_starts(600, 300, 128) == [0, 128, 256, 384]
    assert window_starts(30, 10, 50) == [0, 10, 20]
    assert window_starts(0, 10, 5) == [0]


@given(st.integers(0, 500), st.integers(1, 90), st.integers(1, 90))
def test_windows_cover_the_context_without_needless_ones(num_pieces, room, stride):
    starts = window_starts(num_pieces, room, stride)
    seen = {piece for start in starts for piece in range(start, min(start + room, num_pieces))}
    assert seen == set(range(num_pieces))
    assert starts == [i * min(stride, room) for i in range(len(starts))]
    assert len(starts) == 1 or starts[-2] + room < num_pieces


def test_span_of_characters():
    begins, ends = np.array([0, 4, 6, 6, 10]), np.array([3, 6, 9, 9, 12])
    assert span_of(begins, ends, 4, 9) == (1, 3)
    assert span_of(begins, ends, 5, 7) == (1, 3)  # touches two pieces, covers neither
    assert span_of(begins, ends, 3, 4) is None  # the blank between two pieces
    assert span_of(begins, ends, 11, 12) == (4, 4)


def test_what_is_counted(letters):
    data = encoded(
        [
            question("a", "ab\u200b c", "\u200b"),  # no piece
            question("a", "Xabc d", "abc"),  # X makes the word unknown: one piece, Xabc
            # 17 pieces; a window has room for 16.
            question("a", " ".join("abcdefghijklmnopqrstuvw"), " ".join("abcdefghijklmnopq")),
        ],
        letters,
        SMALL,
    )
    assert data.counts == {
        "windows": 5,
        "answers_unaligned": 1,
        "answers_wider": 1,
        "answers_in_no_window": 1,
    }
    assert data.flat("example").tolist() == [0, 1, 2, 2, 2]
    assert data.flat("start_positions").tolist() == [0, 3, 0, 0, 0]


def test_layout_is_the_tokenizers_own(any_tokenizer):
    context = "The quick brown fox jumps over the lazy dog ."
    data = encoded([question("El perro ?", context, "brown fox")], any_tokenizer)
    own = any_tokenizer("El perro ?", context)
    for name in own.keys() - {"attention_mask"}:
        assert data.ragged(name).row(0).tolist() == own[name]
    assert QA.decode(data, gold_predictions(data), [question("", context, "fox")]) == ["brown fox"]


def test_contexts_are_shared_but_windows_are_not_mixed_up(letters):
    contexts = ["a b c d", "e f g"]
    examples = [
        question("x", contexts[i % 2], answer) for i, answer in enumerate(["b", "g", "d", "e"])
    ]
    data = encoded(examples, letters)
    assert QA.decode(data, gold_predictions(data), examples) == ["b", "g", "d", "e"]


def test_collate_and_loss_by_hand(letters):
    data = encoded([question("x", "a b", "b"), question("x", "c", "c")], letters)
    batch = QA.collate(data, np.array([0, 1]), Padding.of(letters))
    assert batch["input_ids"].tolist() == [[2, 27, 3, 4, 5, 3], [2, 27, 3, 6, 3, 0]]
    assert batch["start_positions"].tolist() == [4, 3]
    # p(start) 1/2 and 1/6, p(end) 1/6 and 1/6.
    start, end = torch.zeros(2, 6), torch.zeros(2, 6)
    start[0, 4] = log(5)
    loss = QA.loss(SimpleNamespace(start_logits=start, end_logits=end), batch)
    assert loss.item() == pytest.approx(((log(2) + log(6)) / 2 + log(6)) / 2)


def best_spans(start, end, first, last, longest):
    """Every span of the context by brute force, best first."""
    spans = [
        (i, j, float(start[i] + end[j]))
        for i in range(first, last)
        for j in range(i, min(i + longest, last))
    ]
    return sorted(spans, key=lambda span: -span[2])


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 8))
def test_predict_is_the_best_of_all_spans(seed, longest, width):
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 2, 12, generator=generator)
    batch = {
        "context_start": torch.tensor([3, 4]),
        "context_end": torch.tensor([3 + width, 11]),
        "answer_length": torch.tensor([longest, longest]),
    }
    outputs = SimpleNamespace(start_logits=start, end_logits=end)
    for row, found in enumerate(QA.predict(outputs, batch)):
        first, last = int(batch["context_start"][row]), int(batch["context_end"][row])
        found = [tuple(span) for span in found if span[2] > -np.inf]
        assert found == best_spans(start[row], end[row], first, last, longest)[:20]


def test_predict_of_a_diverged_model():
    nan = torch.full((1, 6), torch.nan)
    batch = {name: torch.tensor([n]) for name, n in
             (("context_start", 2), ("context_end", 5), ("answer_length", 3))}  # fmt: skip
    (spans,) = QA.predict(SimpleNamespace(start_logits=nan, end_logits=nan), batch)
    assert (spans[:, 2] == -np.inf).all()


def test_decode_compares_raw_scores_over_windows(letters):
    context = "a b c d e f g h i j k l m n o p q r s t"
    example = question("w x y", context, "p q")
    data = encoded([example], letters, SMALL)
    spans = [[[5, 6, 2.0]], [[5, 5, 3.0]], [[5, 5, 1.0]]]
    predictions = [np.array(window, dtype=np.float32) for window in spans]
    assert QA.decode(data, predictions, [example]) == ["e"]
    nothing = [np.array([[0, 0, -np.inf]], dtype=np.float32)] * 3
    assert QA.decode(data, nothing, [example]) == [""]
    assert scores(QA.terms(TLP("qa", "en"), data, nothing, [example]))["f1"] == 0.0


def test_score_by_hand(letters):
    examples = [
        Question("1", "x", "a b c d", (Answer("b c d", 2), Answer("c", 4))),
        question("x", "e f", "e f"),
    ]
    data = encoded(examples, letters)
    predictions = [np.array([[at, at + 1, 1.0]], dtype=np.float32) for at in (5, 3)]
    # Found `c d`: F1 with `b c d` is 2 * 2 / 5, with `c` 2 * 1 / 3; the larger is 0.8.
    assert QA.decode(data, predictions, examples) == ["c d", "e f"]
    got = scores(QA.terms(TLP("qa", "fi"), data, predictions, examples))
    assert got == {"f1": 0.9, "em": 0.5, "squad_f1": 0.9, "squad_em": 0.5, "examples": 2}


@pytest.mark.parametrize("name", ["qa_en", "qa_hi", "qa_es", "qa_de", "qa_zh"])
def test_real_gold_spans_give_the_answers(name, real_xtreme, mbert):
    tlp = TLP.parse(name)
    examples = XtremeFolder(real_xtreme).read(tlp, "train").examples
    data = encoded(examples, mbert)
    assert data.tokens.max() <= 384
    decoded = QA.decode(data, gold_predictions(data), examples)
    differ = sum(
        text != example.answers[0].text.strip()
        for text, example in zip(decoded, examples, strict=True)
    )
    # What is not given back letter by letter is what was counted: pieces wider than the answer
    # (`1940` in `1940s`), answers longer than a window, characters without a piece.
    reasons = ("answers_wider", "answers_unaligned", "answers_in_no_window")
    assert differ == sum(data.counts.get(reason, 0) for reason in reasons)
    assert differ / len(examples) < 0.03
