"""Which batch each update of ordinary training takes: nothing twice, nothing left out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.encoded import EncodedSplit, Ragged
from metatlp.data.gathered import Concatenation, few_shots, gathered
from metatlp.data.schedule import Member, PartLoader, Schedule, drawn_plan, shuffled_plan
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.sampling import build_sampler
from metatlp.tasks import Padding

EN, HI = TLP("nli", "en"), TLP("nli", "hi")
PADDING = Padding(0, 0)


def split_of(first_ids, example=None) -> EncodedSplit:
    """One row per id: the id itself, repeated 1, 2, 3, 1, 2, 3, ... times."""
    lengths = np.array([1 + i % 3 for i in range(len(first_ids))])
    ids = Ragged.from_lengths(np.repeat(np.array(first_ids, dtype=np.int32), lengths), lengths)
    columns = {
        "input_ids": ids,
        "labels": np.array([i % 3 for i in first_ids], dtype=np.int16),
        "example": np.arange(len(first_ids)) if example is None else np.array(example),
    }
    return EncodedSplit(columns, {}, fingerprint="f")


def test_rows_of_several_splits_are_numbered_one_behind_the_other():
    both = Concatenation({EN: split_of([10, 11, 12, 13]), HI: split_of([20, 21])})
    assert both.tokens.tolist() == [1, 2, 3, 1, 1, 2] and both.num_rows == 6
    taken = both.take(np.array([5, 1, 4, 2]))
    ids = taken.ragged("input_ids")
    assert [ids.row(i).tolist() for i in range(4)] == [[11] * 2, [12] * 3, [21] * 2, [20]]
    assert taken.flat("labels").tolist() == [11 % 3, 12 % 3, 21 % 3, 20 % 3]


def test_gathered_rows_are_copies_in_the_order_asked_for():
    split = split_of([7, 8, 9])
    found = gathered([(split, np.array([2, 0]))])
    assert found.ragged("input_ids").values.tolist() == [9, 9, 9, 7]
    assert found.flat("example").tolist() == [2, 0]


def test_few_shots_are_whole_examples_and_nested():
    split = split_of([1, 2, 3, 4, 5, 6, 7], example=[0, 0, 1, 2, 2, 2, 3])
    chosen = []
    for n in range(1, 5):
        few = few_shots(split, EN, n, seed=3)
        assert few.num_examples == n
        rows = few.ragged("input_ids")
        ids = {int(rows.row(i)[0]) for i in range(few.num_rows)}
        whole = [{1, 2}, {3}, {4, 5, 6}, {7}]
        assert ids == set().union(*(w for w in whole if w & ids))
        chosen.append(ids)
    assert all(a < b for a, b in zip(chosen, chosen[1:], strict=False))
    assert len({few_shots(split, EN, 2, s).flat("labels").tobytes() for s in range(20)}) > 1
    prints = {few_shots(split, EN, n, s).fingerprint for n in (1, 2) for s in (0, 1)}
    assert len(prints) == 4
    with pytest.raises(InputError, match="--shots 5: nli_en has 4 training examples"):
        few_shots(split, EN, 5, seed=3)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 60),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_each_epoch_has_every_batch_once(batches, num_updates, seed):
    plan = shuffled_plan(batches, num_updates, seed)
    assert plan.shape == (num_updates, 2)
    total = sum(batches)
    for begin in range(0, num_updates - total + 1, total):
        epoch = begin // total
        expected = {(m, epoch * n + j) for m, n in enumerate(batches) for j in range(n)}
        assert set(map(tuple, plan[begin : begin + total].tolist())) == expected
    # What a longer schedule does first, a shorter one does too.
    assert (shuffled_plan(batches, num_updates + 7, seed)[:num_updates] == plan).all()


def test_epochs_are_shuffled_anew():
    plan = shuffled_plan([40], 80, seed=1)
    first, second = plan[:40, 1], plan[40:, 1] - 40
    assert sorted(first) == sorted(second) == list(range(40))
    assert (first != second).any() and (first != np.arange(40)).any()


def test_drawn_members_give_their_batches_in_order_and_by_their_shares():
    sampler = build_sampler("temp", [900, 100], seed=5, tau=1.0)
    plan = drawn_plan(sampler, 2, 2000)
    for member in (0, 1):
        own = plan[plan[:, 0] == member, 1]
        assert own.tolist() == list(range(len(own)))
    # 200 expected of the second; the standard deviation is 13.4.
    assert abs((plan[:, 0] == 1).sum() - 200) < 55


def members(seed=0):
    splits = {EN: split_of(list(range(100, 123))), HI: split_of(list(range(200, 211)))}
    return [Member.of(splits, 4, seed), Member.of({HI: splits[HI]}, 3, seed)]


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5])
def test_the_parts_of_all_ranks_are_the_batch(num_parts):
    both = members()
    assert [member.name for member in both] == ["nli_en+hi", "nli_hi"]
    schedule = Schedule(both, shuffled_plan([9, 4], 20, seed=2))
    loaders = [PartLoader(schedule, PADDING, num_parts, [part]) for part in range(num_parts)]
    seen: Counter[int] = Counter()
    for update in range(len(schedule)):
        parts = [part for loader in loaders for part in loader.take(update)]
        assert [part.index for part in parts] == list(range(num_parts))
        # Where there are fewer rows than parts, the rest counts for nothing, but is there.
        assert all(part.rows > 0 or len(part.tensors["input_ids"]) == 1 for part in parts)
        parts = [part for part in parts if part.weight]
        assert sum(part.weight for part in parts) == pytest.approx(1, abs=1e-15)
        found = sorted(int(i) for part in parts for i in part.tensors["input_ids"][:, 0])
        member, rows = schedule.member(update), schedule.rows(update)
        assert found == sorted(member.rows.take(rows).ragged("input_ids").row(i)[0]
                               for i in range(len(rows)))  # fmt: skip
        seen.update(found if member is both[0] else [])
    if num_parts == 1:
        assert max(seen.values()) - min(seen.values()) <= 2 and len(seen) == 34
    for loader in loaders:
        loader.close()


def test_a_part_does_not_depend_on_what_was_asked_for_before():
    schedule = Schedule(members(), shuffled_plan([9, 4], 20, seed=2))
    with PartLoader(schedule, PADDING, 2, [1]) as one, PartLoader(schedule, PADDING, 2, [1]) as two:
        one.take(3), one.take(4)
        for update in (7, 5, 19):
            a, b = one.take(update), two.take(update)
            assert [p.index for p in a] == [p.index for p in b]
            for p, q in zip(a, b, strict=True):
                assert p.weight == q.weight
                assert all((p.tensors[k] == q.tensors[k]).all() for k in p.tensors)
