"""The first lines and the dry run, with numbers worked out by hand for the fixture's grid.

The grid: 20 examples in each of 2 QA TLPs, 80 in 2 NLI, 40 in 2 each of PA, POS and NER; 440 in
all. In batches of 4 they are 2*5 + 2*20 + 6*10 = 110 batches.
"""

from __future__ import annotations

import json
import re

import pytest

from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.averaging import AveragingConfig
from metatlp.engine.cost import Cost
from metatlp.engine.mesh import Mesh
from metatlp.engine.overview import (
    choice_lines,
    cost_lines,
    count_lines,
    placement_lines,
    step_line,
)

NAMES = ["qa_en", "qa_es", "nli_en", "nli_fr", "pa_en", "pa_de", "pos_en", "pos_hi", "ner_en"]
NAMES += ["ner_zh"]
# tau -> p of a QA, an NLI and any other TLP: 20, 80 and 40 to the power 1/tau over their sum.
PROBABILITIES = {
    "1": ("0.0455", "0.1818", "0.0909"),
    "2": ("0.0690", "0.1381", "0.0976"),  # 4.472, 8.944, 6.325 over 64.780
    "5": ("0.0867", "0.1144", "0.0996"),  # 1.8206, 2.4022, 2.0913 over 20.9933
    "inf": ("0.1000", "0.1000", "0.1000"),
}


@pytest.fixture
def dry_run(train_meta, meta_flags, tmp_path, capsys):
    """The lines of a dry run with the fixture's flags and more."""

    def run(*flags):
        output = tmp_path / "run"
        assert train_meta.main([*meta_flags, *flags, "--dry-run", "--output-dir", str(output)]) == 0
        assert not output.exists()
        return capsys.readouterr().out.splitlines()

    return run


def table(lines):
    """TLP -> cells."""
    return {line.split()[0]: line.split()[1:] for line in lines if line.split()[0] in NAMES}


@pytest.mark.parametrize("tau", PROBABILITIES)
def test_probabilities(dry_run, tau):
    rows = table(dry_run("--tau", tau))
    qa, nli, other = PROBABILITIES[tau]
    expected = [qa, qa, nli, nli, *[other] * 6]
    assert [rows[name][5] for name in NAMES] == expected
    share = ["0.0455"] * 2 + ["0.1818"] * 2 + ["0.0909"] * 6
    assert [rows[name][4] for name in NAMES] == share


def test_sizes_in_batches(dry_run):
    rows = table(dry_run("--tau", "1", "--size-unit", "batches", "--batch-size", "qa=8,nli=4"))
    assert rows["qa_en"][2] == "8" and rows["nli_en"][2] == "4"
    # PA 8, POS and NER 32 by default. Batches: 2 * (3 + 20 + 5 + 2 + 2) = 64.
    p = [rows[name][5] for name in ("qa_en", "nli_en", "pa_en")]
    assert p == ["0.0469", "0.3125", "0.0781"]


def test_the_whole_dry_run(dry_run):
    lines = dry_run("--max-examples", "30")
    assert re.fullmatch(
        r"1 process on \S.* with 1 thread; mixed precision no; kernels plain torch", lines[0]
    )
    assert lines[1].startswith("10 TLPs from XTREME folder")
    # Examples, rows, batch size; 12 dev examples in POS. 30 of 40 or 80 examples are used.
    assert table(lines)["pos_en"][:3] == ["30", "30", "4"] and table(lines)["pos_en"][6] == "12"
    # 2 * 50 of NLI and 6 * 10 of the others.
    over = "left out by --max-examples and --eval-examples: 160 train examples"
    assert lines.count(over) == 1
    # 2*5 + 8*8 = 74 batches; 5 * 74 // (5 * 2) = 37.
    assert "meta steps: 37 = 5 epochs * 74 batches // (5 slots * 2 inner steps)" in lines
    assert lines[-1] == "communication: 0.0 MiB per process into the all-reduces of a meta step"
    assert len(lines) <= 22, "one screen"


