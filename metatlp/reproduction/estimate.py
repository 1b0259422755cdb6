"""What runs cost, from a calibration: seconds of a step, an example and a start on one machine.

A calibration is a JSON file that `python -m metatlp.reproduction calibrate` writes. Without one
nothing is estimated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, TLP, Grid, select
from metatlp.reproduction.protocol import Protocol
from metatlp.reproduction.runs import Run

FORMAT = 1
# finetune.py's own (Appendices A and B), where a protocol says nothing.
EPOCHS = {"qa": 2, "nli": 5, "pa": 5, "pos": 10, "ner": 10}
NUM_RATES = {"qa": 2, "pos": 2, "ner": 2, "nli": 1, "pa": 1}
MOST_EVALUATIONS = 20
# About how many examples XTREME's files have (Hu et al. 2020, Table 1; of a range the upper end),
# for a protocol whose data is not what was calibrated on.
XTREME_SIZES = {
    "dev": {"qa": 1000, "nli": 2490, "pa": 2000, "pos": 4000, "ner": 10000},
    "test": {"qa": 5500, "nli": 5010, "pa": 2000, "pos": 10000, "ner": 10000},
}


@dataclass(frozen=True)
class Calibration:
    """Measured on one device.

    Attributes:
        name: of the file.
        device: it was measured on.
        update: task -> seconds of an inner step or an update, averaging included.
        example: task -> seconds to score an example.
        start: seconds of a run besides; training: of each training of finetune.py.
        batch: task -> rows of an update.
        sizes: split -> TLP -> (examples, rows) of its data.
    """

    name: str
    device: str
    update: Mapping[str, float]
    example: Mapping[str, float]
    start: float
    training: float
    batch: Mapping[str, int]
    sizes: Mapping[str, Mapping[TLP, tuple[int, int]]]

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Raises InputError: there is none, or it is damaged."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            sizes = {
                split: {TLP.parse(name): tuple(pair) for name, pair in each.items()}
                for split, each in found["sizes"].items()
            }
            return cls(
                name=path.name,
                device=found["device"],
                update=found["update"],
                example=found["example"],
                start=float(found["start"]),
                training=float(found["training"]),
                batch=found["batch"],
                sizes=sizes,  # type: ignore[arg-type]
            )
        except OSError as error:
            raise InputError(f"calibration {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"calibration {path}: not a calibration ({error})") from error


@dataclass(frozen=True)
class Estimator:
    """Estimates the runs of a protocol; without a calibration it says so."""

    protocol: Protocol
    calibration: Calibration | None

    @classmethod
    def load(cls, protocol: Protocol) -> Estimator:
        path = protocol.calibration
        return cls(protocol, Calibration.read(Path(path)) if path else None)

    def of(self, run: Run) -> dict[str, Any]:
        """`gpu_seconds` of all its devices together (of a CPU: of its process), and where from."""
        if self.calibration is None:
            return {"gpu_seconds": None, "from": "no calibration"}
        seconds = Cost(self.protocol, self.calibration, run).seconds()
        return {"gpu_seconds": round(seconds, 1), "from": self.calibration.name}

    def line(self, runs: Iterable[Run], protocol: Protocol) -> str:
        """What is left to do costs, in one line."""
        if self.calibration is None:
            return "estimate: no calibration (docs/reproduction.md says how to make one)"
        by_kind: dict[str, float] = {}
        for run in runs:
            seconds = self.of(run)["gpu_seconds"]
            by_kind[run.kind] = by_kind.get(run.kind, 0.0) + seconds
        unit = "GPU" if protocol.gpus else "CPU"
        parts = ", ".join(f"{kind} {_hours(s)}" for kind, s in by_kind.items())
        total = _hours(sum(by_kind.values()))
        return (
            f"estimate: {total} {unit} hours to do ({parts or 'nothing'}), "
            f"from {self.calibration.name}, measured on {self.calibration.device}"
        )


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


@dataclass(frozen=True)
class Cost:
    """Of one run. A pass of a reward counts as an inner step, which is too much by a little."""

    protocol: Protocol
    calibration: Calibration
    run: Run

    def seconds(self) -> float:
        kind = self.run.kind
        spent = {"meta": self._meta, "mtl": self._mtl, "evaluate": self._evaluate}.get(kind)
        if spent is None:
            spent = self._finetune if kind in ("baseline", "finetune") else lambda: 0.0
        return self.calibration.start + spent()

    # Sizes

    def examples(self, tlp: TLP, split: str) -> float:
        """In the protocol's data, which is what was calibrated on.

        Of a protocol that is compared with the paper: Table 1 and XTREME_SIZES.
        """
        limit = self._number("eval-examples", math.inf) if split != "train" else math.inf
        if self.protocol.compare_with_paper:
            whole = PAPER_SIZES[tlp] if split == "train" else XTREME_SIZES[split][tlp.task]
            return min(float(whole), limit)
        known = self.calibration.sizes[split]
        if tlp in known:
            return min(known[tlp][0], limit)
        return min(_mean(pair[0] for t, pair in known.items() if t.task == tlp.task), limit)

    def batches(self, tlp: TLP) -> int:
        """Per epoch."""
        known = self.calibration.sizes["train"]
        rows = [p[1] / p[0] for t, p in known.items() if t == tlp] or [
            p[1] / p[0] for t, p in known.items() if t.task == tlp.task
        ]
        return math.ceil(self.examples(tlp, "train") * _mean(rows) / self.batch(tlp.task))

    def batch(self, task: str) -> int:
        text = str(self.run.flags.get("batch-size", ""))
        if text.isdecimal():
            return int(text)
        given = dict(part.split("=") for part in text.split(",") if "=" in part)
        return int(given.get(task, self.calibration.batch[task]))

    def _number(self, flag: str, default: float) -> float:
        value = self.run.flags.get(flag)
        return float(value) if isinstance(value, str) else default

    def _selected(self, flag: str) -> tuple[TLP, ...]:
        return select(Grid.of(self.protocol.tlps), str(self.run.flags[flag])).tlps

    def _scores(self, tlps: Iterable[TLP], *splits: str) -> float:
        return sum(
            self.examples(t, s) * self.calibration.example[t.task] for t in tlps for s in splits
        )

    # Kinds of runs

    def _meta(self) -> float:
        tlps = self._selected("selection")
        mk = self._number("meta-batch-size", 8) * self._number("inner-steps", 3)
        steps = self._number("epochs", 5) * sum(map(self.batches, tlps)) // mk
        steps = min(steps, self._number("max-meta-steps", math.inf))
        probs = self._probabilities(tlps)
        step = sum(p * self.calibration.update[t.task] for t, p in probs.items())
        return steps * mk * step + self._rewards(tlps, steps) + self._scores(tlps, "dev")

    def _probabilities(self, tlps: tuple[TLP, ...]) -> dict[TLP, float]:
        """Of temperature sampling; MultiDDS starts at tau = 1 and goes towards the uniform."""
        tau = self._number("tau", 1.0) if self.run.flags["sampler"] == "temp" else 2.0
        raw = {tlp: self.examples(tlp, "train") ** (1 / tau) for tlp in tlps}
        return {tlp: value / sum(raw.values()) for tlp, value in raw.items()}

    def _rewards(self, tlps: tuple[TLP, ...], steps: float) -> float:
        if self.run.flags["sampler"] != "multidds":
            return 0.0
        passes = [*tlps, *self._selected("dev-tlps")]
        one = sum(self.calibration.update[tlp.task] for tlp in passes)
        batches = self._number("reward-batches", 2)
        return steps / self._number("dds-every", 10) * batches * one

    def _mtl(self) -> float:
        tlps = self._selected("selection")
        batches = {tlp: self.batches(tlp) for tlp in tlps}
        epochs = self._number("epochs", 5)
        matched = [each.run for flag, each in self.run.models() if flag == "match-updates"]
        if matched:
            # As many updates as that run has inner steps.
            other = Cost(self.protocol, self.calibration, matched[0])
            epochs = other._number("epochs", 5)
        spent = epochs * sum(n * self.calibration.update[t.task] for t, n in batches.items())
        return spent + self._scores(tlps, "dev")

    def _finetune(self) -> float:
        return sum(self._one(tlp) for tlp in self._selected("tlp"))

    def _one(self, tlp: TLP) -> float:
        task, rates = tlp.task, str(self.run.flags.get("lr", ""))
        number = len(rates.split(",")) if rates else NUM_RATES[task]
        number = number if rates or self.run.kind == "finetune" else 1
        epochs = self._number("epochs", EPOCHS[task])
        updates = self._number("updates", max(1, int(epochs * self.batches(tlp))))
        evaluations = min(MOST_EVALUATIONS, max(1, math.ceil(updates / self.batches(tlp))))
        dev = evaluations * self._scores([tlp], "dev")
        one = self.calibration.training + updates * self.calibration.update[task] + dev
        return number * one + self._scores([tlp], "test")

    def _evaluate(self) -> float:
        text = str(self.run.flags.get("tlps", ""))
        tlps = [TLP.parse(name) for name in text.split(",")] if text else [*EXTERNAL_TLPS]
        return self._scores(tlps, "test")


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 0.0
