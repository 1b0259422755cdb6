"""Which rank is lost: every rank counts its beats in the processes' store and looks at the others'.

A collective waits for a rank that is gone as long as for one that is slow, which is hours
(mesh.TIMEOUT), and says at best that a connection is closed, not whose. A thread beats on through
whatever its process is busy with. Knows processes and their store; knows nothing of training.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import threading
import time
from contextlib import suppress

import torch.distributed as dist

BEAT = 1.0  # seconds
# Beats of one's own in which another's count stands still until it is lost. Not seconds, so that a
# job that was suspended as a whole goes on. Many: a library may keep Python's lock for long.
SILENT = 60
# The same once a collective has failed or the store is gone, for then some process is gone.
SUSPECT = 10
# What a rank adds to its count when it ends.
_FINISHED = 2**40
_LEFT = -(2**40)
# gloo's errors have no class of their own, but begin with the place in its source.
_GLOO = re.compile(r"\[(enforce fail at )?\S*gloo/\S+:\d+\] ")
_ADVICE = "the last checkpoint is as it was: go on with the same command and --resume auto"


class Heartbeat:
    """The beats of all ranks, as one of them sees them. Rank 0 looks at all, the others at it.

    Args:
        store: with a connection of its own, or another's waiting would stop the beat.

    Every method raises a RuntimeError if the store cannot be reached.
    """

    def __init__(self, store: dist.Store, rank: int, world: int) -> None:
        self._store, self._rank, self._world = store, rank, world
        others = range(1, world) if rank == 0 else range(1)
        # Rank -> its count, and for how many beats of this rank that has been the same.
        self._seen = {other: (0, 0) for other in others}

    def beat(self, failed: bool = False) -> str | None:
        """Count on, and look at the others.

        Args:
            failed: whether a collective has failed here.

        Returns:
            None if all is well. Otherwise the job must end, with this line unless it is empty: one
            rank tells it.
        """
        self._add(self._rank, 1)
        if self._add("told", 0):
            return ""
        self._look()
        line = self._verdict(SUSPECT if self._add("failed", int(failed)) else SILENT)
        return line if line is None or self._add("told", 1) == 1 else ""

    def end(self, finished: bool) -> None:
        """The last that is heard of this rank.

        Args:
            finished: whether the others can do without it.
        """
        self._add(self._rank, _FINISHED if finished else _LEFT)

    def beating(self) -> dict[int, int]:
        """The counts of those looked at that have not ended, nor stood still when last seen."""
        counts = {r: self._add(r, 0) for r, (_, beats) in self._seen.items() if beats < SUSPECT}
        return {rank: count for rank, count in counts.items() if 0 <= count < _FINISHED}

    def _look(self) -> None:
        for rank, (before, beats) in self._seen.items():
            count = self._add(rank, 0)
            self._seen[rank] = (count, beats + 1 if count == before else 0)

    def _verdict(self, limit: int) -> str | None:
        silent = {
            rank: count
            for rank, (count, beats) in self._seen.items()
            if beats >= limit and count < _FINISHED
        }
        lost = [rank for rank, count in silent.items() if count >= 0]
        if lost:
            return lost_line(
                self._named(lost),
                f"no sign of life for {limit * BEAT:g} seconds: killed, stopped, out of memory, or "
                "its machine is gone",
            )
        if silent:
            ended = f"{self._named([*silent])} ended before the others, for a reason of its own"
            return f"{ended}; {_ADVICE}"
        return None

    def _named(self, ranks: list[int]) -> str:
        return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))} of {self._world}"

    def _add(self, key: str | int, number: int) -> int:
        """What the key holds after adding; unlike `get` this never waits for it to appear."""
        return self._store.add(str(key), number)


def lost_line(who: str, why: str) -> str:
    """What is told of a rank, or of the holder of the store, that is lost."""
    return f"{who} lost ({why}); {_ADVICE}"


class Watch:
    """Two daemon threads: one beats, the other sees to it that the store answers.

    Either ends the process where the job must end, whatever the main thread waits for.

    Args:
        holder: who holds the store, for the line that it is gone.
        holds: whether this process does.
        speaks: whether this rank tells that the store is gone. The others cannot be asked then.
    """

    def __init__(self, heartbeat: Heartbeat, holder: str, holds: bool, speaks: bool) -> None:
        self._heartbeat = heartbeat
        self._holder, self._holds, self._speaks = holder, holds, speaks
        self._over = threading.Event()
        self._failed = False  # a collective, here
        self._broken = False  # the connection to the store
        self._unanswered = 0  # beats since the store answered
        self._threads = [
            threading.Thread(target=work, name=f"heartbeat{work.__name__}", daemon=True)
            for work in (self._beat, self._listen)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self._at_exit)

    def explain(self) -> None:
        """A collective has failed: wait for the line that names a rank, which ends this process.

        Returns only if all ranks are there.
        """
        # A launcher may pass a signal on now, to end those that are left; they end by themselves.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self._failed = True
        self._over.wait(2 * SUSPECT * BEAT)

    def end(self, finished: bool) -> None:
        """Beat no more; see the function of this name."""
        if self._over.is_set():
            return
        with suppress(RuntimeError):
            self._heartbeat.end(finished)
        self._over.set()
        for thread in self._threads:
            thread.join(BEAT)
        if finished:
            self._outlast(SILENT)

    def _beat(self) -> None:
        answered = time.monotonic()
        while not self._over.wait(BEAT):
            try:
                line = self._heartbeat.beat(self._failed)
            except RuntimeError:
                # One that was stopped, and goes on when the others have ended, knows nothing.
                self._speaks &= time.monotonic() - answered < SILENT * BEAT
                self._broken = True
                return
            if line is not None:
                self._leave(line)
            self._unanswered, answered = 0, time.monotonic()

    def _listen(self) -> None:
        while not self._over.wait(BEAT):
            self._unanswered += 1
            beats = SUSPECT if self._broken else SILENT
            # The speaker first: a launcher may end all once one has ended.
            if self._unanswered >= beats + (0 if self._speaks else 2):
                if self._speaks:
                    why = f"the processes' store has not answered for {beats * BEAT:g} seconds"
                    _tell(lost_line(self._holder, why))
                os._exit(1)

    def _leave(self, line: str) -> None:
        if line:
            _tell(line)
        with suppress(RuntimeError):
            self._heartbeat.end(finished=False)
        self._outlast(SUSPECT)
        os._exit(1)

    def _outlast(self, beats: int) -> None:
        """The holder of the store leaves last: once the others have ended or stand still."""
        before: dict[int, int] = {}
        since = time.monotonic()
        with suppress(RuntimeError):
            while self._holds and dist.is_initialized() and (counts := self._heartbeat.beating()):
                if counts != before:
                    before, since = counts, time.monotonic()
                if time.monotonic() - since > beats * BEAT:
                    return
                time.sleep(BEAT / 50)

    def _at_exit(self) -> None:
        # After a traceback has been printed. Whoever has not said how it ends has finished.
        self.end(finished=True)
        self._outlast(SUSPECT)


def _tell(line: str) -> None:
    # Where there is a progress bar, its line has no end.
    name = os.path.basename(sys.argv[0])
    print(f"\n{name}: error: {line}", file=sys.stderr, flush=True)


_watch: Watch | None = None


def begin(rank: int, world: int) -> None:
    """Start this process's beat, once all have met. Every rank does; one process alone has none.

    Raises:
        torch.distributed.DistError: the store cannot be reached.
    """
    global _watch
    if world == 1 or _watch is not None:
        return
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    in_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    # A launcher's store outlives its processes, and the next ones count from 0.
    name = [f"heartbeat_{os.urandom(8).hex()}"]
    dist.broadcast_object_list(name, src=0)
    store = dist.PrefixStore(name[0], dist.TCPStore(host, port, wait_for_workers=False))
    # A machine that is lost takes the store along; a rank of another machine is to tell it.
    on_first_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    _watch = Watch(
        Heartbeat(store, rank, world),
        holder=f"the launcher on {host}" if in_launcher else f"rank 0 of {world}",
        holds=rank == 0 and not in_launcher,
        speaks=rank == (on_first_machine if on_first_machine < world else 1),
    )


def explain(error: RuntimeError) -> None:
    """If a collective has failed because a rank is gone, end this process; one rank says which.

    Returns if the error is another one, or all ranks are there.
    """
    if _watch is not None and (isinstance(error, dist.DistError) or _GLOO.match(str(error))):
        _watch.explain()


def end(finished: bool) -> None:
    """End this process's beat, if it has one.

    Args:
        finished: whether the others can do without this rank. If not, they end too.
    """
    if _watch is not None:
        _watch.end(finished)
