"""Runs of train_meta.py as forks of this process: everything is imported once, for all of them.

Reads one JSON object per line and answers each with one:
    {"start": ARGUMENTS, "out": FILE, "err": FILE} -> {"pid": N}, leader of its own session
    {"wait": N} -> {"code": exit code, or minus the signal that killed it}
"""

import importlib.util
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from metatlp.engine.command_line import run_script

SCRIPT = Path(__file__).resolve().parents[3] / "train_meta.py"
spec = importlib.util.spec_from_file_location("train_meta", SCRIPT)
train_meta = importlib.util.module_from_spec(spec)
sys.modules["train_meta"] = train_meta
spec.loader.exec_module(train_meta)


def run(arguments, out, err):
    """In the child: as `python train_meta.py ARGUMENTS >OUT 2>ERR`; never returns."""
    code = 1
    try:
        os.setsid()
        # A shell starts what it runs in the background with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv = [str(SCRIPT), *arguments]
        run_script(train_meta.main)
    except SystemExit as leaving:
        code = leaving.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


for line in sys.stdin:
    order = json.loads(line)
    if "start" in order:
        pid = os.fork()
        if pid == 0:
            run(order["start"], order["out"], order["err"])
        answer = {"pid": pid}
    else:
        answer = {"code": os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])}
    print(json.dumps(answer), flush=True)
