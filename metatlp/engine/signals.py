"""SIGTERM and SIGINT end a run after its running meta step, or at once where nothing is lost.

Knows processes; knows nothing of training.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds in which signals count as one request: schedulers signal every process of a job, and
# launchers pass on to their processes what they get.
_ONE_REQUEST = 2.0


class Stopped(BaseException):
    """A signal ended the run; the message is one line for the user, the exit code 0.

    Like KeyboardInterrupt not an Exception, so that nothing on the way takes it for an error.
    """


class StopRequest:
    """Within the context the first signal asks the run to stop; a later one acts as usual.

    Args:
        outcome: what to tell the user when a signal ends the run at once, as it does until
            `after_step` is called.

    Attributes:
        received: name of the signal that came first.
    """

    def __init__(self, outcome: str) -> None:
        self.received: str | None = None
        self._outcome: str | None = outcome
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def after_step(self, gather: Callable[[list[Any]], list[Any]]) -> None:
        """From here on a signal is only noted in `received`. Every rank takes part.

        Args:
            gather: the items of all ranks. A rank that a signal ended before it came here has left,
                and gathering fails.

        Raises:
            Stopped: on every rank, if a signal came before on one.
        """
        outcome, self._outcome = self._outcome, None
        names = [self.received]
        try:
            names = gather(names)
        except RuntimeError:
            # Signals are for all ranks: this one's has come while it waited.
            if self.received is None:
                raise
            names = [self.received]
        first = next((name for name in names if name is not None), None)
        if first is not None:
            raise Stopped(f"{first}: {outcome}")

    def at_once(self, outcome: str) -> None:
        """From here on a signal raises Stopped; one that was noted does so now."""
        self._outcome = outcome
        self._raise_if_received()

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A run that is ending because of a signal still passes over its repetitions.
        if self.received is None:
            self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._since = signal.Signals(number).name, now
            self._raise_if_received()
        elif now - self._since > _ONE_REQUEST:
            self._restore()
            signal.raise_signal(number)

    def _raise_if_received(self) -> None:
        if self.received is not None and self._outcome is not None:
            raise Stopped(f"{self.received}: {self._outcome}")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
