"""The real clock: the only place that reads the time of the machine."""

from __future__ import annotations

import threading
import time

from trimtab.core.clock import Micros


class SystemClock:
    """The time of the machine, never going backwards: when it is set back, ``now`` stands still until it is reached.

    Examples
    --------
    >>> clock = SystemClock()
    >>> clock.now() <= clock.now()
    True
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> Micros:
        """The current time in microseconds since the epoch, UTC."""
        with self._lock:
            self._last = max(self._last, time.time_ns() // 1_000)
            return self._last
