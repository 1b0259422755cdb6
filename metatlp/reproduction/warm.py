"""Scripts in processes that have imported everything already: a start costs a second less than ten.

    python -m metatlp.reproduction warm SOCKET

imports what the scripts import, and then forks once per order. It ends with its standard input,
that is with the process that started it, and has its children stop: they save and end, as on any
SIGTERM. On a CPU only: a process that has touched a GPU cannot be forked. Without it a script is
started as usual.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

VARIABLE = "METATLP_WARM"  # names the socket
SCRIPTS = ("train_meta.py", "train_mtl.py", "finetune.py", "evaluate_zeroshot.py")


def run(words: Sequence[str], root: Path, log: IO[bytes]) -> int:
    """Run `python WORDS` in the folder `root`; the exit code, or minus the signal that ended it.

    Args:
        log: where its output goes.
    """
    server = _connect()
    if server is None:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=root, stdout=log, stderr=log).returncode
    with server:
        order = json.dumps({"words": list(words), "root": str(root)}).encode() + b"\n"
        socket.send_fds(server, [order], [log.fileno()])
        answer = b""
        while part := server.recv(4096):
            answer += part
    # Without an answer the server was ended, and the run with it.
    return int(answer) if answer else -signal.SIGTERM


def _connect() -> socket.socket | None:
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def start(root: Path, threads: int) -> subprocess.Popen:
    """Start the server, and have `run` of this process and its children use it.

    Args:
        threads: of each script.

    Returns:
        The server, once it can take orders. It ends when its standard input is closed.
    """
    path = Path(tempfile.mkdtemp(prefix="metatlp-")) / "warm"
    command = [sys.executable, "-P", "-m", "metatlp.reproduction", "warm", str(path)]
    own = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    pipe = subprocess.PIPE
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=root, env=own)
    assert server.stdout is not None
    if server.stdout.readline():
        os.environ[VARIABLE] = str(path)
    return server


def serve(path: str) -> None:
    """Take orders until standard input ends; says on standard output when it can."""
    import_everything()
    # Out of the sight of the children's garbage collections, each of which would look at all of it.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        Server(listener).run()
    shutil.rmtree(Path(path).parent, ignore_errors=True)


class Server:
    """Forks a child per order, and tells who asked how it ended."""

    def __init__(self, listener: socket.socket):
        self.listener = listener
        self.children: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> pid, who asked
        self.selector = selectors.DefaultSelector()
        self.going_on = True
        self._watch(sys.stdin.fileno(), self._read_input)
        self._watch(listener, self._accept)

    def run(self) -> None:
        """Until standard input ends; then the children are asked to stop, and waited for."""
        while self.going_on:
            for key, _ in self.selector.select():
                key.data()
        for pid, _ in self.children.values():
            os.kill(pid, signal.SIGTERM)
        for pid, _ in self.children.values():
            os.waitpid(pid, 0)

    def _watch(self, what: Any, then: Callable[[], None]) -> None:
        self.selector.register(what, selectors.EVENT_READ, then)

    def _read_input(self) -> None:
        self.going_on = bool(os.read(sys.stdin.fileno(), 4096))

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        order, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 1)
        while not order.endswith(b"\n"):
            order += client.recv(1 << 20)
        pid = os.fork()
        if pid == 0:
            self.listener.close()
            client.close()
            _become(json.loads(order), descriptors[0])
        os.close(descriptors[0])
        child = os.pidfd_open(pid)
        self.children[child] = pid, client
        self._watch(child, lambda: self._ended(child))
        self._watch(client, lambda: self._left(child))

    def _left(self, child: int) -> None:
        """Who asked has gone: nobody waits for the child, if it has not just ended."""
        if child not in self.children:
            return
        pid, client = self.children[child]
        self.selector.unregister(client)
        os.kill(pid, signal.SIGTERM)

    def _ended(self, child: int) -> None:
        pid, client = self.children.pop(child)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.selector.unregister(child)
        os.close(child)
        with contextlib.suppress(KeyError):
            self.selector.unregister(client)
        with contextlib.suppress(OSError), client:
            client.sendall(str(code).encode())


def _become(order: dict[str, Any], log: int) -> None:
    """In the child: as `python WORDS >LOG 2>&1` in the project's folder; never returns."""
    code: Any = 1
    try:
        os.chdir(order["root"])
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        words = order["words"]
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def import_everything() -> None:
    """What the scripts import, and what a process does once: a model loaded, a column written."""
    from tempfile import TemporaryDirectory

    import pyarrow as pa
    from transformers import AutoModelForTokenClassification, BertConfig, BertModel

    root = Path(__file__).resolve().parents[2]
    for script in SCRIPTS:
        runpy.run_path(str(root / script))
    with TemporaryDirectory() as folder:
        config = BertConfig(
            vocab_size=8,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
        BertModel(config).save_pretrained(folder)
        AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=False)
    pa.array([0])
