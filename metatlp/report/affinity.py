"""Which tasks and languages help each other: cosines between the gradients of TLPs.

    python -m metatlp.report.affinity --checkpoint runs/meta/checkpoints/step_000500 --dev-batches 8

At theta of a checkpoint, each TLP's gradient is taken on K batches of its dev data, without
dropout, in two halves: cosines of the whole are printed and plotted, and the two halves say how
much of them is noise.
n: TLPs; P: elements of the arena; K: batches per TLP.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from metatlp.data.streams import BatchStream
from metatlp.engine import checkpoint
from metatlp.engine.adamw import InnerConfig, InnerState
from metatlp.engine.demo import build_demo
from metatlp.engine.gradients import Gradients, compared_spans, cosines, inner_products
from metatlp.engine.grid_data import load_dev
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.placement import Placement, start
from metatlp.engine.reopen import load_theta, saved_arguments
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import load_tokenizer
from metatlp.report.figure import load_pyplot
from metatlp.script import ScriptParser, exit_code
from metatlp.seeds import derive_seed
from metatlp.tasks.task import Padding

PROGRAM = "python -m metatlp.report.affinity"


@dataclass(frozen=True)
class Affinity:
    """Cosines between the gradients of n TLPs, and how far to trust them. NaN where a gradient is
    zero or not finite.

    Attributes:
        cosines: (n, n) of the gradients over all batches; 1 on the diagonal.
        noise: (n, n) estimated standard error of each: half of what the cosines from the two halves
            of the batches differ by.
        stability: (n,) cosine of a TLP's gradients from the two halves.
        norms: (n,) 2-norm of the mean gradient.
    """

    cosines: np.ndarray
    noise: np.ndarray
    stability: np.ndarray
    norms: np.ndarray

    @classmethod
    def of(cls, products: np.ndarray, num_batches: int) -> Affinity:
        """From the inner products of 2n vectors: for each TLP the summed gradients of the first
        half of its batches, and of the second.

        Args:
            products: (2n, 2n) float64.
            num_batches: K.
        """
        n = len(products) // 2
        halves = [*range(0, 2 * n, 2), *range(1, 2 * n, 2)]
        products = products[np.ix_(halves, halves)]
        first, cross, second = products[:n, :n], products[:n, n:], products[n:, n:]
        whole = first + cross + cross.T + second
        of_halves = cosines(products)
        return cls(
            cosines=cosines(whole),
            noise=np.abs(of_halves[:n, :n] - of_halves[n:, n:]) / 2,
            stability=np.diag(of_halves[:n, n:]),
            norms=np.sqrt(np.maximum(np.diag(whole), 0)) / num_batches,
        )


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return exit_code(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> None:
    """Measure, print, and write a JSON file and a figure.

    Raises:
        InputError: a bad flag, checkpoint or data.
    """
    flags = _parser().parse_args(argv)
    if flags.dev_batches < 2:
        raise InputError(f"--dev-batches {flags.dev_batches}: must be 2 or more, for two halves")
    pyplot = load_pyplot()
    placement = start("none", "")
    if placement.world > 1:
        raise InputError(f"runs in one process, not {placement.world}")
    path = Path(flags.checkpoint)
    saved = checkpoint.load(path)
    tlps, affinity = measure(
        saved, placement, flags.dev_batches, flags.reward_params, flags.tlps, _moved(flags)
    )
    names = [str(tlp) for tlp in tlps]
    for line in table(names, affinity):
        print(line)
    # Beside the checkpoints, in the run's folder.
    target = Path(flags.output or path.resolve().parent.parent / f"affinity_{path.name}")
    record = {
        "checkpoint": str(path),
        "dev_batches": flags.dev_batches,
        "parameters": flags.reward_params,
        "tlps": names,
        **{name: _as_json(values) for name, values in asdict(affinity).items()},
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_suffix(".json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        _draw(pyplot, names, affinity, target.with_suffix(".png"))
    except OSError as error:
        raise InputError(f"--output: cannot write {target}: {error}") from error
    print(f"wrote {target.with_suffix('.json')} and {target.with_suffix('.png')}")


def measure(
    saved: checkpoint.Checkpoint,
    placement: Placement,
    num_batches: int,
    parameters: str = "all",
    tlps: str | None = None,
    moved: dict[str, Any] | None = None,
) -> tuple[list[TLP], Affinity]:
    """The affinities at a checkpoint's theta.

    Args:
        num_batches: K, 2 or more.
        parameters: `all` or `encoder`.
        tlps: as `--dev-tlps`; None: those that trained.
        moved: flags of the run that have another value now, such as `data_dir`.

    Raises:
        InputError: a TLP without dev data or head, or data that cannot be read.
    """
    data, meta = saved_arguments(saved, moved or {})
    trained = [name for name in saved.state["data"] if not name.startswith("dev ")]
    if data.source == "demo":
        meta = build_demo(data, meta, placement, print)
    assert meta.model is not None
    tokenizer = load_tokenizer(meta.tokenizer or meta.model)
    splits = load_dev(data, tokenizer, tlps or ",".join(trained), placement, print)
    model, arena = load_theta(saved, meta, placement.device)
    for tlp in splits:
        if tlp.task not in model.models:
            raise InputError(f"--tlps {tlp}: the checkpoint has no head for '{tlp.task}'")
    sizes, seed = data.batch_sizes(), derive_seed(meta.seed, "affinity")
    streams = {t: BatchStream(s, t, sizes[t.task], seed) for t, s in splits.items()}
    order = list(splits)
    for tlp, stream in streams.items():
        if num_batches > stream.batches_per_epoch:
            raise InputError(
                f"--dev-batches {num_batches}: {tlp} has dev data for {stream.batches_per_epoch}; "
                "the two halves would hold the same examples"
            )
    rows = torch.empty(len(order), 2, len(arena), device=placement.device)
    autocast = placement.accelerator.autocast
    at_theta = ReplicatedParameters(model, arena, InnerConfig(), autocast, state=InnerState.none())
    gradients = Gradients(
        "affinity",
        at_theta,
        streams,
        Padding.of(tokenizer),
        num_batches,
        dropout=False,
        seed=meta.seed,
    )
    halves = slice(0, num_batches // 2), slice(num_batches // 2, None)
    with closing(gradients):
        gradients.schedule(order, 0)
        for of_tlp, tlp in zip(rows, tqdm(order, "gradients", leave=False), strict=True):
            gradients.fill(of_tlp, tlp, 0, halves)
    spans = compared_spans(at_theta.pieces, len(arena), parameters)
    products = inner_products(rows.flatten(0, 1), spans)
    return order, Affinity.of(products, num_batches)


def table(names: Sequence[str], affinity: Affinity) -> list[str]:
    """Cosines in percent, n columns; the diagonal shows the stability of a TLP's own gradient."""
    width = max(map(len, names))
    shown = affinity.cosines.copy()
    np.fill_diagonal(shown, affinity.stability)
    lines = [
        "cosines of gradients, in percent; on the diagonal: of a TLP's gradients from the two "
        "halves of its batches",
        " " * width + "".join(f"{i + 1:>4}" for i in range(len(names))) + "   noise     norm",
    ]
    for i, name in enumerate(names):
        cells = "".join("   -" if np.isnan(c) else f"{100 * c:>4.0f}" for c in shown[i])
        others = np.delete(affinity.noise[i], i)
        noise = 100 * float(np.sqrt(np.mean(others**2))) if len(others) else float("nan")
        lines.append(f"{name:<{width}}{cells}{noise:>8.1f}{affinity.norms[i]:>9.3g}")
    lines.append("noise: root mean square over the row of the cosines' standard errors, percent")
    return lines


