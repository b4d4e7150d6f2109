"""When to ask again, when to wait, and when to stop asking: one gate for all workers of a run."""

import asyncio
import random
import time
from dataclasses import dataclass

from apc_cli.errors import TryAgainLater

_DAY = 86_400.0
_FAILURES_PER_WORKER = 3


@dataclass(frozen=True)
class Patience:
    """How much a run puts up with.

    Attributes:
        attempts: requests for one item before it is given up.
        unreadable: replies that are no chat completion before an item is given up.
        deadline: seconds for one whole attempt, however slowly bytes drip in.
        first_pause: seconds before the first retry; doubled each time.
        longest_pause: upper limit of that.
        longest_wait: seconds without any success that a rate limit may cost.
        failures_in_a_row: failed attempts of all workers together that end the run; three for
            each worker where that is more.
        silence: seconds without any success that must have passed, too.
        drain: seconds that replies under way get when the run is cancelled.
        poll: seconds between two looks at an unfinished batch; the first ones come sooner.
    """

    attempts: int = 6
    unreadable: int = 3
    deadline: float = 120.0
    first_pause: float = 0.5
    longest_pause: float = 20.0
    longest_wait: float = 600.0
    failures_in_a_row: int = 20
    silence: float = 30.0
    drain: float = 3.0
    poll: float = 60.0


class Gate:
    """Every worker passes here before a request, and reports here what came of it."""

    def __init__(self, patience: Patience, server: str, workers: int = 1) -> None:
        self._patience = patience
        self._most_failures = max(patience.failures_in_a_row, _FAILURES_PER_WORKER * workers)
        self._last_success = time.monotonic()
        self._server = server
        self._closed = asyncio.Event()
        self._resume_at = 0.0
        self._limited_since: float | None = None
        self._failures = 0

    async def open(self) -> bool:
        """Waits until asking is allowed; False when the run is over."""
        while not self._closed.is_set() and (delay := self._resume_at - time.monotonic()) > 0:
            await self._sleep(delay + random.uniform(0.0, min(1.0, delay / 10)))
        return not self._closed.is_set()

    def close(self) -> None:
        """Ends the run: nobody passes any more, and whoever waits wakes up."""
        self._closed.set()

    def succeeded(self) -> None:
        """A usable reply arrived."""
        self._failures = 0
        self._last_success = time.monotonic()
        self._limited_since = None

    def failed(self, reason: str, pause: float | None = None) -> None:
        """An attempt failed; in a run that is over already this is no news.

        Raises:
            TryAgainLater: too many attempts in a row failed, for too long.
        """
        if self._closed.is_set():
            return
        self._failures += 1
        silent = time.monotonic() - self._last_success >= self._patience.silence
        if silent and self._failures >= self._most_failures:
            raise TryAgainLater(
                f"{self._server} failed {self._failures} times in a row, at last with: {reason}"
            )
        if pause is not None:
            self._pause_all(pause)

    def limited(self, attempt: int, pause: float | None = None) -> None:
        """The server asks everybody to slow down.

        Raises:
            TryAgainLater: waiting would take longer than patience allows.
        """
        shortest = self._patience.first_pause
        self._pause_all(self._backoff(attempt) if pause is None else max(pause, shortest))

    async def back_off(self, attempt: int) -> None:
        """Waits before an item's next attempt, longer each time."""
        await self._sleep(self._backoff(attempt))

    def _pause_all(self, pause: float) -> None:
        if self._closed.is_set():
            return
        now = time.monotonic()
        if self._limited_since is None:
            self._limited_since = now
        if now + pause - self._limited_since > self._patience.longest_wait:
            raise TryAgainLater(f"{self._server} limits requests {_until(pause)}")
        self._resume_at = max(self._resume_at, now + pause)

    def _backoff(self, attempt: int) -> float:
        doubled = self._patience.first_pause * 2.0 ** min(attempt - 1, 30)
        return min(doubled, self._patience.longest_pause) * random.uniform(0.75, 1.0)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            pass


def _until(pause: float) -> str:
    if pause > _DAY:
        return "for more than a day"
    return "until " + time.strftime("%H:%M", time.localtime(time.time() + pause))
