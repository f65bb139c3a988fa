"""What a version says about a model that Trimtab does not run itself, and the files it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from trimtab.errors import BundleCorrupt, InputError

FILE = "model.json"
"""In a bundle, in the place of a model file."""
FILES = "files/"
"""Where the model's own files lie in a bundle."""
_LEFT_OUT = ("__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store")


class Foreign(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model runs in a process of its own."""

    kind: Literal["handler", "pyfunc"]
    entry: str = ""
    """Of a handler: its file, and after a colon its class where the file has several."""
    inputs: tuple[str, ...] = ()
    """Names of the columns."""
    outputs: tuple[str, ...] = ()
    """Names of the numbers that a row is answered with."""
    takes: Literal["rows", "matrix"] = "rows"
    """What a handler gets: ``[{"body": {column: number}}, …]`` as TorchServe gives it, or a float32 matrix."""
    python: str = ""
    """The interpreter that has the model's libraries; empty for the one of the setting ``model_python``."""
    start_s: float = 120.0
    """Longest time from its start until it can answer."""
    call_s: float = 10.0
    """Longest time for one batch; past it the process is ended and started anew."""
    memory_mb: int = 0
    """Most address space of the process, 0 for no limit."""
    threads: int = 1
    """For OpenMP, OpenBLAS and MKL."""


def decode_foreign(data: bytes) -> Foreign:
    """Read ``model.json``.

    Raises
    ------
    BundleCorrupt
        When it is not one.
    """
    try:
        return msgspec.json.decode(data, type=Foreign)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleCorrupt(f"{FILE} does not say how the model is run", got=str(error)) from None


def read_directory(path: Path) -> dict[str, bytes]:
    """The files of a model by path in the bundle; a single file counts as a directory of one.

    Raises
    ------
    InputError
        When there is nothing, or a link leads out of the directory.
    """
    if path.is_file():
        return {FILES + path.name: path.read_bytes()}
    root = path.resolve()
    found = {}
    for one in sorted(root.rglob("*")):
        inside = one.relative_to(root)
        if not one.is_file() or any(part in _LEFT_OUT for part in inside.parts):
            continue
        if not one.resolve().is_relative_to(root):
            raise InputError("a link leads out of the model's directory", got=str(inside), hint="copy the file there")
        found[FILES + inside.as_posix()] = one.read_bytes()
    if not found:
        raise InputError("there are no files of a model", got=str(path), hint="name a directory, or a file")
    return found


def own_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The model's own files of a bundle, by path in the model's directory.

    Examples
    --------
    >>> own_files({"plan.json": b"{}", "files/handler.py": b"..."})
    {'handler.py': b'...'}
    """
    return {path.removeprefix(FILES): data for path, data in files.items() if path.startswith(FILES)}
