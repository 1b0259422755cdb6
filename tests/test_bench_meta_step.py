"""What benchmarks/bench_meta_step.py measures if no flag says otherwise."""

import importlib
from pathlib import Path

import pytest

from metatlp import kernels
from metatlp.engine import averaging, gradients, rewards
from metatlp.engine.arguments.command_line import parse_flags
from metatlp.engine.arguments.data import DataArguments
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


def test_every_kernel_of_the_strategy_is_timed(parse):
    share = importlib.import_module("meta_step.kernel_share")
    assert set(share.KERNELS) == set(kernels.__all__) & set(vars(averaging))
    used = {**vars(rewards), **vars(gradients)}
    assert set(share.REWARD_KERNELS) == set(kernels.__all__) & set(used)


def test_shares_of_the_kernels_by_hand(parse):
    report = importlib.import_module("meta_step.report")
    parts = {
        "leave: accumulate_delta_": (0.3, 0.0),
        "apply_delta_": (0.1, 0.0),
        "whole step": (2.0, 1.0),
        "accumulate_delta_, theta": (0.1, 0.0),
        "accumulate_delta_, first moment": (0.2, 0.0),
        "write_delta_, theta": (0.1, 0.0),
        "apply_delta_, theta": (0.1, 0.0),
    }
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in report.kernels_table({"fp32, average": parts})[2:]
    ]
    assert [row[1:] for row in rows] == [
        ["accumulate_delta_, theta", "100.0", "5.00%"],
        ["accumulate_delta_, first moment", "200.0", "10.00%"],
        ["accumulate_delta_, in all", "300.0", "15.00%"],
        ["write_delta_, theta", "100.0", "5.00%"],
        ["write_delta_, in all", "100.0", "5.00%"],
        ["apply_delta_, theta", "100.0", "5.00%"],
        ["apply_delta_, in all", "100.0", "5.00%"],
    ]
    # They are within parts that the other table has already.
    assert len(report.breakdown_table(parts)) == 2 + 3
    reward = {"d passes": 1.0, "gram": 0.5, "whole reward update": 2.0}
    assert "25.00%" in report.reward_table(reward)[3]
