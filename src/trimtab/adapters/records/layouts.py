"""What the columns of compacted rows are, and how a row is made of them again.

A layout is proved on the rows themselves: a row that would not come back byte by byte is kept as it is, in the column
``raw``. So a spool may go when its rows are in Parquet, whatever version of Trimtab wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from trimtab.core.clock import Micros
from trimtab.errors import IntegrityError
from trimtab.serving.record import decode_record

Columns = Mapping[str, Any]
Shape = Callable[[bytes], tuple[str, Micros, Columns]]
"""Turns a row into its model, its time in microseconds, and its columns."""


class Layout(NamedTuple):
    """How the rows of a table stand in Parquet."""

    name: str
    row: Shape
    schema: Callable[[], Any]
    """The Arrow schema of the columns, without ``offset`` and ``raw``."""
    rows: Callable[[Any], Iterator[bytes]] | None
    """The rows of an Arrow table as they were written; None when all of them are in ``raw``."""


def prediction_row(row: bytes) -> tuple[str, Micros, Columns]:
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
        "keys": _json(record.keys, order="deterministic"),
        "features": record.feature_values() if record.features else None,
        "outputs": list(record.outputs),
        "status": record.status,
        "ages": np.frombuffer(record.ages, "<f4"),
        "watermarks": _json(record.watermarks),
        "timings": list(record.timings),
        "inputs": _json(record.inputs),
        "unit": record.unit,
        "key_order": _json(list(record.keys)),
        "together": record.together,
    }
    return record.model, record.asked_at, columns


def public_schema() -> Any:
    """The Arrow schema of what :func:`~trimtab.adapters.records.parquet.read_predictions` gives.

    ``features`` is null where they were not recorded.
    """
    import pyarrow as pa

    texts = ("request_id", "prediction_id", "model", "version", "arm", "rollout", "keys", "status")
    fields = {name: pa.string() for name in texts} | {
        "asked_at": pa.timestamp("us", tz="UTC"),
        "features": pa.list_(pa.float32()),
        "outputs": pa.list_(pa.float64()),
    }
    order = ["request_id", "prediction_id", "asked_at", "model", "version", "arm", "rollout", "keys", "features"]
    return pa.schema([(name, fields[name]) for name in (*order, "outputs", "status")])


def prediction_schema() -> Any:
    """The Arrow schema of compacted predictions."""
    import pyarrow as pa

    more = {
        "ages": pa.list_(pa.float32()),
        "watermarks": pa.string(),
        "timings": pa.list_(pa.int64()),
        "inputs": pa.string(),
        "unit": pa.string(),
        "key_order": pa.string(),  # `keys` is sorted, so that equal ones are equal texts
        "together": pa.bool_(),
    }
    return pa.schema([*public_schema(), *(pa.field(name, kind) for name, kind in more.items())])


_TEXTS = ("request_id", "prediction_id", "model", "version", "arm", "rollout", "status", "unit")


def prediction_rows(table: Any) -> Iterator[bytes]:
    """The records as a worker writes them: fifteen fields, a sixteenth where there is a unit, all where drawn together.

    Files that were written before there was a column ``together`` lack it.
    """
    encode = msgspec.msgpack.Encoder().encode
    text = {name: table[name].to_pylist() for name in _TEXTS}
    asked = table["asked_at"].cast("int64").to_pylist()
    sorted_keys, orders, marks, inputs = (
        _decoded(table[name].to_pylist()) for name in ("keys", "key_order", "watermarks", "inputs")
    )
    keys = [{name: own[name] for name in order} for own, order in zip(sorted_keys, orders, strict=True)]
    outputs, timings = table["outputs"].to_pylist(), table["timings"].to_pylist()
    features, ages = _blocks(table["features"]), _blocks(table["ages"])
    known = "together" in table.column_names
    together = table["together"].to_pylist() if known else [False] * table.num_rows
    for at in range(table.num_rows):
        fields = (
            text["request_id"][at], text["prediction_id"][at], asked[at], text["model"][at], text["version"][at],
            text["arm"][at], text["rollout"][at], keys[at], features[at], ages[at], marks[at], outputs[at],
            timings[at], text["status"][at], inputs[at],
        )  # fmt: skip
        unit = text["unit"][at]
        yield encode((*fields, unit, True) if together[at] else (*fields, unit) if unit else fields)


def _json(value: Any, **options: Any) -> str:
    return msgspec.json.encode(value, **options).decode()


def _decoded(texts: Sequence[str]) -> list[Any]:
    known: dict[str, Any] = {}  # watermarks, and the lack of keys or inputs, are the same in many rows
    found = []
    for text in texts:
        if text not in known:
            if len(known) > _KNOWN:
                known.clear()
            known[text] = msgspec.json.decode(text)
        found.append(known[text])
    return found


_KNOWN = 1000


def _blocks(column: Any) -> list[bytes]:
    """Each list of float32 as bytes, little endian; nothing for null."""
    found = []
    for chunk in column.chunks:
        ends = chunk.offsets.to_numpy()
        data = chunk.values.to_numpy(zero_copy_only=False).astype("<f4", copy=False).tobytes()
        found += [data[4 * start : 4 * end] for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    return found


def _opaque_schema() -> Any:
    import pyarrow as pa

    return pa.schema([])


PREDICTION = Layout("prediction", prediction_row, prediction_schema, prediction_rows)
OPAQUE = Layout("opaque", lambda _: ("rows", 0, {}), _opaque_schema, None)
"""For rows that nothing is known about."""
LAYOUTS = {layout.name: layout for layout in (PREDICTION, OPAQUE)}


def layout_named(name: str) -> Layout:
    """The layout of a segment.

    Raises
    ------
    IntegrityError
        When this version does not know it.
    """
    if name not in LAYOUTS:
        raise IntegrityError("compacted records of an unknown layout", got=name, hint="upgrade Trimtab")
    return LAYOUTS[name]
