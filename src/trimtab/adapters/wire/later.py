"""A timer that wakes a worker when a batch is held back no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Later:
    """At most one timer at a time: the earliest that was asked for.

    Parameters
    ----------
    wake
        Called when it is time, from the event loop.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None

    def within(self, loop: asyncio.AbstractEventLoop, wait_ns: int) -> None:
        """Wake within so many nanoseconds; the event loop may be a millisecond early or late."""
        when = loop.time() + wait_ns / 1e9
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        self._wake()
