"""Batch streams and the loader: every row once per epoch, whoever asks in whatever order."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.encoded import EncodedSplit, Ragged, join
from metatlp.data.prefetch import EpisodeLoader
from metatlp.data.streams import BatchStream
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Padding

NLI_EN, NLI_DE = TLP("nli", "en"), TLP("nli", "de")
PADDING = Padding(input_id=9, type_id=0)


def split_of(lengths):
    """A split of pairs whose row i has lengths[i] tokens, all of them i % 7."""
    lengths = np.asarray(lengths, dtype=np.int64)
    rows = np.arange(len(lengths))
    columns = {
        "input_ids": Ragged.from_lengths(np.repeat(rows % 7, lengths).astype(np.int32), lengths),
        "labels": (rows % 3).astype(np.int16),
        "example": rows.astype(np.int32),
    }
    return EncodedSplit(columns, {})


def stream_of(lengths, batch_size=4, seed=0, tlp=NLI_EN, order="epochs"):
    return BatchStream(split_of(lengths), tlp, batch_size, seed, order)


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=300)


@given(lengths, st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 5))
def test_every_row_once_per_epoch(lengths, batch_size, seed, epoch):
    stream = stream_of(lengths, batch_size, seed)
    num_batches = stream.batches_per_epoch
    assert num_batches == -(-len(lengths) // batch_size)
    batches = [stream.rows(epoch * num_batches + i) for i in range(num_batches)]
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert all(size == batch_size for size in sizes[1:]) and 1 <= sizes[0] <= batch_size


@settings(max_examples=40)
@given(
    lengths,
    st.integers(1, 9),
    st.lists(st.integers(0, 400), min_size=1, max_size=12),
    st.sampled_from(["epochs", "reshuffle"]),
)
def test_a_batch_does_not_depend_on_what_was_asked_before(lengths, batch_size, asked, order):
    stream = stream_of(lengths, batch_size, order=order)
    seen = {i: stream.rows(i).tolist() for i in asked}
    for i in reversed(asked):
        assert stream_of(lengths, batch_size, order=order).rows(i).tolist() == seen[i]
        assert stream.rows(i).tolist() == seen[i]


@given(lengths, st.integers(1, 9), st.integers(0, 30), st.integers(1, 4))
def test_episodes_follow_each_other(lengths, batch_size, index, k):
    stream = stream_of(lengths, batch_size)
    got = [rows.tolist() for rows in stream.episode(index, k)]
    assert got == [stream.rows(index * k + j).tolist() for j in range(k)]


@settings(max_examples=40)
@given(lengths, st.integers(1, 9), st.integers(0, 300))
def test_reshuffle_gives_full_batches_of_different_rows(lengths, batch_size, later):
    stream = stream_of(lengths, batch_size, order="reshuffle")
    first_pass = [stream.rows(i) for i in range(stream.batches_per_epoch)]
    assert sorted(np.concatenate(first_pass)) == list(range(len(lengths)))
    rows = stream.rows(stream.batches_per_epoch + later)
    assert len(set(rows)) == len(rows) == min(batch_size, len(lengths))


def test_reshuffle_does_not_finish_a_second_epoch():
    stream = stream_of(np.full(1000, 5), 10, order="reshuffle")
    rows = np.concatenate([stream.rows(i) for i in range(100, 200)])
    # 100 draws of 10 out of 1000 leave out (1 - 0.01)^100 = 0.37 of the rows; 5 deviations is 0.05.
    assert abs(len(set(rows)) - 634) < 50
    # Rows of a large split are drawn without a shuffle of all of them.
    large = stream_of(np.full(50_000, 5), 8, order="reshuffle")
    drawn = np.concatenate([large.rows(6250 + i) for i in range(200)])
    assert abs(drawn.mean() / 25_000 - 1) < 5 * 0.577 / 40


def test_pinned_values():
    """The order is part of the format: a resumed run must go on as it began."""
    stream = stream_of([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], batch_size=4, seed=7)
    assert [stream.rows(i).tolist() for i in (0, 1, 2, 3)] == [
        [0, 2, 8, 4], [7, 5], [1, 3, 6, 9], [0, 2, 8, 4]
    ]  # fmt: skip
    again = BatchStream(stream.split, NLI_EN, 4, 7, "reshuffle")
    assert [again.rows(i).tolist() for i in (3, 4)] == [[0, 2, 4, 8], [9, 2, 8, 4]]


def test_seed_tlp_and_epoch_change_the_order():
    one = stream_of(np.full(100, 5))
    first = one.rows(0).tolist()
    assert first != one.rows(25).tolist()
    assert first != stream_of(np.full(100, 5), seed=1).rows(0).tolist()
    assert first != stream_of(np.full(100, 5), tlp=NLI_DE).rows(0).tolist()


def test_order_does_not_depend_on_the_hash_seed():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from metatlp.data.encoded import EncodedSplit, Ragged\n"
        "from metatlp.data.streams import BatchStream\n"
        "from metatlp.grid import TLP\n"
        "import numpy as np\n"
        "n = np.arange(50)\n"
        "split = EncodedSplit({'input_ids': Ragged.from_lengths(np.zeros(50), n * 0 + 1),"
        " 'example': n}, {})\n"
        "print(BatchStream(split, TLP('nli', 'en'), 8, 3).rows(9).tolist())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{stream_of(np.ones(50), 8, 3).rows(9).tolist()}\n"}


def test_one_row_and_fewer_rows_than_a_batch():
    assert [stream_of([5]).rows(i).tolist() for i in range(3)] == [[0]] * 3
    stream = stream_of([5, 6], batch_size=32, order="reshuffle")
    assert [sorted(stream.rows(i)) for i in range(3)] == [[0, 1]] * 3
    assert stream.expected_tokens == 12


def test_batches_are_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 100, 4000)
    stream = stream_of(lengths, 16)
    assert lengths.sum() / (stream.expected_tokens * stream.batches_per_epoch) > 0.97
    assert stream.expected_tokens == stream_of(lengths, 16).expected_tokens


def test_wrong_settings():
    with pytest.raises(InputError, match="'random': choose from epochs, reshuffle"):
        stream_of([1], order="random")
    with pytest.raises(InputError, match="batch size of nli_en: at least 1, not 0"):
        stream_of([1], batch_size=0)


def test_ragged_by_hand():
    one = Ragged.from_lengths(np.array([1, 2, 3]), np.array([2, 0, 1]))
    two = Ragged.from_lengths(np.array([7, 8]), np.array([0, 1, 1]))
    assert [one.row(i).tolist() for i in range(3)] == [[1, 2], [], [3]]
    joined = join([one, Ragged.repeated([0], 3), two])
    assert [joined.row(i).tolist() for i in range(3)] == [[1, 2, 0], [0, 7], [3, 0, 8]]
    assert joined.take(np.array([2, 0])).values.tolist() == [3, 0, 8, 1, 2, 0]
    assert joined.heads(np.array([1, 0, 2])).values.tolist() == [1, 3, 0]
    assert joined.pad(np.array([1, 2]), -1).tolist() == [[0, 7, -1], [3, 0, 8]]


@pytest.fixture
def loader():
    streams = {tlp: stream_of(range(1, 60), tlp=tlp) for tlp in (NLI_EN, NLI_DE)}
    with EpisodeLoader(streams, PADDING, k=3) as loader:
        yield loader


def expected(tlp, episode):
    stream = stream_of(range(1, 60), tlp=tlp)
    collate = TASKS["nli"].collate
    return [collate(stream.split, rows, PADDING) for rows in stream.episode(episode, 3)]


def same(batches, others):
    """Batches in one part each, and the tensors of such batches."""
    assert all((part.index, part.weight) == (0, 1.0) for (part,) in batches)
    tensors = [part.tensors for (part,) in batches]
    return len(tensors) == len(others) == 3 and all(
        one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
        for one, other in zip(tensors, others, strict=True)
    )


def test_loader_gives_the_episode_scheduled_or_not(loader):
    for episode in (4, 4, 0, 9):
        loader.schedule(NLI_EN, episode)
    loader.schedule(NLI_DE, 4)
    for tlp, episode in ((NLI_EN, 9), (NLI_DE, 4), (NLI_EN, 4), (NLI_EN, 4), (NLI_DE, 77)):
        assert same(loader.take(tlp, episode), expected(tlp, episode))


def test_loader_builds_in_the_background():
    threads = []

    class Watched(BatchStream):
        def episode(self, index, k):
            threads.append(threading.current_thread())
            return super().episode(index, k)

    with EpisodeLoader({NLI_EN: Watched(split_of([1, 2]), NLI_EN, 1, 0)}, PADDING, 2) as loader:
        loader.schedule(NLI_EN, 0)
        loader.schedule(NLI_EN, 0)
        loader.take(NLI_EN, 0)
        loader.take(NLI_EN, 1)
    assert len(threads) == 2
    assert threads[0] is not threading.main_thread() and threads[1] is threading.main_thread()
    assert not threads[0].is_alive()


def test_loader_raises_what_the_builder_raised():
    class Broken(BatchStream):
        def rows(self, batch_index):
            raise RuntimeError("no rows today")

    streams = {NLI_EN: Broken(split_of([1, 2]), NLI_EN, 1, 0), NLI_DE: stream_of([1], tlp=NLI_DE)}
    with EpisodeLoader(streams, PADDING, 2) as loader:
        loader.schedule(NLI_EN, 0)
        with pytest.raises(RuntimeError, match="no rows today"):
            loader.take(NLI_EN, 0)
        assert len(loader.take(NLI_DE, 0)) == 2


def test_loader_forgets_what_nobody_takes(loader):
    for episode in range(3 * 64):
        loader.schedule(NLI_EN, episode)
    assert same(loader.take(NLI_EN, 0), expected(NLI_EN, 0))
    assert same(loader.take(NLI_EN, 3 * 64 - 1), expected(NLI_EN, 3 * 64 - 1))


def test_loader_can_be_closed_while_busy(loader):
    for episode in range(50):
        loader.schedule(NLI_EN, episode)
    loader.close()
    loader.close()
