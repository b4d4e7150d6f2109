"""SIGTERM and Ctrl-C end a run, however deep in other libraries they arrive."""

import contextlib
import os
import signal
import sys

_AGAIN = 2.0
"""Seconds after which a SIGTERM is raised again, in a run that has not ended."""

_LEFT = 10.0
"""Seconds that a run which a signal ended has to leave."""
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes."""


class Terminated(SystemExit):
    """A SIGTERM came."""


class Termination(contextlib.AbstractContextManager["Termination"]):
    """Within it a SIGTERM raises Terminated in the main thread.

    A library can swallow that with a bare `except`, or make another exception of it. So `came`
    remembers the signal, and Terminated is raised again every two seconds (not on Windows, which
    has no such timers).
    """

    came = False
    _over = False

    def __enter__(self) -> "Termination":
        signal.signal(signal.SIGTERM, self._stop)
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *raised: object) -> None:
        self._over = True
        self._raise_again_after(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.unraisablehook = sys.__unraisablehook__

    def _stop(self, number: int, frame: object) -> None:
        if self._over:
            return
        self.came = True
        self._raise_again_after(_AGAIN)
        raise Terminated(TERMINATED)

    def _raise_again_after(self, seconds: float) -> None:
        if hasattr(signal, "setitimer") and (seconds or self.came):
            signal.signal(signal.SIGALRM, self._stop)
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def _unraisable(self, told: "sys.UnraisableHookArgs") -> None:
        """A signal in a destructor is no fault of its: nothing is said."""
        if not issubclass(told.exc_type, Terminated):
            sys.__unraisablehook__(told)


def leave_with(code: int) -> None:
    """From here on a SIGTERM ends the process at once, and so does time after a signal.

    What is left is undone by handlers from whose midst nothing may be raised; a thread that was
    just being started when the signal came may wait for ever for work.
    """

    def leave(number: int, frame: object) -> None:
        os._exit(code)

    signal.signal(signal.SIGTERM, leave)
    if hasattr(signal, "setitimer") and code in (INTERRUPTED, TERMINATED):
        signal.signal(signal.SIGALRM, leave)
        signal.setitimer(signal.ITIMER_REAL, _LEFT)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is what this error was made of."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
