"""benchmarks/bench_evaluate.py: the plain loop is what it says, and a difference stops it."""

import importlib
from pathlib import Path

import pytest
import torch

from metatlp.engine.placement import start
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks.task import IGNORED, Padding

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_evaluate")


def test_everything_wide_is_padded(module):
    batch = {
        "input_ids": torch.tensor([[5, 6]]),
        "attention_mask": torch.tensor([[1, 1]]),
        "labels": torch.tensor([[3, IGNORED]]),
        "context_start": torch.tensor([1]),
    }
    found = module.padded(batch, 4, Padding(input_id=9, type_id=0))
    assert found["input_ids"].tolist() == [[5, 6, 9, 9]]
    assert found["attention_mask"].tolist() == [[1, 1, 0, 0]]
    assert found["labels"].tolist() == [[3, IGNORED, IGNORED, IGNORED]]
    assert found["context_start"].tolist() == [1]


def test_both_ways_answer_alike_or_nothing_is_reported(
    module, grid_dir, encoder_dir, tmp_path, monkeypatch
):
    line = "--quick --tlps pos_en,qa_en --examples 3 --max-length 32 --qa-max-length 48 "
    line += "--qa-stride 16 --qa-query-length 8 --data-dir DATA --model ENCODER --cache-dir CACHE"
    places = {"DATA": str(grid_dir), "ENCODER": str(encoder_dir), "CACHE": str(tmp_path)}
    data, arguments = module.parse_flags(
        (module.EncodingArguments, module.BenchArguments),
        module.defaults,
        "",
        [places.get(word, word) for word in line.split()],
    )
    bench = module.Bench(data, arguments, start("none", str(tmp_path)))
    for name in ("pos_en", "qa_en"):
        tlp = TLP.parse(name)
        module.check(bench, tlp)
        entry = module.measured(bench, tlp, 2)
        assert entry["examples"] == 3 and set(entry["seconds"]) == set(bench.ways())
        assert all(len(ratios) == 2 for ratios in entry["ratios"].values())
        assert entry["longest"] == (data.qa_max_length if name == "qa_en" else data.max_length)
    ours = bench.ours
    monkeypatch.setattr(
        bench, "plain", lambda tlp, autocast, small=False: ours(tlp, autocast)[::-1]
    )
    with pytest.raises(InputError, match="pos_en: . of 3 answers differ, so no times"):
        module.check(bench, TLP("pos", "en"))
