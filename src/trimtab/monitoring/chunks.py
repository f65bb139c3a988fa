"""What an observer holds, as rows and as the bytes of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.monitoring.days import Truth, VersionDay, rows_of_bytes


class Chunk(NamedTuple):
    """An answered batch that waits to be counted."""

    version: str
    arm: str
    rollout: str
    ids: Sequence[str]
    at: NDArray[np.int64]
    outputs: NDArray[np.float64]
    values: NDArray[np.float32] | None
    """Only of answers that were given."""
    slow: bool
    together: NDArray[np.bool_] | None = None
    """Rows that fell to the arm together with others; None where there are none."""


def rows_of(chunk: Chunk, mask: NDArray[np.bool_]) -> Chunk:
    """The rows of a chunk where the mask, shape (n,), holds."""
    if mask.all():
        return chunk
    return chunk._replace(
        ids=[request for request, held in zip(chunk.ids, mask.tolist(), strict=True) if held],
        at=chunk.at[mask],
        outputs=chunk.outputs[mask],
        values=None if chunk.values is None else chunk.values[mask],
        together=None if chunk.together is None else chunk.together[mask],
    )


PackedChunk = tuple[str, str, str, list[str], bytes, bytes, bytes | None, bool]
PackedRows = tuple[list[str], bytes, bytes, list[tuple[str, str, int]]]
PackedTally = tuple[int, str, bytes, bytes, bytes, int]


class State(msgspec.Struct):
    """Everything an observer holds; a field that came later has a default, so that older snapshots are read."""

    pending: list[PackedChunk]
    days: dict[int, dict[str, PackedRows]]
    labels: dict[str, tuple[tuple[int, Truth], ...]]
    profiles: dict[str, bytes]
    features: list[PackedTally]
    predictions: list[PackedTally]
    arms: list[tuple[tuple[str, str, str], list[int]]]
    rollouts: dict[str, str]
    champion: tuple[int, str]
    marks: tuple[int, int, int, int]
    step: tuple[str, int] = ("", -1)
    before: list[tuple[tuple[str, str, str], list[int]]] = []
    together: dict[int, bytes] = {}
    """Of pending chunks, by their place, which rows fell to the arm together with others."""


def pack(chunk: Chunk) -> PackedChunk:
    """A chunk as plain values and bytes."""
    values = None if chunk.values is None else np.asarray(chunk.values, dtype=np.float32).tobytes()
    at, outputs = _bytes(chunk.at, np.int64), _bytes(chunk.outputs, np.float64)
    return (chunk.version, chunk.arm, chunk.rollout, list(chunk.ids), at, outputs, values, chunk.slow)


def unpack(packed: PackedChunk, width: int, *, together: bytes | None = None) -> Chunk:
    """The chunk again; ``width`` is how many numbers an output has."""
    version, arm, rollout, ids, at, outputs, values, slow = packed
    matrix = None if values is None else np.frombuffer(values, dtype=np.float32).reshape(len(ids), -1)
    said = rows_of_bytes(outputs, width)
    shared = None if together is None else np.frombuffer(together, np.bool_)
    return Chunk(version, arm, rollout, ids, np.frombuffer(at, np.int64), said, matrix, slow, shared)


def pack_together(chunks: Sequence[Chunk]) -> dict[int, bytes]:
    """Which rows fell to their arm together with others, by the place of the chunk."""
    found = ((place, chunk.together) for place, chunk in enumerate(chunks))
    return {place: together.tobytes() for place, together in found if together is not None}


def pack_rows(rows: VersionDay) -> PackedRows:
    """What a version said on a day, as plain values and bytes."""
    at = b"".join(_bytes(part, np.int64) for part in rows.at)
    outputs = b"".join(_bytes(part, np.float64) for part in rows.outputs)
    return (list(rows.ids), at, outputs, rows.runs)


def unpack_rows(packed: PackedRows, width: int) -> VersionDay:
    """What a version said on a day again."""
    ids, at, outputs, runs = packed
    return VersionDay(dict.fromkeys(ids), [np.frombuffer(at, np.int64)], [rows_of_bytes(outputs, width)], runs)


def _bytes(values: NDArray[np.generic], dtype: type[np.generic]) -> bytes:
    return np.asarray(values, dtype=dtype).tobytes()