def _parser() -> ScriptParser:
    parser = ScriptParser(PROGRAM, __doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder of a checkpoint of a run")
    parser.add_argument(
        "--dev-batches", type=int, default=8, help="batches (K) of dev data per TLP, 2 or more [8]"
    )
    parser.add_argument(
        "--tlps",
        help="TLPs like qa_en,ner_hi, lang:hi or task:nli [those that trained]",
    )
    parser.add_argument(
        "--reward-params",
        choices=("all", "encoder"),
        default="all",
        help="parameters whose gradients are compared [all]",
    )
    parser.add_argument("--data-dir", help="where the run's data lies now, if it was moved")
    parser.add_argument("--cache-dir", help="folder for encoded examples, if not the run's")
    parser.add_argument(
        "--output", help="write OUTPUT.json and OUTPUT.png [RUN/affinity_step_NNNNNN]"
    )
    return parser


def _moved(flags: Any) -> dict[str, Any]:
    chosen = {"data_dir": flags.data_dir, "cache_dir": flags.cache_dir}
    return {name: value for name, value in chosen.items() if value is not None}


def _as_json(values: np.ndarray) -> list[Any]:
    """Nested lists with None for NaN."""
    found: list[Any] = np.where(np.isnan(values), None, values).tolist()  # type: ignore[call-overload]
    return found


def _draw(pyplot: Any, names: Sequence[str], affinity: Affinity, path: Path) -> None:
    shown = affinity.cosines.copy()
    np.fill_diagonal(shown, affinity.stability)
    side = 2 + 0.3 * len(names)
    figure, axes = pyplot.subplots(figsize=(side + 1, side))
    image = axes.imshow(shown, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_title("cosines of gradients (diagonal: of two halves)", fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.04)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
