"""``trimtab send``: events from a file to the running control process, batch after batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import msgspec

from trimtab.adapters.offline.rows import json_rows, parquet_rows
from trimtab.adapters.project.file import load_project
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.operations import existing_home, running_control
from trimtab.app.setting_values import whole_number
from trimtab.core.ids import Json
from trimtab.errors import InputError, TrimtabError, Unavailable, UnknownName

MOST_ROWS = 1000
MOST_SHOWN = 1000
"""Quarantined rows that are described one by one; the counts are always complete."""
_SPARE = 1024

Row = tuple[int, Mapping[str, Json]]
"""Where it stands in the file, from 1, and the row."""


def send_events(
    path: Path, source: str, rows: Path | TextIO, *, progress: Callable[[int], None], home: Path | None = None
) -> dict[str, Any]:
    """See :func:`trimtab.app.send`."""
    place = existing_home(path, home)
    client = running_control(place)
    if client is None:
        hint = "start `trimtab up`; --home or TRIMTAB_HOME names a home that is elsewhere"
        raise Unavailable("no control process runs on this home", got=str(place.root), hint=hint)
    total: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    shown: list[dict[str, Json]] = []
    with client:
        for batch in batches(_rows(path, source, rows), most_bytes=whole_number("max_body") - _SPARE):
            answer = _posted(client, source, batch, total["sent"])
            bad = answer["quarantined"]
            total.update(
                sent=len(batch),
                accepted=answer["accepted"],
                repeated=answer["repeated"],
                quarantined=bad["quarantined"],
            )
            reasons.update({(reason["column"], reason["reason"]): reason["rows"] for reason in bad["reasons"]})
            shown += [_bad_row(batch, row) for row in bad["rows"][: MOST_SHOWN - len(shown)]]
            progress(total["sent"])
    counted = {name: total[name] for name in ("sent", "accepted", "repeated", "quarantined")}
    told = [{"column": column, "reason": reason, "rows": count} for (column, reason), count in sorted(reasons.items())]
    return {"source": source} | counted | {"reasons": told, "rows": shown}


def batches(rows: Iterable[Row], *, most_bytes: int) -> Iterator[list[Row]]:
    """Rows in lists of at most 1000, each of which fits in one body.

    Examples
    --------
    >>> [len(batch) for batch in batches([(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 3})], most_bytes=16)]
    [2, 1]
    """
    batch: list[Row] = []
    size = 0
    for place, row in rows:
        length = len(msgspec.json.encode(row)) + 1
        if batch and (len(batch) == MOST_ROWS or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append((place, row))
        size += length
    if batch:
        yield batch


def _rows(path: Path, source: str, rows: Path | TextIO) -> Iterator[Row]:
    if not isinstance(rows, Path):
        return json_rows(rows)
    if rows.suffix != ".parquet":
        return _lines(rows)
    declared = load_project(path).sources.get(source)
    if declared is None:
        raise UnknownName("no such source", got=repr(source), hint="`trimtab check` lists the sources")
    return parquet_rows(rows, list(declared.every_column()))


def _lines(file: Path) -> Iterator[Row]:
    try:
        with file.open(encoding="utf-8") as text:
            yield from json_rows(text)
    except OSError as error:
        raise InputError("the file cannot be read", got=str(error)) from None


def _posted(client: JsonClient, source: str, batch: list[Row], before: int) -> Mapping[str, Any]:
    try:
        _check_finite(batch)
        answer: Mapping[str, Any] = client.post(f"/v1/events/{source}", {"rows": [row for _, row in batch]})
    except TrimtabError as error:
        if before:
            again = f"{before} rows before row {batch[0][0]} are taken; send all again, what repeats changes nothing"
            raise type(error)(error.what, got=error.got, hint=f"{error.hint}; {again}".removeprefix("; ")) from None
        raise
    return answer


def _check_finite(batch: Iterable[Row]) -> None:
    """An infinity has no place in JSON: it would arrive as a missing value."""
    for place, row in batch:
        for name, value in row.items():
            if isinstance(value, float) and math.isinf(value):
                hint = "write a finite number, or nothing where it may be missing"
                raise InputError("an infinity cannot be sent", got=f"row {place}, {name}: {value}", hint=hint)


def _bad_row(batch: list[Row], row: Mapping[str, Any]) -> dict[str, Json]:
    return {"row": batch[row["index"]][0], "column": row["column"], "reason": row["reason"], "value": row["value"]}
