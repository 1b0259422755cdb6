"""A rank of a world that only waits for one another, with a quick heartbeat.

heartbeats.py PART...   what rank 0, 1, ... does in the middle: the names of the functions below
heartbeats.py FILE ...  run a script with such a heartbeat
"""

import atexit
import ctypes
import os
import runpy
import signal
import sys
import time

import torch.distributed as dist

from metatlp.engine import heartbeat
from metatlp.engine.arguments.command_line import run_script
from metatlp.engine.placement import AgreedError, start
from metatlp.engine.signals import Stopped
from metatlp.errors import InputError

heartbeat.BEAT, heartbeat.SILENT = 0.25, 24


def work():
    pass


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def err():
    raise RuntimeError("of my own, about gloo")


def refuse():
    raise InputError("bad")


def agree():
    raise AgreedError("bad for all")


def be_signalled():
    raise Stopped("SIGTERM: stopped")


def be_slow():
    """Python's lock is held for longer than a lost rank is silent after an error."""
    ctypes.PyDLL(None).usleep(4_000_000)


def end_late():
    """See main."""


def main(parts):
    start("none", "")
    part = globals()[parts[int(os.environ["RANK"])]]
    for _ in range(3):
        dist.barrier()
    part()
    for _ in range(3):
        dist.barrier()
    if part is end_late:
        time.sleep(8)  # longer than a lost rank is silent
    return 0


try:
    if sys.argv[1].endswith(".py"):
        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name="__main__")
    run_script(main)
except Exception:
    sys.excepthook(*sys.exc_info())
    sys.exit(1)
finally:
    # As Python does at its end, and a fork of the tests does not.
    atexit._run_exitfuncs()
