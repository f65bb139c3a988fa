"""Records compacted into Parquet files by model and day.

::

    <directory>/segments/<writer>-<from>-<to>.json       what a segment covers: written last, so it marks it done
    <directory>/model=<model>/day=<day>/<writer>-<from>-<to>.parquet

A segment is the rows of one writer between two offsets. Its files are a function of those rows, so writing them
again changes nothing. Files without a mark are left-overs of a crash: readers pass them over, and the next compaction
removes them.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from trimtab.adapters.files import make_directory, settle, sync_directory, write_atomic
from trimtab.core.clock import DAY, Micros, iso
from trimtab.core.ids import Json, canonical
from trimtab.core.ports import Records
from trimtab.errors import ConflictError, IntegrityError
from trimtab.serving.record import PREDICTIONS, decode_record

Shape = Callable[[bytes], tuple[str, Micros, Mapping[str, Json]]]
"""Turns a row into its model, its time in microseconds, and its columns."""

_SEGMENT = re.compile(r"(.+)-(\d+)-(\d+)")


class Segment(NamedTuple):
    """The rows of a writer past offset ``start`` up to ``end``."""

    writer: str
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.writer}-{self.start:012d}-{self.end:012d}"


def prediction_row(row: bytes) -> tuple[str, Micros, Mapping[str, Json]]:
    """The columns of a prediction record."""
    try:
        record = decode_record(row)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a row is not a prediction record", got=str(error), hint="upgrade Trimtab") from error
    columns = {
        "request_id": record.request_id,
        "prediction_id": record.prediction_id,
        "asked_at": record.asked_at,
        "model": record.model,
        "version": record.version,
        "arm": record.arm,
        "rollout": record.rollout,
        "keys": msgspec.json.encode(record.keys, order="deterministic").decode(),
        "features": record.feature_values() if record.features else None,
        "outputs": list(record.outputs),
        "status": record.status,
    }
    return record.model, record.asked_at, columns


def prediction_schema() -> Any:
    """The Arrow schema of compacted predictions; ``features`` is null where they were not recorded."""
    import pyarrow as pa

    text = ("request_id", "prediction_id", "model", "version", "arm", "rollout", "keys", "status")
    fields = {name: pa.string() for name in text} | {
        "asked_at": pa.timestamp("us", tz="UTC"),
        "features": pa.list_(pa.float32()),
        "outputs": pa.list_(pa.float64()),
    }
    order = ["request_id", "prediction_id", "asked_at", "model", "version", "arm", "rollout", "keys", "features"]
    order += ["outputs", "status"]
    return pa.schema([(name, fields[name]) for name in order])


def compact(
    records: Records,
    directory: Path,
    *,
    table: str = PREDICTIONS,
    row: Shape = prediction_row,
    schema: Any = None,
    at_least: int = 1,
    at_most: int = 100_000,
) -> int:
    """Write the rows that are in no segment yet to Parquet, and return how many there were.

    Parameters
    ----------
    records, table
        Where the rows are. They stay there.
    directory
        Where the files go; created when missing.
    row
        Turns a row into model, time and columns.
    schema
        The Arrow schema of the columns; that of predictions when None.
    at_least
        A writer with fewer new rows than this waits for the next compaction, which keeps files large.
    at_most
        Rows per segment; bounds memory.

    Raises
    ------
    ConflictError
        When another process compacts into this directory.
    Unavailable
        When the disk is full; what was compacted before stays.

    Notes
    -----
    A kill between any two steps leaves only files that open, and the next call goes on from there.
    """
    directory = Path(directory)
    layout = schema if schema is not None else prediction_schema()
    with _alone(directory):
        done = segments(directory)
        _remove_unmarked(directory, set(_files(directory, done)))
        reached: dict[str, int] = {}
        for segment in done:
            reached[segment.writer] = max(reached.get(segment.writer, 0), segment.end)
        waiting: dict[str, list[tuple[str, Micros, Mapping[str, Json]]]] = {}
        ends: dict[str, int] = {}
        count = 0
        for place, payload in records.scan(table, after=dict(reached)):
            waiting.setdefault(place.writer, []).append(row(payload))
            ends[place.writer] = place.offset
            if len(waiting[place.writer]) == at_most:
                segment = Segment(place.writer, reached.get(place.writer, 0), place.offset)
                count += _write(directory, segment, waiting.pop(place.writer), layout)
                reached[place.writer] = place.offset
        for writer, rows in sorted(waiting.items()):
            if len(rows) >= at_least:
                count += _write(directory, Segment(writer, reached.get(writer, 0), ends[writer]), rows, layout)
    return count


def rebuild(
    records: Records,
    directory: Path,
    *,
    erased: Mapping[str, Iterable[int]],
    table: str = PREDICTIONS,
    row: Shape = prediction_row,
    schema: Any = None,
) -> int:
    """Write the segments anew that hold erased rows (writer → offsets), after ``records.erase``; how many.

    Interrupted, it is called again with the same offsets.
    """
    directory = Path(directory)
    layout = schema if schema is not None else prediction_schema()
    with _alone(directory):
        done = segments(directory)
        ends = {segment.writer: segment.end for segment in done}
        touched = [
            segment
            for segment in done
            if any(segment.start < at <= segment.end for at in erased.get(segment.writer, ()))
        ]
        for segment in touched:
            rows = []
            for place, payload in records.scan(table, after=ends | {segment.writer: segment.start}):
                if place.writer == segment.writer:
                    if place.offset > segment.end:
                        break
                    rows.append(row(payload))
            _write(directory, segment, rows, layout)
    return len(touched)


def segments(directory: Path) -> list[Segment]:
    """The segments that are done, by writer and offset."""
    matches = (_SEGMENT.fullmatch(path.stem) for path in (Path(directory) / "segments").glob("*.json"))
    return sorted(Segment(match[1], int(match[2]), int(match[3])) for match in matches if match is not None)


def read_predictions(
    directory: Path, *, model: str | None = None, start: Micros | None = None, end: Micros | None = None
) -> Any:
    """Read compacted predictions.

    Parameters
    ----------
    directory
        Where they were compacted to.
    model
        Only this model; all when None.
    start, end
        Only rows asked at ``start <= asked_at < end``, in microseconds.

    Returns
    -------
    pyarrow.Table
        With the columns of :func:`prediction_schema`; empty when nothing is there.

    Raises
    ------
    IntegrityError
        When a file of a finished segment is missing or is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    directory, parts = Path(directory), []
    for file in _files(directory, segments(directory)):
        name, day = file.parent.parent.name, file.parent.name.removeprefix("day=")
        if model is not None and name != _partition(model):
            continue
        if (start is not None and day < _day(start)) or (end is not None and day > _day(end)):
            continue
        try:
            parts.append(pq.ParquetFile(file).read())
        except (OSError, pa.ArrowInvalid) as error:
            raise IntegrityError("a file of compacted records is damaged", got=f"{file}: {error}") from error
    found = pa.concat_tables(parts) if parts else prediction_schema().empty_table()
    asked = found["asked_at"].cast(pa.int64())
    if start is not None:
        found = found.filter(pc.greater_equal(asked, start))
        asked = found["asked_at"].cast(pa.int64())
    return found if end is None else found.filter(pc.less(asked, end))


