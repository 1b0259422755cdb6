"""Runs of scripts as forks of this process: everything is imported once, for all of them.

Reads one JSON object per line and answers each with one:
    {"script": FILE, "arguments": [...], "environment": {...}, "out": FILE, "err": FILE}
        -> {"pid": N}, leader of its own session
    {"wait": N} -> {"code": exit code, or minus the signal that killed it}
    {"import": [MODULE, ...]} -> {}, once they are there for all runs to come
"""

import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from transformers import AutoModelForTokenClassification, BertConfig, BertModel

runpy.run_path(str(Path(__file__).resolve().parents[3] / "train_meta.py"))

# Half of what a small run takes is done once in a process, when its first model is loaded (a table
# of regular expressions) and its first column written (pyarrow imports pandas).
with TemporaryDirectory() as folder:
    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=8, num_hidden_layers=1, **sizes)).save_pretrained(folder)
    AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=False)
pa.array([0])


def run(script, arguments, environment, out, err):
    """In the child: as `python SCRIPT ARGUMENTS >OUT 2>ERR`; never returns."""
    code = 1
    try:
        os.setsid()
        # A shell starts what it runs in the background with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
        os.environ.update(environment)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        code = 0
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
    if "wait" in order:
        answer = {"code": os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])}
    elif "import" in order:
        for name in order["import"]:
            importlib.import_module(name)
        answer = {}
    else:
        pid = os.fork()
        if pid == 0:
            run(**order)
        answer = {"pid": pid}
    print(json.dumps(answer), flush=True)
