"""Functions for compute adapters to run in tests: a job may only name a function of Trimtab."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from trimtab.core.ids import Json
from trimtab.errors import InputError


def add(a: float, b: float) -> float:
    """The sum of two numbers.

    Examples
    --------
    >>> add(a=1, b=2)
    3
    """
    return a + b


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


def vanish(path: str, times: int) -> int:
    """End the process without a word, as if all were well, until more than ``times`` visits are on record."""
    if (visits := visit(path, seconds=0)) <= times:
        os._exit(0)  # the exit status says success; only a result makes a job done
    return visits


def visit(path: str, seconds: float) -> int:
    """Add this process's id to a file; the first to do so then takes ``seconds``. How many have."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    visits = len(Path(path).read_text().splitlines())
    if visits == 1:
        time.sleep(seconds)
    return visits


def count(path: str, seconds: float = 0.0) -> int:
    """Append one byte to a file, wait, and return how long it is: how often the work was begun."""
    with Path(path).open("ab") as file:
        file.write(b"x")
    time.sleep(seconds)
    return Path(path).stat().st_size


def process() -> int:
    """The process that runs this."""
    return os.getpid()


def environment(name: str) -> str | None:
    """An environment variable of the child."""
    return os.environ.get(name)
