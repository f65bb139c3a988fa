"""Whether other processes want the cores just now."""

from __future__ import annotations

import time
from pathlib import Path

_STAT = Path("/proc/stat")
_LOOK_S = 0.2
_BUSY = 0.15
"""Share of one core that may be in use: clocks, editors and the like."""


def quiet(*, look_s: float = _LOOK_S) -> bool:
    """Look for a moment whether nearly all cores are idle; False where the system does not tell (only Linux does).

    Takes ``look_s`` seconds, in which the caller does nothing.
    """
    before = _busy_seconds()
    time.sleep(look_s)
    after = _busy_seconds()
    return before is not None and after is not None and after - before <= _BUSY * look_s


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the start of the machine."""
    try:
        first = _STAT.read_text("ascii").partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _, _, interrupts, soft, stolen = map(int, first[1:9])
    return (user + nice + system + interrupts + soft + stolen) / 100  # USER_HZ is 100 on every Linux of today
