"""Whether other processes want the cores just now."""

from __future__ import annotations

import time
from pathlib import Path

_STAT = Path("/proc/stat")
_LOOK_S = 0.1
_LOOKS = 5
_BUSY = 0.25
"""Share of one core that may be in use: clocks, editors, a disk that is written to."""


def quiet(*, look_s: float = _LOOK_S, looks: int = _LOOKS) -> bool:
    """Look for a moment whether nearly all cores are idle; False where the system does not tell (only Linux does).

    Takes at most ``looks`` times ``look_s`` seconds, in which the caller does nothing. Most looks decide, since any
    machine is busy for a tenth of a second now and then.
    """
    busy = calm = 0
    while 2 * busy < looks and 2 * calm < looks:
        before = _busy_seconds()
        time.sleep(look_s)
        after = _busy_seconds()
        if before is not None and after is not None and after - before <= _BUSY * look_s:
            calm += 1
        else:
            busy += 1
    return calm > busy


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the start of the machine."""
    try:
        first = _STAT.read_text("ascii").partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _, _, interrupts, soft, stolen = map(int, first[1:9])
    return (user + nice + system + interrupts + soft + stolen) / 100  # USER_HZ is 100 on every Linux of today