def test_what_the_data_lacks_of_the_papers_grid(dry_run):
    line = (
        "not in this data, of the paper's grid: qa_hi, qa_de, nli_es, nli_de, pa_es, pa_fr, pa_zh, "
        "pos_es, pos_de, pos_zh, ner_hi, ner_es, ner_de, ner_fr"
    )
    assert dry_run().count(line) == 1
    # A selection leaves TLPs out that the data has; they are not missing.
    assert dry_run("--selection", "task:pos").count(line) == 1
    others = [dry_run("--train-languages", languages) for languages in ("all", "en,hi")]
    assert not any(line.startswith("not in this data") for lines in others for line in lines)


def test_number_of_steps_and_its_limit(dry_run):
    lines = dry_run("--max-meta-steps", "4", "--epochs", "2.5")
    # 2.5 * 110 = 275 batches // 10.
    line = next(line for line in lines if line.startswith("meta steps"))
    assert line == (
        "meta steps: 4 (--max-meta-steps; 2.5 epochs * 110 batches // (5 slots * 2 inner steps) "
        "= 27)"
    )
    assert step_line(MetaArguments(model="E"), 110, 22, 22) == (
        "meta steps: 22 = 5 epochs * 110 batches // (8 slots * 3 inner steps)"
    )


def test_data_json(train_meta, meta_flags, tmp_path):
    output = tmp_path / "run"
    flags = ["--max-meta-steps", "1", "--output-dir", str(output)]
    assert train_meta.main([*meta_flags, *flags]) == 0
    data = json.loads((output / "data.json").read_text())
    assert list(data["splits"]) == ["train", "dev"]
    qa = data["splits"]["train"]["qa_en"]
    assert (qa["examples"], qa["rows"]) == (20, 20) and qa["counts"]["read"] == 20
    assert qa["tokens"] > 20 and len(qa["fingerprint"]) == 64
    assert data["splits"]["dev"]["nli_fr"]["examples"] == 24


def test_tracker(train_meta, meta_flags, tmp_path):
    # Here, so that only this test needs the package.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = tmp_path / "run"
    flags = ["--max-meta-steps", "2", "--report-to", "tensorboard", "--output-dir", str(output)]
    assert train_meta.main([*meta_flags, *flags]) == 0
    events = [path.parent for path in output.rglob("events.out.tfevents*")]
    found = {}
    for folder in events:
        read = EventAccumulator(str(folder))
        read.Reload()
        found |= {tag: read.Scalars(tag) for tag in read.Tags()["scalars"]}
    losses = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in losses if "loss" in record]
    assert [event.step for event in found["loss"]] == [1, 2]
    assert [event.value for event in found["loss"]] == pytest.approx(losses, rel=1e-6)
    assert {"lr", "tokens_per_second", "distance", "dev/qa_en", "dev/ner_zh"} <= set(found)


# Bytes per parameter, by hand: 16 for live, gradient, start and theta_0; 8 for the two moments, 16
# with their starts; a total of 8 (exact) or 4 for each of 1 or 3 averaged vectors.
BYTES = {
    ("average", "exact"): {"parameters": 16, "moments": 16, "totals": 24},
    ("average", "fp32"): {"parameters": 16, "moments": 16, "totals": 12},
    ("average", "bf16"): {"parameters": 16, "moments": 16, "totals": 12, "wire": 2},
    ("reset", "exact"): {"parameters": 16, "moments": 8, "totals": 8},
    ("reset", "fp32"): {"parameters": 16, "moments": 8, "totals": 4},
    ("reset", "bf16"): {"parameters": 16, "moments": 8, "totals": 4, "wire": 2},
    ("carry", "exact"): {"parameters": 16, "moments": 8, "totals": 8},
    ("carry", "fp32"): {"parameters": 16, "moments": 8, "totals": 4},
}
SENT = {
    "average": {"exact": 24, "fp32": 12, "bf16": 6},
    "reset": {"exact": 8, "fp32": 4, "bf16": 2},
}


