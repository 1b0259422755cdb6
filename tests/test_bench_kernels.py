"""benchmarks/bench_kernels.py: bytes by hand, what is refused, and a tiny run."""

import dataclasses
import importlib
import json
import math
from pathlib import Path

import pytest
import torch

from metatlp import kernels
from metatlp.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FP32, BF16, INT64 = torch.float32, torch.bfloat16, torch.int64


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def bench():
    return importlib.import_module("bench_kernels")


@pytest.fixture
def part():
    return lambda name: importlib.import_module(f"kernel_ops.{name}")


def test_parameters_of_the_models(part):
    models = part("models")
    mbert, xlmr = (models.model_shapes(name) for name in models.NAMES)
    assert sum(shape.numel() for shape in mbert) == 177_853_440
    assert sum(shape.numel() for shape in xlmr) == 559_890_432
    assert mbert[0] == (119547, 768) and xlmr[0] == (250002, 1024)


def test_a_made_up_list_has_the_size_asked_for(part):
    models = part("models")
    assert [sum(s.numel() for s in models.synthetic_shapes(n)) for n in (1, 7, 100_003)] == [
        1,
        7,
        100_003,
    ]
    flat = torch.arange(7)
    parts = models.split(flat, [torch.Size([2, 2]), torch.Size([3])])
    assert parts[0].tolist() == [[0, 1], [2, 3]] and parts[1].tolist() == [4, 5, 6]


def test_bytes_by_hand(bench):
    fp32 = {case.name: case.bytes_per_element() for case in bench.build_cases(bench.OPS, FP32)}
    assert fp32 == {
        "accumulate_delta_, fp32 total": 4 + 4 + 4 + 4 + 4,
        "accumulate_delta_, int64 total": 4 + 4 + 8 + 8 + 4,
        "write_delta_, fp32 buffer": 4 + 4 + 4 + 4,
        "write_delta_, bf16 buffer": 4 + 4 + 2 + 4,
        "write_delta_, int64 buffer": 4 + 4 + 8 + 4,
        "apply_delta_, plain": 4 + 4 + 4 + 4 + 4,
        "apply_delta_, momentum": 4 + 4 + 4 + 4 + 4 + 4 + 4,
        "apply_delta_, int64": 4 + 8 + 4 + 4 + 8,
        "apply_delta_, bf16 working copy": 4 + 4 + 4 + 4 + 4 + 2,
        "cosine_terms, pair": 4 + 4,
        "cosine_terms, 8 rows": 8 * 4 + 4,
        "gram, 8 rows": 8 * 4,
        "adamw, clip and step": 4 * 4 + 3 * 4,
    }
    bf16 = {case.name: case.bytes_per_element() for case in bench.build_cases(bench.OPS, BF16)}
    assert bf16["accumulate_delta_, fp32 total"] == 2 + 4 + 4 + 4 + 2
    assert bf16["apply_delta_, plain"] == 4 + 4 + 4 + 2 + 4
    assert bf16["cosine_terms, 8 rows"] == 8 * 2 + 2


def test_which_bytes_is_said(part):
    case = part("delta").delta_case("accumulate_delta_", INT64, BF16)
    assert case.traffic() == "reads live 2 start 4 total 8, writes total 8 live 2"


def test_share_of_the_copy_and_speed_up_by_hand(part):
    report = part("report")
    seconds = {"ours": [1.0, 2.0], "eager": [2.0, 6.0], "copy_": [0.5, 1.5]}
    found = report.summary(3_000_000_000, seconds)
    assert found["gb_per_s"] == 2 and found["speed_up"]["eager"][1] == 2.5
    # The copy moves a third of the bytes in (1/2 + 3/4) / 2 of the time.
    entry = {**found, "num_bytes": 3_000_000_000, "copied_bytes": 1_000_000_000}
    assert report.of_copy(entry) == 0.625 * 3


def test_vectors_repeat_the_block(part, monkeypatch):
    check = part("check")
    monkeypatch.setattr(check, "BLOCK", 5)
    case = part("reductions").cosine_case(2, FP32)
    block = check.build_block(case, 13, torch.device("cpu"))
    vectors = check.build_vectors(case, 13, torch.device("cpu"))
    check.fill(vectors, block)
    assert vectors["b"].tolist() == (block["b"].tolist() * 3)[:13]
    both = torch.cat([vectors["rows"], vectors["b"][None]]).double()
    torch.testing.assert_close(check.products(vectors["rows"], vectors["b"], block), both @ both.T)


def broken_accumulate(total, live, start, weight, exponent=None):
    kernels.accumulate_delta_(total, live, start, weight, exponent)
    total[-1] += 1


def broken_apply(start, live, total, *rest, **more):
    kernels.apply_delta_(start, live, total, *rest, **more)
    live[len(live) // 2] = math.nan


def broken_gram(rows):
    return kernels.gram(rows) * (1 + 1e-4)


@pytest.mark.parametrize(
    "op, broken",
    [
        ("accumulate_delta_", broken_accumulate),
        ("apply_delta_", broken_apply),
        ("gram", broken_gram),
    ],
)
def test_nothing_is_timed_if_an_operation_is_off(bench, part, monkeypatch, capsys, op, broken):
    modules = {"accumulate_delta_": "delta", "apply_delta_": "apply", "gram": "reductions"}
    stand_in = type("Kernels", (), {**vars(kernels), op: staticmethod(broken)})
    monkeypatch.setattr(part(modules[op]), "kernels", stand_in)
    assert bench.main(["--quick", "--ops", op, "--dtypes", "fp32"]) == 1
    out = capsys.readouterr().out
    assert f"WRONG: {op}" in out and out.splitlines()[-1] == "nothing is timed"


def test_a_size_that_does_not_fit_is_said_in_the_table(bench, part, monkeypatch):
    case = part("delta").delta_case("accumulate_delta_", FP32, FP32)
    shapes = [torch.Size([2**30])]
    ways = ["ours", "eager", "published"]
    fit = bench.fit("m", shapes, case, ways, 22 * 2**30)
    # 12 bytes per element held, 8 more for eager and 16 for the loop, 2.2 GiB for the copy.
    assert fit.ways == ["ours"] and set(fit.left_out) == {"eager", "published"}
    none = bench.fit("m", shapes, case, ways, 11 * 2**30)
    assert none.ways == []
    entry = bench.measure(none, None, torch.device("cpu"))
    (_, table), *_ = part("report").sections({"measured": [entry]})
    assert "left out: needs 13.1 GiB, 11.0 are free" in table[2]


def test_flags(bench):
    arguments = bench.KernelArguments()
    assert (arguments.models, arguments.dtypes) == ("mbert,xlmr-large", "fp32,bf16")
    for flag in ("models", "dtypes", "ops"):
        with pytest.raises(InputError, match=f"--{flag}: 'x' is none of"):
            dataclasses.replace(arguments, **{flag: "x"})


def test_a_tiny_run_writes_its_files(bench, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "kernels.md"
    flags = ["--quick", "--parameters", "2001", "--output", str(file)]
    assert bench.main(flags) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert json.loads(first[first.index("{") :])["torch"] == torch.__version__
    if not torch.cuda.is_available():
        assert first.startswith("no GPU, so the path on CPU")
    assert second == "correct: all agree with float64"
    results = json.loads(file.with_suffix(".json").read_text())
    assert {entry["op"] for entry in results["measured"]} == set(bench.OPS)
    assert all(len(s) == 2 for e in results["measured"] for s in e["seconds"].values())
    assert "## made-up list, P = 2,001, bf16" in file.read_text()
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
