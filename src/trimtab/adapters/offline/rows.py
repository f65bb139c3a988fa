"""Rows of a file one by one, as they are sent over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import msgspec

from trimtab.core.clock import instant, iso
from trimtab.core.ids import Json
from trimtab.errors import InputError


def json_rows(text: TextIO) -> Iterator[tuple[int, Mapping[str, Json]]]:
    """Each line's number, from 1, and its JSON object; empty lines are passed over.

    Raises
    ------
    InputError
        When a line is not a JSON object.

    Examples
    --------
    >>> import io
    >>> list(json_rows(io.StringIO('{"shop": "ams"}\\n')))
    [(1, {'shop': 'ams'})]
    """
    hint = 'write one JSON object a line, as in {"shop": "ams", "at": "2024-05-01T12:00Z"}'
    number = 0
    try:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            row = msgspec.json.decode(line)
            if not isinstance(row, dict):
                raise InputError("a line is not a JSON object", got=f"line {number}: {line.strip()[:80]}", hint=hint)
            yield number, row
    except msgspec.DecodeError as error:
        raise InputError("a line is not JSON", got=f"line {number}: {error}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise InputError("the text is not UTF-8", got=f"after line {number}: {error}", hint=hint) from None


def parquet_rows(file: Path, names: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Json]]]:
    """Each row's number, from 1, and what it holds of the named columns; times become ISO 8601 in UTC.

    Raises
    ------
    InputError
        When it is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as held:
            kept = [name for name in held.schema_arrow.names if name in names]
            for batch in held.iter_batches(batch_size=1000, columns=kept):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: _plain(value) for name, value in row.items()}
    except (pa.ArrowException, OSError) as error:
        got = f"{file}: {str(error).splitlines()[0][:200]}"
        raise InputError("the file cannot be read as Parquet", got=got, hint="or send JSON lines") from None


def _plain(value: Any) -> Json:
    match value:
        case datetime():
            return iso(instant(value))
        case date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case _:
            return value
