"""train_mtl.py and finetune.py under DeepSpeed and FSDP2: two processes beside one, dropout on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from metatlp.engine import checkpoint

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

PLACEMENTS = ("zero2", "zero3", "fsdp2")
# An attention key's bias and that of QA's head have no gradient in theory: AdamW steps its noise.
SHARED = ["--batch-parts", "2", "--dropout", "0.1", "--eval-examples", "2"]
MTL = [
    *("--selection", "qa_es,nli_fr,pa_en,pos_en,ner_en"),
    *("--max-updates", "6", "--lr", "3e-5", "--save-every", "3", "--select", "best"),
    *("--eval-every", "2", "--average-last", "2"),
]
TUNE = ["--tlp", "pa_en", "--lr", "1e-4,3e-5", "--updates", "4", "--eval-every", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fork_world, supervised_flags, launcher_sets):
    """mtl-PLACEMENT, tune-PLACEMENT, and mtl-one-PLACEMENT: gone on with what one process saved."""
    folder = tmp_path_factory.mktemp("supervised")

    def run(script: str, name: str, flags: list[str], environment: dict[str, str]) -> dict:
        output = ["--output-dir", str(folder / name)]
        arguments = [*supervised_flags, *SHARED, *flags, *output]
        return {"script": script, "arguments": arguments, "environment": environment}

    def start(runs: list[dict], world: int) -> None:
        (folder / f"{world}.json").write_text(json.dumps(runs))
        several = "tests/engine/workers/several_runs.py"
        fork_world([str(folder / f"{world}.json")], world, several, seconds=600.0)

    start([run("train_mtl.py", "mtl-one", MTL, {}), run("finetune.py", "tune-one", TUNE, {})], 1)
    for name in PLACEMENTS:
        shutil.copytree(folder / "mtl-one", folder / f"mtl-one-{name}")
    start(
        [
            one
            for name in PLACEMENTS
            for one in (
                run("train_mtl.py", f"mtl-{name}", MTL, launcher_sets[name]),
                run("finetune.py", f"tune-{name}", TUNE, launcher_sets[name]),
                run(
                    "train_mtl.py",
                    f"mtl-one-{name}",
                    [
                        *MTL,
                        "--resume",
                        str(folder / f"mtl-one-{name}" / "checkpoints" / "step_000003"),
                    ],
                    launcher_sets[name],
                ),
            )
        ],
        2,
    )
    return folder


def difference(one, other) -> float:
    """RMS of the difference over RMS, of all tensors together."""
    assert one.keys() == other.keys()
    a, b = (torch.cat([t[name].flatten().double() for name in sorted(t)]) for t in (one, other))
    return ((a - b).norm() / a.norm()).item()


@pytest.mark.parametrize("run", ["mtl-{}", "mtl-one-{}"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_multi_task_learning_is_that_of_one_process(folder, placement, run):
    one, other = (
        checkpoint.load(folder / name / "checkpoints" / "step_000006").tensors
        for name in ("mtl-one", run.format(placement))
    )
    for kind in ("theta", "exp_avg", "exp_avg_sq", "best"):
        assert difference(one[kind], other[kind]) < 1e-5, kind
    assert torch.equal(one["inner_steps"]["steps"], other["inner_steps"]["steps"])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_models_are_written_whole(folder, placement):
    for models in ("models", "averaged/models"):
        for task in ("qa", "nli", "pa", "pos", "ner"):
            one, other = (
                load_file(folder / f"mtl-{p}" / models / task / "model.safetensors")
                for p in ("one", placement)
            )
            assert difference(one, other) < 1e-5, (models, task)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_finetuning_chooses_and_scores_as_one_process(folder, placement):
    one, other = (
        json.loads((folder / f"tune-{p}" / "results.json").read_text())["results"]
        for p in ("one", placement)
    )
    assert [result["lr"] for result in one] == [result["lr"] for result in other]
    assert one[0]["scores"] == other[0]["scores"]
    curves = [[trial["curve"] for trial in results[0]["trials"]] for results in (one, other)]
    assert curves[0] == curves[1]