def _write(directory: Path, segment: Segment, rows: list[tuple[str, Micros, Mapping[str, Json]]], schema: Any) -> int:
    days: dict[tuple[str, int], list[Mapping[str, Json]]] = {}
    for model, when, columns in rows:
        days.setdefault((model, when // DAY), []).append(columns)
    parts = {f"{_partition(model)}/day={_day(day * DAY)}": columns for (model, day), columns in days.items()}
    before = set(_marked(directory, segment))
    for part, columns_of in sorted(parts.items()):
        _write_file(directory / part / f"{segment.name}.parquet", columns_of, schema)
    make_directory(directory / "segments")
    write_atomic(
        directory / "segments" / f"{segment.name}.json", canonical({"parts": sorted(parts), "rows": len(rows)})
    )
    for part in before - parts.keys():  # every row of it was erased
        (directory / part / f"{segment.name}.parquet").unlink(missing_ok=True)
    return len(rows)


def _write_file(path: Path, rows: list[Mapping[str, Json]], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_directory(path.parent)
    temporary = path.with_name(f".tmp-{path.name}")
    columns = {name: [row[name] for row in rows] for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")
    settle(temporary, path)


def _marked(directory: Path, segment: Segment) -> list[str]:
    path = directory / "segments" / f"{segment.name}.json"
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise IntegrityError("the mark of a segment is damaged", got=f"{path}: {error}") from error
    return [str(part) for part in mark["parts"]]


def _files(directory: Path, done: Iterable[Segment]) -> Iterator[Path]:
    for segment in done:
        for part in _marked(directory, segment):
            yield directory / part / f"{segment.name}.parquet"


def _remove_unmarked(directory: Path, marked: set[Path]) -> None:
    for path in directory.glob("model=*/day=*/*"):
        if path not in marked:
            path.unlink()
            sync_directory(path.parent)


def _partition(model: str) -> str:
    return f"model={quote(model, safe='')}"


def _day(when: Micros) -> str:
    return iso(when - when % DAY)[:10]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    make_directory(directory)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError("another process compacts these records", got=str(directory)) from error
        yield
    finally:
        os.close(descriptor)
