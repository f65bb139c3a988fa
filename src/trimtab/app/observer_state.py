"""What an observer holds, kept on disk between two lives of the control process."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


def _path(home: Path, model: str) -> Path:
    return home / "run" / f"observer-{model}.bin"


def write_observer_state(home: Path, model: str, snapshot: bytes, cursors: dict[str, int]) -> None:
    """Keep a snapshot and how far into each writer's records it has counted; atomic."""
    path = _path(home, model)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.msgpack.encode((snapshot, cursors)))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_observer_state(home: Path, model: str) -> tuple[bytes, dict[str, int]] | None:
    """The last snapshot kept, and its cursors; None when there is none."""
    path = _path(home, model)
    return msgspec.msgpack.decode(path.read_bytes(), type=tuple[bytes, dict[str, int]]) if path.exists() else None
