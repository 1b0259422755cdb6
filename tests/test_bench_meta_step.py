"""What benchmarks/bench_meta_step.py measures if no flag says otherwise."""

import importlib
from pathlib import Path

import pytest

from metatlp.engine.command_line import parse_flags
from metatlp.engine.data_args import DataArguments
from metatlp.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parse(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    bench = importlib.import_module("bench_meta_step")
    types = (DataArguments, bench.BenchArguments)
    return lambda *argv: parse_flags(types, bench.defaults, "", argv)


def test_without_flags_it_is_the_demo_with_the_lengths_of_a_run_on_it(parse):
    data, bench = parse()
    assert data.source == "demo" and bench.model is None
    assert (data.batch_size, data.max_length, data.qa_max_length) == ("16", 64, 160)
    assert len(data.selection.split(",")) == 8 and (bench.k, bench.repeats) == (3, 7)


def test_real_data_has_the_lengths_of_the_paper_and_needs_an_encoder(parse):
    data, bench = parse("--data-dir", "x", "--model", "y")
    assert (data.source, data.batch_size, data.max_length) == ("folder", None, 128)
    assert (data.max_examples, data.train_languages) == (2000, "all")
    with pytest.raises(InputError, match="--model: name an encoder"):
        parse("--data-dir", "x")


def test_quick_gives_way_to_flags(parse):
    data, bench = parse("--quick", "--k", "5")
    assert (data.selection, bench.k, bench.repeats) == ("pos_en,ner_en", 5, 2)
