"""What an observer holds, as rows and as the bytes of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, compress
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.monitoring.days import Truth, VersionDay, rows_of_bytes
from trimtab.monitoring.units import PackedUnits


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
    units: Sequence[str] | None = None
    """What the arm was drawn for, per row; None where that is each request itself."""
    serial: int | NDArray[np.int64] = 0
    """The step that was counted when the rows came; an array where they came in several."""


def rows_of(chunk: Chunk, mask: NDArray[np.bool_]) -> Chunk:
    """The rows of a chunk where the mask, shape (n,), holds."""
    if mask.all():
        return chunk
    return chunk._replace(
        ids=list(compress(chunk.ids, mask.tolist())),
        at=chunk.at[mask],
        outputs=chunk.outputs[mask],
        values=None if chunk.values is None else chunk.values[mask],
        together=None if chunk.together is None else chunk.together[mask],
        units=None if chunk.units is None else list(compress(chunk.units, mask.tolist())),
        serial=chunk.serial if isinstance(chunk.serial, int) else chunk.serial[mask],
    )


def drawn_for(chunk: Chunk) -> Sequence[str]:
    """What the arm was drawn for, per row."""
    return chunk.ids if chunk.units is None else chunk.units


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of one version, arm and rollout as one; all are slow or none, and have features, units or not."""
    first = chunks[0]
    serials = {chunk.serial for chunk in chunks if isinstance(chunk.serial, int)}
    serial: int | NDArray[np.int64] = first.serial
    if len(serials) > 1:
        serial = np.concatenate([np.full(len(chunk.ids), chunk.serial, np.int64) for chunk in chunks])
    return first._replace(
        ids=list(chain.from_iterable(chunk.ids for chunk in chunks)),
        at=np.concatenate([chunk.at for chunk in chunks]),
        outputs=np.concatenate([chunk.outputs for chunk in chunks], dtype=np.float64),
        values=None if first.values is None else np.concatenate([c.values for c in chunks if c.values is not None]),
        together=None if first.together is None else np.concatenate([_flags(chunk) for chunk in chunks]),
        units=None if first.units is None else list(chain.from_iterable(drawn_for(chunk) for chunk in chunks)),
        serial=serial,
    )


def _flags(chunk: Chunk) -> NDArray[np.bool_]:
    return np.zeros(len(chunk.ids), np.bool_) if chunk.together is None else chunk.together


PackedChunk = tuple[str, str, str, list[str], bytes, bytes, bytes | None, bool]
PackedRows = tuple[list[str], bytes, bytes, list[tuple[str, str, int]]]
PackedTally = tuple[int, str, bytes, bytes, bytes, int]
Days = Mapping[int, Mapping[str, VersionDay]]


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
    drawn: dict[int, list[str]] = {}
    """And what the arm was drawn for, per row."""
    units: PackedUnits | None = None
    """Of the step under way."""
    stamps: dict[int, dict[str, bytes]] = {}
    """By day and version, where the step under way counts requests that were drawn for themselves: a byte for each of
    the day, 1 for one that is counted, 2 for one that was slow."""


def pack(chunk: Chunk) -> PackedChunk:
    """A chunk as plain values and bytes."""
    values = None if chunk.values is None else np.asarray(chunk.values, dtype=np.float32).tobytes()
    at, outputs = _bytes(chunk.at, np.int64), _bytes(chunk.outputs, np.float64)
    return (chunk.version, chunk.arm, chunk.rollout, list(chunk.ids), at, outputs, values, chunk.slow)


def unpack(packed: PackedChunk, width: int, *, together: bytes | None, drawn: Sequence[str] | None) -> Chunk:
    """The chunk again; ``width`` is how many numbers an output has."""
    version, arm, rollout, ids, at, outputs, values, slow = packed
    matrix = None if values is None else np.frombuffer(values, dtype=np.float32).reshape(len(ids), -1)
    said = rows_of_bytes(outputs, width)
    shared = None if together is None else np.frombuffer(together, np.bool_)
    if shared is not None and drawn is None:  # of old it was not said what rows fell together by
        drawn = ids
    return Chunk(version, arm, rollout, ids, np.frombuffer(at, np.int64), said, matrix, slow, shared, drawn, serial=1)


def pack_together(chunks: Sequence[Chunk]) -> dict[int, bytes]:
    """Which rows fell to their arm together with others, by the place of the chunk."""
    found = ((place, chunk.together) for place, chunk in enumerate(chunks))
    return {place: together.tobytes() for place, together in found if together is not None}


def pack_drawn(chunks: Sequence[Chunk]) -> dict[int, list[str]]:
    """What the arm was drawn for, by the place of the chunk, where that is not each request itself."""
    return {place: list(chunk.units) for place, chunk in enumerate(chunks) if chunk.units is not None}


def pack_stamps(days: Days, since: int | None) -> dict[int, dict[str, bytes]]:
    """Which answered requests the step under way counts (see :class:`State`); nothing where it counts none."""
    found: dict[int, dict[str, bytes]] = {}
    if since is None:
        return found
    for day, versions in days.items():
        for version, rows in versions.items():
            codes = bytes(stamp % 2 + 1 if stamp >> 1 >= since else 0 for stamp in rows.ids.values())
            if any(codes):
                found.setdefault(day, {})[version] = codes
    return found


def unpack_stamps(days: Days, stamps: Mapping[int, Mapping[str, bytes]]) -> None:
    """Put the stamps back, as those of step 1."""
    for day, versions in stamps.items():
        for version, codes in versions.items():
            ids = days[day][version].ids
            for request, code in zip(list(ids), codes, strict=True):
                ids[request] = code + 1 if code else 0


def pack_rows(rows: VersionDay) -> PackedRows:
    """What a version said on a day, as plain values and bytes."""
    at = b"".join(_bytes(part, np.int64) for part in rows.at)
    outputs = b"".join(_bytes(part, np.float64) for part in rows.outputs)
    return (list(rows.ids), at, outputs, rows.runs)


def unpack_rows(packed: PackedRows, width: int) -> VersionDay:
    """What a version said on a day again."""
    ids, at, outputs, runs = packed
    return VersionDay(dict.fromkeys(ids, 0), [np.frombuffer(at, np.int64)], [rows_of_bytes(outputs, width)], runs)


def _bytes(values: NDArray[np.generic], dtype: type[np.generic]) -> bytes:
    return np.asarray(values, dtype=dtype).tobytes()
