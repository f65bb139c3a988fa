"""The friendly protocol: ``POST /predict/<model>`` by entity keys and inputs, one request or many.

A body is ``{"id": "r1", "<entity>": …, "<input>": …}`` or ``{"instances": [{…}, …]}``. Everything is checked here,
once: later stages see only columns of the declared types. NaN and infinities cannot be written in JSON and are refused.
"""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from trimtab.core.clock import Micros, instant
from trimtab.core.ports import Columns
from trimtab.errors import InputError, SchemaError, TooLarge
from trimtab.features.batch import RequestBatch
from trimtab.features.plan import RequestShape

TEXT_LIMIT = 256
"""Most characters in an id, a key or a text input: columns of text are as wide as their longest value."""
MISSING_TIME = -(2**63)
"""A missing time in an int64 column: numpy's NaT."""
MAX_ROWS = 10_000

_EXACT = 2.0**53 - 1
"""Up to this, a whole float64 is one integer and no other."""
_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
_TEXT = Annotated[str, Meta(max_length=TEXT_LIMIT)]
_ID = Annotated[str, Meta(min_length=1, max_length=TEXT_LIMIT)]
_SPOKEN = {"str": "a text", "bool": "true or false", "int": "an integer", "float": "a number", "time": "a time"}
_PLACE, _FIELD = " - at `", "field `"
"""What stands before a place and before a name in the words of the decoder. What it quotes may hold them too, so they
are searched for from one end: a pattern would try every pair of them."""
_NOWHERE = object()


class Decoded(NamedTuple):
    """A body that is acceptable: its rows, their ids, and whether it was one request rather than a list."""

    rows: list[Any]
    ids: list[str]
    single: bool


