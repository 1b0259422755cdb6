"""Results of runs, small and made to measure, in the files that the scripts write."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metatlp.engine.provenance import Provenance
from metatlp.engine.scoring.bootstrap import sampled
from metatlp.engine.scoring.jobs import Job
from metatlp.engine.scoring.scoring import Scored
from metatlp.engine.scoring.systems import System
from metatlp.engine.scoring.terms_file import write_terms
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP
from metatlp.report.evaluation import Report
from metatlp.report.readings import SECOND
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import scores
from metatlp.tasks.task import Limits

Hits = Sequence[float]  # of each example: right or wrong, or for QA its F1


def terms_of(tlp: TLP, hits: Hits) -> dict[str, np.ndarray]:
    """One unit per example, so that a score is the mean of the hits."""
    part = np.stack([np.array(hits, float), np.ones(len(hits))], axis=-1)[:, None, :]
    names = [TASKS[tlp.task].metric, SECOND.get(tlp.task, "macro_f1")]
    return dict.fromkeys(names, part)


class Made:
    """A folder of results that grows, and its plan."""

    def __init__(self, folder: Path, compare: bool = False, seeds: Sequence[int] = (0, 1, 2)):
        self.folder = folder
        self.protocol = {"name": "made", "compare_with_paper": compare, "seeds": list(seeds)}
        self.runs: dict[str, Any] = {}
        self.cells: list[dict[str, Any]] = []
        self.rows: dict[str, dict[str, str]] = {}

    def run(self, key: str, kind: str, seconds: float = 60.0) -> Path:
        """Its folder; the run is in the plan, and has ended."""
        self.runs[key] = {
            "kind": kind,
            "script": "finetune.py",
            "flags": {},
            "command": ["python", "finetune.py", "--output-dir", f"runs/{key}"],
            "folder": f"runs/{key}",
            "needs": [],
            "label": f"the run {key}",
            "estimate": {"gpu_seconds": 12.0, "from": "a guess"},
        }
        folder = self.folder / "runs" / key
        folder.mkdir(parents=True)
        record = {"key": key, "command": self.runs[key]["command"], "seconds": seconds}
        record |= {"versions": {"torch": "2.13.0"}, "device": "cpu", "commit": "abc"}
        (folder / "workflow.json").write_text(json.dumps(record))
        return folder

    def cell(self, target: str, row: str, tlp: Any, seed: Any, run: str, file: str, **more: Any):
        cell = {"target": target, "row": row, "tlp": tlp and str(tlp), "seed": seed, "run": run}
        cell |= {"candidate": {}, "split": "test", "system": None, "file": f"runs/{run}/{file}"}
        self.cells.append(cell | more)

    def finetuned(
        self, target: str, row: str, tlp: str, by_seed: Mapping[int, Hits], dev: float = 0.5, **more
    ) -> None:
        """A run of finetune.py per seed, with a cell."""
        pair = TLP.parse(tlp)
        for seed, hits in by_seed.items():
            key = f"{target}-{row}-{tlp}-{seed}-{'-'.join(more.get('candidate', {}).values())}"
            folder, terms = self.run(key, "finetune"), terms_of(pair, hits)
            on_dev = {name: dev for name in terms} | {"examples": 4}
            found = {"dev": on_dev, "test": scores(terms)}
            result = {"tlp": tlp, "shots": "full", "seed": seed, "lr": 2e-5, "distance": 1.5}
            result |= {"scores": found, "trials": []}
            everything = {"arguments": {}, "results": [result]}
            (folder / "results.json").write_text(json.dumps(everything))
            write_terms(folder / tlp / f"seed_{seed}", {f"test/{n}": t for n, t in terms.items()})
            self.cell(target, row, tlp, seed, key, "results.json", **more)

    def evaluated(
        self,
        target: str,
        row: str,
        seed: int,
        hits: Mapping[str, Hits],
        dev: Mapping[str, float] | None = None,
        **more,
    ) -> None:
        """A run of evaluate_zeroshot.py on several TLPs, by its own writer; a cell for each."""
        key = f"{target}-{row}-{seed}-{'-'.join(more.get('candidate', {}).values())}"
        folder = self.run(key, "evaluate")
        tasks = sorted({TLP.parse(tlp).task for tlp in hits})
        on_dev = {"dev": {n: {TASKS[n.split("_")[0]].metric: v} for n, v in (dev or {}).items()}}
        known = Provenance("meta", "demo", ("pos_en",), {}, Limits(), scores=on_dev)
        system = System("meta", dict.fromkeys(tasks, folder), dict.fromkeys(tasks, known))
        scored = {}
        for name, each in hits.items():
            tlp = TLP.parse(name)
            terms = terms_of(tlp, each)
            samples = sampled(terms, 10, 0)
            scored[Job("meta", tlp, "test")] = Scored(len(each), 9, samples, terms, None, 1.0)
            self.cell(target, row, name, seed, key, "scores.json", system="meta", **more)
        Report([system], scored, 0.95).write(folder)

    def sizes(self, sizes: Mapping[Any, int]) -> None:
        folder = self.run("data", "data")
        train = {str(tlp): {"examples": number} for tlp, number in sizes.items()}
        (folder / "data.json").write_text(json.dumps({"splits": {"train": train}}))
        for target in ("table1", "figure2"):
            self.cell(target, "train", None, None, "data", "data.json", split="train")

    def sampler(self, row: str, target: str, seed: int, updates: Sequence[Mapping[str, float]]):
        """updates: rewards of each; psi moves by 0.1 of them."""
        key = f"meta-{row}-{seed}"
        folder, psi, lines = self.run(key, "meta"), dict.fromkeys(updates[0], 0.0), []
        for step, rewards in enumerate([None, *updates]):
            psi = {name: psi[name] + 0.1 * (rewards or {}).get(name, 0.0) for name in psi}
            total = sum(np.exp(value) for value in psi.values())
            p = {name: float(np.exp(value) / total) for name, value in psi.items()}
            lines.append({"step": 10 * step, "seconds": 1.0, "p": p, "psi": dict(psi)})
            lines[-1] |= {"rewards": rewards} if rewards else {}
            lines.append({"step": 10 * step + 1, "loss": 1.0, "distance": 0.5 + step})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
        self.cell("figure3", row, target, seed, key, "metrics.jsonl", split="metrics")

    def write(self) -> Path:
        """plan.json; returns the folder."""
        plan = {"format": 1, "protocol": self.protocol, "runs": self.runs, "cells": self.cells}
        (self.folder / "plan.json").write_text(json.dumps(plan | {"rows": self.rows}))
        return self.folder


def whole(folder: Path, tlps: Sequence[TLP], external: Sequence[TLP], examples: int) -> Made:
    """All targets, with random scores around the paper's kind of differences."""
    made, dice = Made(folder), random.Random(0)

    def hits(level: float) -> list[float]:
        return [float(dice.random() < level) for _ in range(examples)]

    def fill(target: str, row: str, columns: Sequence[TLP], gain: float, **more) -> None:
        for tlp in columns:
            level = {"qa": 0.6, "nli": 0.75, "pa": 0.85, "pos": 0.9, "ner": 0.93}[tlp.task] + gain
            by_seed = {seed: hits(level) for seed in (0, 1, 2)}
            made.finetuned(target, row, str(tlp), by_seed, level, **more)

    made.sizes({tlp: PAPER_SIZES[tlp] // 50 for tlp in tlps})
    for row, gain in {
        "baseline": 0.0,
        "mtl-lang": -0.05,
        "mtl-task": -0.02,
        "mtl-all": -0.06,
    }.items():
        fill("table2", row, tlps, gain)
    for row in ("meta-temp-lang", "meta-temp-task", "meta-temp-all"):
        for tau in ("1", "inf"):
            fill("table2", row, tlps, 0.01 * (tau == "1") + 0.02, candidate={"tau": tau})
    for row in ("meta-mdds-lang", "meta-mdds-task", "mdds-lang", "mdds-task"):
        fill("table2", row, tlps, 0.03)
    names = {str(tlp) for tlp in external}
    for row, gain in {"mtl-task": 0.0, "mtl-all": -0.1, "meta-temp-task": 0.1, "mdds-task": 0.08,
                      "meta-temp-all": 0.05}.items():  # fmt: skip
        for seed in (0, 1, 2):
            made.evaluated("table3", row, seed, {n: hits(0.6 + gain) for n in sorted(names)})
    for kind in ("lang", "task", "all"):
        for tau in ("1", "2", "5", "inf"):
            fill("table4", f"temp-{tau}-{kind}", tlps, 0.01)
    for row in ("m4-k2-beta1", "m8-k3-beta1"):
        fill("grid_search", row, tlps[:3], 0.0)
    fill("ablations", "reference", tlps[:3], 0.0)
    fill("ablations", "inner-state-reset", tlps[:3], -0.1, reference="meta-temp-all")
    for target in ("qa_en", "nli_es", "pos_de"):
        lang = target[-2:]
        arms = [str(tlp) for tlp in tlps if tlp.lang == lang] or ["qa_en", "nli_en", "pos_en"]
        for seed in (0, 1, 2):
            updates = [
                {
                    a: (0.5 if a[:2] in ("qa", "nl") else 0.2) + 0.02 * step * dice.random()
                    for a in arms
                }
                for step in range(12)
            ]
            made.sampler(f"meta-mdds-lang-{target}", target, seed, updates)
    made.protocol |= {"description": "made up, to look at", "budget": "none"}
    return made


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path / "out")


@pytest.fixture(scope="session")
def whole_results(tmp_path_factory) -> Path:
    """All targets, on few TLPs."""
    tlps = [TLP.parse(name) for name in ("qa_en", "nli_en", "nli_es", "pos_en", "ner_de")]
    external = [tlp for tlp in EXTERNAL_TLPS if str(tlp) in ("qa_vi", "pos_et", "ner_te")]
    folder = tmp_path_factory.mktemp("whole") / "out"
    return whole(folder, tlps, external, 30).write()
