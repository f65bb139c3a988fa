"""A process that is of no use without the one that started it."""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_S = 0.25


def end_with(parent: int) -> None:
    """Have this process end, as by SIGTERM, once ``parent`` is not its parent any more, however that one ended.

    Who starts a process often dies of SIGKILL and cannot end it. A pipe between the two would tell sooner, but every
    process that the parent forks keeps it open; and the kernel's own signal comes with the end of a thread.
    """
    threading.Thread(target=_watch, args=(parent,), name="trimtab-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