class RequestCodec:
    """Reads the requests that one plan is asked; built once per loaded version.

    Parameters
    ----------
    shape
        What a caller sends.
    max_rows
        Most requests in one body.

    Examples
    --------
    >>> shape = RequestShape("visits", "visit", "at", {"shop": "str"}, {"basket": "float"}, (), {"basket": (0, 99)})
    >>> codec = RequestCodec(shape)
    >>> decoded = codec.decode(b'{"id": "r1", "shop": "a", "basket": 3}', new_id=lambda: "new")
    >>> codec.batch(decoded.rows, decoded.ids, at=0).inputs["basket"]
    array([3.])
    """

    def __init__(self, shape: RequestShape, *, max_rows: int = MAX_ROWS) -> None:
        self.shape = shape
        self._max_rows = max_rows
        kinds = {**shape.keys, **shape.inputs}
        self._columns = tuple((name, kind, name in shape.optional) for name, kind in kinds.items())
        row: Any = _row_type(shape, kinds)
        body: Any = msgspec.defstruct("Body", [("instances", list[row])], forbid_unknown_fields=True)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
        self._times = [(f"c{place}", name) for place, (name, kind) in enumerate(kinds.items()) if kind == "time"]
        self._astuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
        self._ids = _id_reader(shape, kinds)
        self._list_allowed = "instances" not in kinds

    def decode(self, body: bytes, *, new_id: Callable[[], str]) -> Decoded:
        """Check a body and take it apart.

        Parameters
        ----------
        new_id
            Gives an id to a request that came without one, so that its label can be joined later.

        Raises
        ------
        SchemaError
            A field is unknown, missing, of the wrong type or out of its declared range.
            A time is not ISO 8601.
        TooLarge
            More rows than allowed.
        InputError
            The body is not JSON, is empty, or names one id twice.
        """
        single = not (self._list_allowed and b'"instances"' in body[:64])
        try:
            rows = [self._one.decode(body)] if single else self._many.decode(body).instances
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not (single and self._list_allowed and _is_list(body)):
                raise self._explained(error, body) from None
            rows, single = self._decode_list(body), False
        if b"\\u0000" in body:
            self._refuse_zero(rows)
        if not single:
            self._check_count(len(rows))
        if self._times:
            self._read_times(rows)
        ids = [found or new_id() for found in map(self._ids, rows)]
        if len(set(ids)) != len(ids):
            raise InputError("two instances have the same id", got=repr(_twice(ids)), hint="an id names one request")
        return Decoded(rows, ids, single)

    def batch(self, rows: Sequence[Any], ids: Sequence[str], *, at: Micros) -> RequestBatch:
        """Columns for rows that :meth:`decode` gave, of one body or of several that are answered together."""
        cells = list(zip(*map(self._astuple, rows), strict=True))
        columns = {
            name: _column(values, kind, optional=optional)
            for (name, kind, optional), values in zip(self._columns, cells, strict=False)
        }
        keys: Columns = {name: columns[name] for name in self.shape.keys}
        inputs: Columns = {name: columns[name] for name in self.shape.inputs}
        return RequestBatch(ids, np.full(len(rows), at, dtype=np.int64), keys, inputs)

    def _read_times(self, rows: Iterable[Any]) -> None:
        """Replace ISO texts by microseconds now, so that a bad one fails alone and not in a shared batch."""
        for row in rows:
            for field, name in self._times:
                value = getattr(row, field)
                if isinstance(value, str):
                    setattr(row, field, _time(value, name))

    def _decode_list(self, body: bytes) -> list[Any]:
        try:
            rows: list[Any] = self._many.decode(body).instances
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explained(error, body) from None
        return rows

    def _check_count(self, count: int) -> None:
        if count > self._max_rows:
            raise TooLarge(
                "too many instances in one body", got=str(count), hint=f"send at most {self._max_rows} at a time"
            )
        if count == 0:
            raise InputError("there are no instances", got="[]", hint="send at least one")

    def _refuse_zero(self, rows: Iterable[Any]) -> None:
        """Numpy drops trailing NUL characters of text: two different keys would become one."""
        for row in rows:
            for value in self._astuple(row):
                if isinstance(value, str) and "\x00" in value:
                    raise SchemaError("a text holds the character NUL", got=repr(value), hint="remove it")

    def _explained(self, error: Exception, body: bytes) -> InputError:
        """The reason in the caller's words; only a refused body pays for it."""
        if not isinstance(error, msgspec.ValidationError):
            return not_json(error, body)
        bare, place = _split_place(str(error))
        named = bare.partition(_FIELD)[2].rpartition("`")[0][:TEXT_LIMIT]
        fields = ", ".join(["id", *(f"{name} ({kind})" for name, kind, _ in self._columns)])
        hint = f"the fields are {fields}"
        if not self._columns:
            hint = "there is only an id; a model without named columns takes tensors, at /v2/models/<model>/infer"
        if bare.startswith("Object contains unknown field"):
            return SchemaError(f"unknown field {named!r}", got=_at(place), hint=hint)
        if bare.startswith("Object missing required field"):
            return SchemaError(f"field {named!r} is missing", got=_at(place), hint=hint)
        if (wanted := self._wanted(place)) and _found(body, place) is None:
            return SchemaError(f"{place} may not be missing", got="null, as which NaN is sent in JSON", hint=wanted)
        return SchemaError(
            f"{place or 'the body'} is not acceptable: {_lower(_of_integers(bare))}",
            got=_shown(body, place),
            hint=self._wanted(place) or f"send an object with the fields {fields}",
        )

    def _wanted(self, place: str) -> str:
        name = place.rpartition("].")[2] or place
        for column, kind, optional in self._columns:
            if column == name:
                span = self.shape.ranges.get(column)
                between = f" between {_bound(span[0])} and {_bound(span[1])}" if span else ""
                return f"{column} is {_SPOKEN[kind]}{between}{', or null' if optional else ''}"
        return ""


def not_json(error: Exception, body: bytes) -> InputError:
    """The error for a body that cannot be read at all."""
    if isinstance(error, RecursionError):
        return InputError("the body is nested too deeply", hint="send a flat object")
    return InputError("the body is not JSON", got=repr(body[:60]), hint=f"{error}".rstrip("."))


