"""Ends Python code of others that takes too long."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooLong(Exception):
    """The time is over."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TooLong in what takes more seconds of processor time, however busy the machine is.

    Nothing is ended outside of the main thread, nor where the system has no such timers (Windows).
    """
    elsewhere = threading.current_thread() is not threading.main_thread()
    if elsewhere or not hasattr(signal, "SIGVTALRM"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
