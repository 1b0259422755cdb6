"""The data of a protocol: its counts (Table 1, Figure 2), and what the most frequent label scores.

    python -m metatlp.reproduction data --data-dir DATA --model ENCODER --output-dir DIR

Writes data.json, as train_meta.py does, and scores.json with the system `majority`. Encodes
training and dev data into the cache on the way, where the runs find it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatlp.data.records import Example, Source, TaggedSentence, TextPair
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.encoder import EncoderArguments
from metatlp.engine.arguments.flags import flag
from metatlp.engine.arguments.presets import DEMO_DATA, is_demo
from metatlp.engine.build import data_record
from metatlp.engine.demo import build_demo
from metatlp.engine.grid_data import load_grid
from metatlp.engine.placement import start
from metatlp.engine.run_log import RunLog
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import scores
from metatlp.tasks.pair import PairClassification
from metatlp.tasks.tagging import Tagging


@dataclass(frozen=True)
class OutputArguments:
    """What is scored, and where it is written."""

    external: str | None = flag("more TLPs that the majority baseline is scored on, listed")
    eval_examples: int | None = flag("use only so many examples of every dev and test file")
    output_dir: str = flag("folder for data.json and scores.json", "runs/data")


ARGUMENTS = (DataArguments, EncoderArguments, OutputArguments)


def main(argv: Sequence[str]) -> int:
    data, encoder, output = parse_flags(ARGUMENTS, _defaults, (__doc__ or "").splitlines()[0], argv)
    placement = start("none", output.output_dir)
    log = RunLog(Path(output.output_dir), placement)
    if data.source == "demo":
        encoder = build_demo(data, encoder, placement, log.say_here)
    if encoder.model is None:
        raise InputError("--model: name the encoder whose tokenizer counts")
    tokenizer = load_tokenizer(encoder.tokenizer or encoder.model)
    grid_data = load_grid(data, tokenizer, output.eval_examples, placement, log.say_here)
    external = [TLP.parse(name) for name in output.external.split(",")] if output.external else []
    tlps = [tlp for tlp in (*grid_data.grid.tlps, *external) if tlp.task != "qa"]
    found = majority(grid_data.source, grid_data.grid.tlps, tlps, output.eval_examples)
    record = log.start_record({name: value for part in (data, encoder, output)
                               for name, value in vars(part).items()})  # fmt: skip
    log.write_json("args.json", record)
    log.write_json("scores.json", {**record, "scores": {"majority": {"test": found}}})
    # Last: it says that all is there.
    log.write_json("data.json", data_record(grid_data))
    log.say(f"wrote data.json and scores.json in {output.output_dir}")
    return 0


def _defaults(explicit: Any) -> dict[str, Any]:
    names = ("batch_size", "max_length", "qa_max_length", "qa_stride", "qa_query_length")
    return {name: DEMO_DATA[name] for name in names} if is_demo(explicit) else {}


def majority(
    source: Source, trained: Sequence[TLP], tlps: Sequence[TLP], limit: int | None
) -> dict[str, Any]:
    """TLP -> scores on its test data of always answering the most frequent training label.

    The label of the TLP's own training data; in a language without any, of all of its task's.

    Args:
        limit: use only so many examples of a test file.
    """
    labels = {tlp: Counter(_labels(source.read(tlp, "train").examples))
              for tlp in trained if tlp.task != "qa"}  # fmt: skip
    found = {}
    for tlp in tlps:
        of_task = sum((labels[t] for t in labels if t.task == tlp.task), Counter())
        label = (labels.get(tlp) or of_task).most_common(1)[0][0]
        examples = source.read(tlp, "test").examples[:limit]
        gold = _gold(examples)
        guessed: Any = [label if isinstance(one, str) else [label] * len(one) for one in gold]
        task = TASKS[tlp.task]
        assert isinstance(task, (PairClassification, Tagging))
        values = scores(task.compare(tlp, guessed, gold))
        found[str(tlp)] = {
            "examples": values.pop("examples"),
            "label": label,
            "labelled": True,
            "metrics": {
                name: {"value": value} for name, value in values.items() if name != "words"
            },
        }
    return found


def _labels(examples: Sequence[Example]) -> list[str]:
    gold = _gold(examples)
    return [label for one in gold for label in ([one] if isinstance(one, str) else one)]


def _gold(examples: Sequence[Example]) -> list[Any]:
    """A label per pair, tags per sentence."""
    found: list[Any] = []
    for example in examples:
        assert isinstance(example, (TaggedSentence, TextPair))
        found.append(list(example.tags) if isinstance(example, TaggedSentence) else example.label)
    return found


def script() -> None:
    """Run main as the scripts at the root are."""
    run_script(main)
