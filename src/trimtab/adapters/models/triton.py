"""Model repositories of NVIDIA Triton: what an ONNX file declares, and files that are there all or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trimtab.adapters.files import make_directory, sync_directory
from trimtab.adapters.models.onnx_runtime import CPU, open_session, ranges_over_batch
from trimtab.errors import InputError, Unavailable
from trimtab.serving.triton import FileTensor, OnnxFile

STAGE = "triton_stage.py"


def declared(data: bytes) -> OnnxFile:
    """What an ONNX file takes and gives.

    Raises
    ------
    InputError
        When ONNX Runtime does not load it.
    """
    session, _ = open_session(data, threads=1, providers=CPU)
    alone = ranges_over_batch(data)
    return OnnxFile(_tensors(session.get_inputs()), _tensors(session.get_outputs()), row_by_row=alone)


def _tensors(found: Iterable[Any]) -> tuple[FileTensor, ...]:
    return tuple(
        FileTensor(one.name, one.type, tuple(size if isinstance(size, int) else None for size in one.shape or ()))
        for one in found
    )


def stage_code() -> bytes:
    """The source of a stage, to be copied as ``model.py``."""
    return Path(__file__).with_name(STAGE).read_bytes()


def write_repository(directory: Path, files: Mapping[str, bytes]) -> bool:
    """Write a model repository into a directory of its own: all of it or nothing.

    Returns
    -------
    bool
        False when it stood there already, byte for byte.

    Raises
    ------
    InputError
        When something else is there.
    Unavailable
        When it cannot be written.
    """
    directory = Path(os.path.realpath(directory))
    if not _free(directory):
        if _holds(directory) == dict(files):
            return False
        raise _taken(directory)
    make_directory(directory.parent)
    try:
        scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".tmp-"))
        try:
            # One level down: the scratch directory is for us alone, what Triton reads is not.
            _write(scratch / "repository", files)
            _settle(scratch / "repository", directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise Unavailable(
            "the model repository cannot be written",
            got=f"{directory}: {error.strerror or error}",
            hint="check space and rights",
        ) from error
    return True


def _free(directory: Path) -> bool:
    if not directory.exists():
        return True
    if not directory.is_dir():
        raise InputError("the model repository must be a directory", got=str(directory), hint="name another place")
    return next(directory.iterdir(), None) is None


def _holds(directory: Path) -> dict[str, bytes]:
    """Every file below a directory; nothing when there is anything that an export would not have written."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            return {}
        if path.is_file():
            found[path.relative_to(directory).as_posix()] = path.read_bytes()
    return found


def _taken(directory: Path) -> InputError:
    return InputError(
        "the directory holds something else",
        got=str(directory),
        hint="name one that does not exist or is empty; then copy its models to where Triton looks",
    )


def _write(root: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        sync_directory(folder)


def _settle(made: Path, directory: Path) -> None:
    try:
        made.rename(directory)
    except OSError as error:
        if directory.is_dir() and next(directory.iterdir(), None) is not None:
            raise _taken(directory) from error  # somebody else was first
        raise
    sync_directory(directory.parent)