def _row_type(shape: RequestShape, kinds: dict[str, str]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for place, (name, kind) in enumerate(kinds.items()):
        rename[f"c{place}"] = name
        wanted = _type(kind, shape.ranges.get(name), is_id=name == shape.id)
        fields.append((f"c{place}", wanted | None, None) if name in shape.optional else (f"c{place}", wanted))
    for place, name in enumerate(_id_names(shape, kinds)):
        rename[f"i{place}"] = name
        fields.append((f"i{place}", _ID | None, None))
    return msgspec.defstruct(
        f"{shape.source} request", fields, rename=rename, forbid_unknown_fields=True, kw_only=True, gc=False
    )


def _id_names(shape: RequestShape, kinds: dict[str, str]) -> list[str]:
    """``id``, and the name that the project gives it, where they are not the names of other fields."""
    return [name for name in dict.fromkeys(("id", shape.id)) if name and name not in kinds]


def _id_reader(shape: RequestShape, kinds: dict[str, str]) -> Callable[[Any], str | None]:
    if shape.id in kinds:  # the id is one of the inputs as well
        column = operator.attrgetter(f"c{list(kinds).index(shape.id)}")
        return lambda row: None if (value := column(row)) is None else _id_text(value)
    names = _id_names(shape, kinds)
    if len(names) == 1:
        only: Callable[[Any], str | None] = operator.attrgetter("i0")
        return only
    return lambda row: row.i0 or row.i1


def _id_text(value: Any) -> str:
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _type(kind: str, between: tuple[float, float] | None, *, is_id: bool) -> Any:
    low, high = between or (-math.inf, math.inf)
    match kind:
        case "str":
            return _ID if is_id else _TEXT
        case "bool":
            return bool
        case "float":
            return Annotated[float, Meta(ge=max(low, -sys.float_info.max), le=min(high, sys.float_info.max))]
        case "int":
            # JSON knows only numbers: many callers write 3 as 3.0. A column makes integers of both.
            whole = Annotated[float, Meta(ge=max(low, -_EXACT), le=min(high, _EXACT), multiple_of=1)]
            return Annotated[int, Meta(ge=math.ceil(max(low, -(2**63))), le=math.floor(min(high, 2**63 - 1)))] | whole
        case _:
            first, last = math.ceil(max(low, _YEAR_1)), math.floor(min(high, _YEAR_9999))
            return Annotated[int, Meta(ge=first, le=last)] | Annotated[str, Meta(max_length=40)]


def _column(values: Sequence[Any], kind: str, *, optional: bool) -> NDArray[np.generic]:
    match kind:
        case "str":
            return np.array(["" if value is None else value for value in values] if optional else values)
        case "time":
            return np.array([MISSING_TIME if value is None else value for value in values], dtype=np.int64)
        case "bool" if not optional:
            return np.array(values, dtype=np.bool_)
        case "int" if not optional:
            return np.array(values, dtype=np.int64)
        case _:  # a missing int or bool is carried as a float NaN, in training too
            return np.array(values, dtype=np.float64)


def _time(value: str, name: str) -> Micros:
    try:
        return instant(value)
    except (InputError, OverflowError):
        raise SchemaError(
            f"{name} is not a time", got=repr(value), hint="write ISO 8601, as in 2013-03-04T06:00Z, or integer µs"
        ) from None


def _twice(ids: Iterable[str]) -> str:
    """The first id that was there before."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _split_place(text: str) -> tuple[str, str]:
    """The words of the decoder, and the place that they end with; empty for the body itself."""
    bare, found, place = text.rpartition(_PLACE)
    if not found or not text.endswith("`"):
        return text, ""
    return bare, place[:-1].removeprefix("$").lstrip(".")


def _bound(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) <= _EXACT else f"{number:g}"


def _of_integers(text: str) -> str:
    """The words of the decoder for what may be an integer, or a float that is whole."""
    if "that's a multiple of" in text:
        return "Expected `int`, got `float`"
    return text.replace("`int | float", "`int")


def _is_list(body: bytes) -> bool:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "instances" in found


def _at(place: str) -> str:
    return f"in {place}" if place else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _shown(body: bytes, place: str) -> str:
    found = _found(body, place)
    return "" if found is _NOWHERE else repr(found)[:80]


def _found(body: bytes, place: str) -> Any:
    """The offending value itself, looked up by the place that the decoder named."""
    try:
        value = msgspec.json.decode(body)
        for step in re.findall(r"\[(\d+)\]|([^.\[\]]+)", place):
            value = value[int(step[0])] if step[0] else value[step[1]]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return _NOWHERE
    return value
