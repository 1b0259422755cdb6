"""Does MultiDDS draw less of a TLP whose labels are noise? Over seeds, on the demo.

    python benchmarks/demo_noise.py --seeds 0,1,2 --output RESULTS.md -- --epochs 2

A TLP is added to the demo's grid: the training sentences of one of its TLPs under the code of
another language, with labels drawn at random. D_dev is that task's real TLPs. Temperature sampling
runs beside MultiDDS; what stands behind `--` is passed on to train_meta.py in both.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from demo_scores import split_at_dashes
from results_file import check_output, machine, page, save, table

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.folder import DEFAULT_SCALE, write_demo
from metatlp.data.demo.layout import file_content, file_name
from metatlp.data.demo.noise import with_noise
from metatlp.data.tsv import LABELS
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.flags import at_least, flag, flag_name
from metatlp.errors import InputError
from metatlp.grid import PAPER_LANGUAGES, TLP
from metatlp.model.demo_encoder import build_encoder
from metatlp.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
NOISE_LANGUAGE = "xx"


@dataclass(frozen=True)
class NoiseArguments:
    """Which runs, and where the table goes."""

    seeds: str = flag("--seed of each run, separated by commas", "0,1,2")
    like: str = flag("the TLP whose sentences the added one has: of pos, ner, nli or pa", "pos_en")
    reward_batches: int = flag("batches (K) for each gradient of a reward", 8)
    reward: str = flag("kind of reward", "cos-of-mean")
    dds_lr: float = flag("step size of psi", 0.1)
    dds_every: int = flag("meta steps between two updates", 10)
    processes: int = flag("of each run: 1, or 2 with accelerate_configs/cpu_2.yaml", 1)
    scale: float = flag("of the demo", DEFAULT_SCALE)
    output: str | None = flag("write this Markdown file, and a JSON file beside it")

    def __post_init__(self) -> None:
        at_least(1, self, "reward_batches")
        if self.processes not in (1, 2):
            raise InputError(f"--processes {self.processes}: must be 1 or 2")
        if TLP.parse(self.like).task == "qa":
            raise InputError(f"--like {self.like}: must be of pos, ner, nli or pa")


def main(argv: Sequence[str]) -> int:
    own, passed_on = split_at_dashes(argv)
    description = (__doc__ or "").splitlines()[0]
    (arguments,) = parse_flags((NoiseArguments,), lambda given: {}, description, own)
    output = check_output(arguments.output)
    like = TLP.parse(arguments.like)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_demo(folder / "grid", seed=0, scale=arguments.scale)
        noise = add_noise(folder / "grid", like)
        (folder / "encoder").mkdir()
        build_encoder(folder / "encoder", 0, 0)
        real = [t for t in XtremeFolder(folder / "grid").tlps("dev") if t.task == like.task]
        targets = ",".join(str(t) for t in real if t.lang in PAPER_LANGUAGES)
        learning = ["--sampler", "multidds", "--dev-tlps", targets]
        for name in ("reward", "reward_batches", "dds_lr", "dds_every"):
            learning += [flag_name(name), str(getattr(arguments, name))]
        ways = {
            "multidds": [*learning, *passed_on],
            "temp": ["--sampler", "temp", "--tau", "2", *passed_on],
        }
        results: dict[str, Any] = {
            "command": shlex.join(["python", "benchmarks/demo_noise.py", *argv]),
            "machine": machine(torch.device("cpu")),
            "noise": str(noise),
            "like": str(like),
            "flags": {way: shlex.join(flags) for way, flags in ways.items()},
            "runs": [],
        }
        for seed in arguments.seeds.split(","):
            for way, flags in ways.items():
                run = folder / f"{way}-{seed}"
                train(folder, run, arguments.processes, [*flags, "--seed", seed])
                found = measured(run, noise)
                results["runs"].append({"seed": seed, "way": way, **found})
                save(output, markdown(results), results)
    print(markdown(results), end="")
    return 0


def add_noise(grid: Path, like: TLP) -> TLP:
    """Write the added TLP's training file; return its name."""
    noise, dice = TLP(like.task, NOISE_LANGUAGE), Dice(0, "noise", str(like))
    # Another label with this probability: then all are equally likely.
    num_labels = len(LABELS[like.task])
    share = (num_labels - 1) / num_labels
    examples = XtremeFolder(grid).read(like, "train").examples
    noisy = [with_noise(example, like.task, share, dice) for example in examples]
    (grid / file_name(noise.task, noise.lang, "train")).write_bytes(file_content(noisy))
    return noise


