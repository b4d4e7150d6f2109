"""SIGTERM and Ctrl-C end a run, however deep in other libraries they arrive."""

import contextlib
import signal
import sys

_AGAIN = 2.0
"""Seconds after which a SIGTERM is raised again, in a run that has not ended."""


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
        raise Terminated(128 + signal.SIGTERM)

    def _raise_again_after(self, seconds: float) -> None:
        if hasattr(signal, "setitimer") and (seconds or self.came):
            signal.signal(signal.SIGALRM, self._stop)
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def _unraisable(self, told: "sys.UnraisableHookArgs") -> None:
        """A signal in a destructor is no fault of its: nothing is said."""
        if not issubclass(told.exc_type, Terminated):
            sys.__unraisablehook__(told)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is what this error was made of."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