@pytest.mark.parametrize(("inner_state", "reduce"), BYTES)
def test_memory_and_communication(inner_state, reduce):
    config = AveragingConfig(inner_state=inner_state, reduce=reduce)
    several = Cost(1000, config, Mesh(1 if inner_state == "carry" else 4))
    assert several.bytes_per_parameter() == BYTES[inner_state, reduce]
    total = sum(BYTES[inner_state, reduce].values())
    assert sum(several.memory().values()) == 1000 * total
    assert several.communication == 1000 * SENT.get(inner_state, {}).get(reduce, 0)
    assert Cost(1000, config).communication == 0, "one process sends nothing"


@pytest.mark.parametrize("reduce", ["exact", "fp32"])
def test_memory_is_what_a_run_holds(reduce, train_meta, meta_flags, tmp_path, monkeypatch):
    # The vectors of P elements that live in a strategy, an arena and its AdamW state.
    held = {}
    original = train_meta.train

    def look(training):
        strategy = training.state.strategy
        arena = strategy.parameters.arena
        flat = [arena.live, arena.grad, strategy.state.exp_avg]
        flat += [strategy.state.exp_avg_sq, training.theta_0]
        flat += [
            t for part in (strategy.theta, *strategy.moments) for t in (part.start, part.total)
        ]
        held["bytes"] = sum(t.numel() * t.element_size() for t in flat)
        held["elements"] = arena.live.numel()
        return original(training)

    monkeypatch.setattr(train_meta, "train", look)
    flags = ["--max-meta-steps", "1", "--reduce", reduce, "--output-dir", str(tmp_path / "run")]
    assert train_meta.main([*meta_flags, *flags]) == 0
    assert held["bytes"] == held["elements"] * sum(BYTES["average", reduce].values())


def test_cost_lines():
    config = AveragingConfig(inner_state="average", reduce="exact", momentum=0.9)
    first, second = cost_lines(Cost(2**27, config, Mesh(2)))
    # 56 bytes and 4 of the velocity, times 2^27: 7.5 GiB; 24 * 2^27 bytes are sent.
    assert first == (
        "memory per process: 7.50 GiB + activations = 134,217,728 parameters * 60 bytes "
        "(parameters 2.00 GiB, moments 2.00 GiB, totals 3.00 GiB, momentum 512.0 MiB)"
    )
    assert second == ("communication: 3.00 GiB per process into the all-reduces of a meta step")


def test_placement_lines():
    said = {
        "processes": 4,
        "device": "NVIDIA H200",
        "backend": "nccl",
        "mixed_precision": "bf16",
        "kernels": "Triton 3.7.1",
    }
    lines = placement_lines(said | {"threads_per_process": 8}, mesh=Mesh(4), slots=3)
    assert lines == [
        "4 processes, each on NVIDIA H200 with 8 threads; mixed precision bf16; "
        "kernels Triton 3.7.1; backend nccl",
        "4 TLP groups x 1 rank",
        "note: 1 of the 4 processes stay idle in every meta step, for --meta-batch-size is 3",
    ]


def test_choices_are_said():
    by_default = choice_lines(MetaArguments(model="E"), cuda=True)
    assert by_default[1] == "sampler: temp, tau 1 (default), sizes in examples; multinomial draws"
    assert by_default[3].endswith("reduce fp32; CUDA operations are deterministic")
    given = MetaArguments(model="E", tau=float("inf"), size_unit="batches", reduce="exact")
    assert choice_lines(given, cuda=True)[1].startswith("sampler: temp, tau inf (as given), sizes")
    assert choice_lines(given, cuda=False)[3].endswith("reduce exact")
    uniform = MetaArguments(model="E", sampler="uniform", draw="systematic")
    assert choice_lines(uniform, cuda=False)[1] == "sampler: uniform; systematic draws"


