"""The values of settings, read once at the boundary: what cannot be right is refused with the setting's name."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from trimtab.app.home import setting
from trimtab.errors import InputError, ProjectError
from trimtab.gates.declare import size_below

T = TypeVar("T")
Said = str | int | None
"""What an option or an argument names; None stands for what the environment says."""
_PORT = (0, 65_535)
_MOST = 2**53
_LEAST_SEGMENT = 64_000
_BOUNDS = {
    "port": _PORT,
    "console_port": _PORT,
    "grpc_port": _PORT,
    "workers": (1, 1024),
    "max_body": (1, _MOST),
    "max_batch_rows": (1, _MOST),
    "max_queue": (1, _MOST),
}
"""Least and most of whole numbers; any other is from 0."""


def read_setting(name: str, read: Callable[[str], T], given: Said = None) -> T:
    """A setting as something makes of its text; what that refuses is told with the setting's name.

    Raises
    ------
    InputError
        When it is refused.
    """
    try:
        return read(setting(name, given))
    except (InputError, ProjectError) as error:
        what = f"setting {name} (TRIMTAB_{name.upper()}): {error.what}"
        raise InputError(what, got=error.got, hint=error.hint) from None


def whole_number(name: str, given: Said = None) -> int:
    """A setting that is a whole number; raises InputError as :func:`read_setting`."""
    least, most = _BOUNDS.get(name, (0, _MOST))

    def read(text: str) -> int:
        # More digits than this int() would refuse in words of its own.
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not least <= value <= most:
            hint = f"from {least} to {most}" if most < _MOST else f"{least} or more"
            raise InputError("it must be a whole number", got=repr(text), hint=hint)
        return value

    return read_setting(name, read, given)


def seconds(name: str, given: Said = None) -> float:
    """A setting that is a number of seconds above 0; raises InputError as :func:`read_setting`."""

    def read(text: str) -> float:
        value = _number(text)
        if not 0 < value < math.inf:
            raise InputError("it must be a number of seconds above 0", got=repr(text), hint="as in 3600")
        return value

    return read_setting(name, read, given)


def share(name: str, given: Said = None) -> float:
    """A setting that is a share; raises InputError as :func:`read_setting`."""

    def read(text: str) -> float:
        value = _number(text)
        if not 0 <= value <= 1:
            raise InputError("it must be a share from 0 to 1", got=repr(text), hint="0.1 for a tenth")
        return value

    return read_setting(name, read, given)


def size(name: str, given: Said = None) -> int:
    """A setting that is a number of bytes, or a size as in 64MB; raises InputError as :func:`read_setting`."""

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 20:
            return int(text)
        try:
            return int(size_below(text).bound)
        except ProjectError as error:
            hint = "write a number of bytes, or a number and kB, MB or GB, as in 64MB; 0 for none"
            raise InputError(error.what, got=error.got, hint=hint) from None

    return read_setting(name, read, given)


def segment_bytes() -> int:
    """The size of a file of records; raises InputError as :func:`read_setting`, also when it is very small."""
    found = size("records_segment")
    if found < _LEAST_SEGMENT:
        what = "setting records_segment (TRIMTAB_RECORDS_SEGMENT): files of records would be without number"
        raise InputError(what, got=f"{found} bytes", hint="64kB or more, as in 64MB")
    return found


def one_of(name: str, choices: Sequence[str], given: Said = None) -> str:
    """A setting that is one of several words; raises InputError as :func:`read_setting`."""

    def read(text: str) -> str:
        if text not in choices:
            raise InputError("there is no such choice", got=repr(text), hint=" or ".join(choices))
        return text

    return read_setting(name, read, given)


def new_file(name: str, given: Said = None) -> str:
    """A setting that names a file to be written, absolute; empty for none. Raises as :func:`read_setting`."""

    def read(text: str) -> str:
        if not text:
            return ""
        path = Path(text).resolve()
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InputError(
                "this file cannot be written", got=repr(text), hint="name a file in a directory that is there"
            )
        return str(path)

    return read_setting(name, read, given)


def program(name: str, given: Said = None) -> str:
    """A setting that names a program; empty for none. Raises as :func:`read_setting`."""

    def read(text: str) -> str:
        if text and shutil.which(text) is None:
            raise InputError(
                "there is no such program", got=repr(text), hint="the path of a python, as in venv/bin/python"
            )
        return text

    return read_setting(name, read, given)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
