"""Functions for compute adapters to run in tests: a job may only name a function of Trimtab."""

from __future__ import annotations

import os
import signal
import time

from trimtab.core.ids import Json
from trimtab.errors import InputError


def echo(value: Json) -> Json:
    """Return the argument.

    Examples
    --------
    >>> echo({"a": 1})
    {'a': 1}
    """
    return value


def pause(seconds: float, value: Json = None) -> Json:
    """Return ``value`` after a while."""
    time.sleep(seconds)
    return value


def refuse(what: str) -> Json:
    """Raise an error of Trimtab."""
    raise InputError(what, got="nothing", hint="none")


def divide(over: float) -> float:
    """Raise an error that is not Trimtab's when ``over`` is 0."""
    return 1 / over


def leave() -> Json:
    """End the process as a careless script would."""
    raise SystemExit(3)


def die() -> Json:
    """End the process with no chance to say anything."""
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def count(path: str, seconds: float = 0.0) -> int:
    """Append one byte to a file, wait, and return how long it is: how often the work was begun."""
    with open(path, "ab") as file:  # noqa: PTH123
        file.write(b"x")
    time.sleep(seconds)
    return os.stat(path).st_size  # noqa: PTH116


def process() -> int:
    """The process that runs this."""
    return os.getpid()