def train(folder: Path, run: Path, processes: int, flags: Sequence[str]) -> None:
    """A whole run, as a user starts it. Raises InputError if it does not end well."""
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch"]
    launch += ["--config_file", "accelerate_configs/cpu_2.yaml"]
    command = [sys.executable, *(launch if processes == 2 else []), "train_meta.py"]
    command += ["--preset", "demo", "--data-dir", str(folder / "grid")]
    command += ["--model", str(folder / "encoder"), "--cache-dir", str(folder / "cache")]
    command += ["--train-languages", ",".join([*PAPER_LANGUAGES, NOISE_LANGUAGE])]
    done = subprocess.run([*command, "--output-dir", str(run), *flags], cwd=ROOT, stdout=sys.stderr)
    if done.returncode:
        raise InputError(f"a run ended with exit code {done.returncode}; see its lines above")


def measured(run: Path, noise: TLP) -> dict[str, Any]:
    """What a run says of the added TLP and of the real ones of its task."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    slots = [slot["tlp"] for record in records for slot in record.get("slots", [])]
    updates = [record for record in records if "rewards" in record]
    found: dict[str, Any] = {
        "drawn": slots.count(str(noise)) / len(slots),
        "meta_steps": max(record["step"] for record in records),
        "dev": _mean_dev(records[-1]["dev"], noise.task),
    }
    if updates:
        own = [tlp for tlp in map(TLP.parse, updates[0]["p"]) if tlp.task == noise.task]
        real = [str(tlp) for tlp in own if tlp != noise]
        ends = next(record["p"] for record in records if "p" in record), updates[-1]["p"]
        known = [u["reliability"] for u in updates if u["reliability"] is not None]
        found |= {
            "p": [p[str(noise)] for p in ends],
            "p_real": [statistics.fmean(p[t] for t in real) for p in ends],
            "updates": [_of_task(update, [*real, str(noise)]) for update in updates],
            "reward": statistics.fmean(u["rewards"][str(noise)] for u in updates),
            "reward_real": statistics.fmean(u["rewards"][t] for u in updates for t in real),
            "reliability": statistics.median(known) if known else None,
        }
    return found


def _of_task(update: Mapping[str, Any], tlps: Sequence[str]) -> dict[str, Any]:
    """What is worth keeping of an update."""
    kept = {key: {tlp: round(update[key][tlp], 5) for tlp in tlps} for key in ("p", "rewards")}
    return {"step": update["step"], "reliability": update["reliability"], **kept}


def _mean_dev(dev: Mapping[str, Mapping[str, float]], task: str) -> float:
    values = [scores for tlp, scores in dev.items() if TLP.parse(tlp).task == task]
    return statistics.fmean(scores[TASKS[task].metric] for scores in values)


def markdown(results: Mapping[str, Any]) -> str:
    task = TLP.parse(results["noise"]).task
    facts = [f"{name}: {value}" for name, value in results["machine"].items()]
    facts += [f"{way}: `{flags}`" for way, flags in results["flags"].items()]
    facts.append(f"{results['noise']}: the sentences of {results['like']} with labels at random")
    head = ["sampler", "seed", "share drawn", "p, start to end", f"p of real {task}, mean"]
    head += ["mean reward", f"of real {task}", "reliability", f"dev {task}"]
    rows = []
    for run in results["runs"]:
        row = [run["way"], run["seed"], f"{run['drawn']:.4f}"]
        if "p" in run:
            row += [" to ".join(f"{p:.4f}" for p in run[key]) for key in ("p", "p_real")]
            row += [f"{run[key]:.3f}" for key in ("reward", "reward_real")]
            row.append("-" if run["reliability"] is None else f"{run['reliability']:.3f}")
        else:
            row += ["fixed", "fixed", "-", "-", "-"]
        rows.append([*row, f"{100 * run['dev']:.1f}"])
    sections = [("The added TLP", table(head, rows))]
    return page("MultiDDS and a TLP of noise", results["command"], facts, sections)


if __name__ == "__main__":
    run_script(main)
