"""What the reports make of a run: affinities of TLPs, and what a sampler learned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from metatlp.errors import InputError
from metatlp.report import __main__ as report
from metatlp.report import affinity, sampler
from metatlp.report.affinity import Affinity
from metatlp.report.curves import read_curves
from metatlp.report.run_pages import size


@pytest.fixture(scope="module")
def learned(tmp_path_factory, fork, grid_flags):
    """A run with MultiDDS."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    flags = ["--sampler", "multidds", "--dev-tlps", "lang:en", "--dds-every", "2"]
    flags += ["--max-meta-steps", "5", "--output-dir", str(folder)]
    done = fork([*grid_flags, *flags])
    assert done.wait() == 0, done.err[-3000:]
    return folder


def test_affinities_by_hand():
    # Halves of two TLPs, K = 2: (1, 0) and (1, 1); (0, 2) and (2, 0).
    halves = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [2.0, 0.0]])
    found = Affinity.of(halves @ halves.T, num_batches=2)
    root = np.sqrt(0.5)
    # Sums (2, 1) and (2, 2).
    assert found.cosines == pytest.approx(np.array([[1, 6 / np.sqrt(40)], [6 / np.sqrt(40), 1]]))
    assert found.noise == pytest.approx(np.array([[0, root / 2], [root / 2, 0]]))
    assert found.stability == pytest.approx([root, 0])
    assert found.norms == pytest.approx([np.sqrt(5) / 2, np.sqrt(8) / 2])


def test_a_gradient_of_zero_has_no_cosine():
    halves = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = Affinity.of(halves @ halves.T, num_batches=2)
    assert np.isnan(found.cosines[1]).all() and np.isnan(found.stability[1])
    assert found.cosines[0, 0] == pytest.approx(1)
    assert any("   -" in line for line in affinity.table(["a", "b"], found))


def test_the_page_of_a_run(learned, capsys):
    assert report.main([str(learned)]) == 0
    page = (learned / "report.html").read_text()
    for text in (
        "meta steps finished",
        "Sampler",
        "What was drawn",
        "Dev scores",
        "Memory",
        "--tau",
    ):
        assert (text in page) is (text != "--tau")
    moments = json.loads((learned / "cost.json").read_text())["memory"]["moments"]
    assert f">{size(moments)}<" in page
    (learned / "cost.json").write_text("{}")
    assert report.main([str(learned)]) == 2
    assert "cost.json: damaged" in capsys.readouterr().err
    assert report.main([str(learned / "models")]) == 2
    assert "models/args.json: No such file" in capsys.readouterr().err


def test_curves_of_a_run(learned):
    curves = read_curves(learned / "metrics.jsonl")
    assert curves.steps == [0, 2, 4] and len(curves.p) == len(curves.rewards) > 5
    for at in range(3):
        assert sum(values[at] for values in curves.p.values()) == pytest.approx(1)
    assert all(len(values) == 2 for values in curves.rewards.values())


def test_affinity_of_a_checkpoint(learned, capsys, tmp_path):
    checkpoint = learned / "checkpoints" / "step_000005"
    flags = ["--checkpoint", str(checkpoint), "--dev-batches", "2"]
    assert affinity.main(flags) == 0
    beside = learned / "affinity_step_000005"
    found = json.loads(beside.with_suffix(".json").read_text())
    assert beside.with_suffix(".png").stat().st_size > 5000
    names = found["tlps"]
    cosines = np.array(found["cosines"], dtype=float)
    assert len(names) == 10 and "pos_hi" in names and cosines.shape == (10, 10)
    assert np.allclose(cosines, cosines.T) and np.allclose(np.diag(cosines), 1)
    assert names[0] in capsys.readouterr().out
    # The languages of these tasks are made by the same rules, so their gradients agree.
    same = cosines[names.index("pos_en"), names.index("pos_hi")]
    assert same > cosines[names.index("pos_en"), names.index("qa_en")]
    # The same again, of fewer and without the heads.
    output = tmp_path / "new" / "few"
    flags += ["--tlps", "pos_en,ner_zh", "--reward-params", "encoder", "--output", str(output)]
    assert affinity.main(flags) == 0
    few = json.loads(output.with_suffix(".json").read_text())
    assert few["tlps"] == ["pos_en", "ner_zh"] and few["parameters"] == "encoder"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dev-batches", "1"], "--dev-batches 1: must be 2 or more, for two halves"),
        (["--dev-batches", "9"], "--dev-batches 9: qa_en has dev data for 2; the two halves would"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--tlps", "pos_ta"], "no dev data for 'pos_ta'"),
        (["--data-dir", "nowhere"], "nowhere"),
    ],
)
def test_affinity_says_what_is_wrong(learned, capsys, flags, message):
    checkpoint = learned / "checkpoints" / "step_000005"
    assert affinity.main(["--checkpoint", str(checkpoint), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_sampler_of_a_run_is_drawn(learned, capsys, tmp_path):
    assert sampler.main(["--run", str(learned)]) == 0
    assert (learned / "sampler.png").stat().st_size > 5000
    out = capsys.readouterr().out
    assert "2 updates, the last after meta step 4" in out and "split-half" in out
    assert sampler.main(["--run", str(learned), "--output", str(tmp_path / "x.svg")]) == 0
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_the_sampler_of_no_run_is_one_line(tmp_path, capsys):
    assert sampler.main(["--run", str(tmp_path)]) == 2
    assert "metrics.jsonl" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="has no update of a sampler that learns"):
        sampler.run(["--run", str(tmp_path)])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: "):
        sampler.run(["--run", str(tmp_path)])
