"""Memory of this process, given back to the system."""

from __future__ import annotations

import ctypes


def trim() -> None:
    """Give freed memory back, where the C library can.

    glibc keeps what ONNX Runtime has freed for the next one who asks; without this, a model that made room has not
    made any for another process.
    """
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)
