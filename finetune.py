"""Finetune on one task-language pair at a time: from the plain encoder (the single-TLP baseline of
the paper), or from a model of train_meta.py or train_mtl.py.

    accelerate launch finetune.py --tlp qa_hi --init-from RUN --data-dir DATA

Several TLPs, numbers of training examples, seeds and learning rates in one call are trained one
after the other; the processes share every batch.

Read top to bottom: parse, place, load, finetune, write.
"""

from __future__ import annotations

import sys
from pathlib import Path

# This folder holds kernels/, which would shadow the Hugging Face package that transformers imports.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

from collections.abc import Sequence

from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import EncodingArguments
from metatlp.engine.arguments.presets import DEMO_FINETUNE, values_of
from metatlp.engine.arguments.supervised import FinetuneArguments, FinetuneOutputArguments
from metatlp.engine.demo import demo_lines
from metatlp.engine.grid_data import open_source
from metatlp.engine.opening import open_run
from metatlp.engine.placement import start
from metatlp.engine.run_log import RunLog, start_tracker
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised.call import Call, finetunings, load_tlp, select_tlps, show
from metatlp.engine.supervised.finetuning import finetune, results
from metatlp.engine.supervised.init_from import init_defaults, init_folder, starting_point
from metatlp.report.finetuning import write_results

ARGUMENTS = (EncodingArguments, FinetuneArguments, FinetuneOutputArguments)


def main(argv: Sequence[str]) -> int:
    data, flags, run = parse_flags(ARGUMENTS, init_defaults, __doc__.splitlines()[0], argv)
    with StopRequest("stopped before the first update; there was nothing to save") as stop:
        placement = start(run.report_to, run.output_dir)
        log = RunLog(Path(run.output_dir), placement, marks=["*/seed_*", "*/shots_*"])
        call = Call(data, flags, run, placement, log, stop)
        lines = demo_lines(
            data, flags, values_of(DEMO_FINETUNE, data, flags, run), "defaults of the demo"
        )
        flags, tokenizer = open_run(
            data, flags, run, placement, log, call.resolved(), lines, begins_with=init_folder(flags)
        )
        with placement.together():
            call.open(flags, tokenizer, starting_point(flags), open_source(data, log.say_here))
            tlps = select_tlps(call)
        show(call, tlps)
        # All of it before any training, so that a bad file or flag costs no hours.
        loaded = {tlp: load_tlp(call, tlp) for tlp in tlps}
        if run.dry_run:
            return 0
        with placement.together():
            log.take_up(0)
            start_tracker(placement, run.report_to, call.resolved())
        with placement.together():
            call.check_folder()
        if all(finetune(one) for one in finetunings(call, loaded)):
            with placement.together():
                write_results(log, call.resolved(), results(call, loaded))
        with placement.together():
            log.close()
    return 0


if __name__ == "__main__":
    run_script(main)