def test_counts_are_told_by_kind():
    train = {f"qa_{i}": {"read": 9, "windows": 12, "answers_empty": i} for i in range(1, 7)}
    train["pos_en"] = {"read": 5, "sentences_split": 1200, "examples_over_max": 3}
    dev = {"pos_en": {"read": 5, "words_unk": 0, "examples_over_max": 4}}
    assert count_lines({"train": train, "dev": dev}) == [
        "counted while reading and encoding (all counts go to data.json):",
        "  train answers_empty: 21 (qa_6 6, qa_5 5, qa_4 4, qa_3 3 and 2 more TLPs)",
        "  train sentences_split: 1,200 (pos_en 1,200)",
        "left out by --max-examples and --eval-examples: 3 train examples, 4 dev examples",
    ]
    assert count_lines({"train": {"qa_en": {"read": 9, "windows": 12}}, "dev": {}}) == []


@pytest.mark.parametrize(
    ("reward", "batches", "reduce", "held", "sent"),
    [
        # Rows of g_dev and of g_i, times two for halves; under exact also int64 sums.
        ("cos-of-mean", 1, "fp32", 8, 4),
        ("cos-of-mean", 2, "fp32", 16, 8),
        ("mean-of-cos", 1, "exact", 16, 8),
        ("mean-of-cos", 3, "exact", 32, 16),
        # Two moments, two gradients, and the place between the steps.
        ("adam-delta", 4, "exact", 20, 0),
    ],
)
def test_memory_and_traffic_of_rewards(reward, batches, reduce, held, sent):
    config = RewardConfig(reward, batches, "all", dropout=False, every=10)
    cost = Cost(100, AveragingConfig(reduce=reduce), Mesh(2), rewards=config)
    assert cost.bytes_per_parameter()["rewards"] == held
    assert cost.reward_communication == 100 * sent
    assert Cost(100, AveragingConfig(), rewards=config).reward_communication == 0
    # Two groups of four: across them and, of whole vectors, within; of shards a quarter across.
    for placed, times in (("replicated", 2), ("zero2", 0.25), ("fsdp2", 0.25)):
        several = Cost(100, AveragingConfig(reduce=reduce), Mesh(2, 4), 4, config, placed)
        assert several.reward_communication == 100 * sent * times
    assert "rewards" not in Cost(100, AveragingConfig(), Mesh(2)).bytes_per_parameter()


# Four ranks per TLP, bfloat16 weights. Masters, start and theta_0 are 12 / 4, AdamW's state with
# its starts 16 / 4, three totals 12 / 4; the weights and the gradient 2 + 2 + 4/4 (ZeRO 1),
# 2 + 4/4, (2 + 4) / 4; FSDP2 has float32 rows and a float32 gradient, 8 / 4.
@pytest.mark.parametrize(
    ("placed", "parameters", "moments"),
    [("replicated", 16, 16), ("zero1", 8, 4), ("zero2", 6, 4), ("zero3", 4.5, 4), ("fsdp2", 5, 4)],
)
def test_memory_of_placements(placed, parameters, moments):
    cost = Cost(1000, AveragingConfig(), Mesh(2, 4), 4, placed=placed, working=2)
    summed = {"parts": 8} if placed == "replicated" else {}
    expected = {"parameters": parameters, "moments": moments, "totals": 3} | summed
    assert cost.bytes_per_parameter() == expected
    # Across two groups, a quarter of three vectors of four bytes.
    assert cost.communication == 3000


def test_unused_gpus_are_told():
    said = {"processes": 1, "device": "H200", "mixed_precision": "no", "kernels": "K"}
    said |= {"threads_per_process": 1, "backend": None, "sharding": "FSDP2", "unused_gpus": 7}
    assert placement_lines(said) == [
        "1 process on H200 with 1 thread; FSDP2; mixed precision no; kernels K",
        "note: 7 GPUs of this machine not used; --num_processes",
    ]
