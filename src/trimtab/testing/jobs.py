"""Functions that the compute suite submits as jobs: JSON in, JSON out."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from trimtab.core.ids import Json
from trimtab.errors import InputError


def add(arguments: Mapping[str, Json]) -> Json:
    """The sum of ``a`` and ``b``.

    Examples
    --------
    >>> add({"a": 1, "b": 2})
    3
    """
    return arguments["a"] + arguments["b"]


def fail(arguments: Mapping[str, Json]) -> Json:
    """Raise an error with the given ``message``."""
    raise InputError(str(arguments["message"]))


def sleep(arguments: Mapping[str, Json]) -> Json:
    """Take ``seconds``."""
    time.sleep(arguments["seconds"])
    return arguments["seconds"]


def vanish(arguments: Mapping[str, Json]) -> Json:
    """End the process without a word, as a killed one does, while fewer than ``times`` visits are on record."""
    count = visit({"path": arguments["path"], "seconds": 0})
    if count <= arguments["times"]:
        os._exit(0)  # the exit status says success; only a result makes a job done
    return count


def visit(arguments: Mapping[str, Json]) -> Json:
    """Add this process's id to the file at ``path``; the first to do so then takes ``seconds``. How many have."""
    path = Path(str(arguments["path"]))
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    count = len(path.read_text().splitlines())
    if count == 1:
        time.sleep(arguments["seconds"])
    return count
