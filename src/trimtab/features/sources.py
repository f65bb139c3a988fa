"""What a project knows about the world: entities, and three kinds of source.

A source is a stream of rows that become *known* at some time. ``Events`` happened (a parcel arrived), a ``Table``
holds the latest state per key (the stock of a shop), and ``Requests`` are the questions a model is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from trimtab.errors import ProjectError
from trimtab.features import declared

ColumnType = type
_TYPES: dict[type, str] = {str: "str", bool: "bool", int: "int", float: "float", datetime: "time"}


def declared_at(depth: int = 2) -> str:
    """``file:line`` of the nearest caller outside Trimtab, for messages about a project file."""
    frame = sys._getframe(depth)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("trimtab."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@dataclass(frozen=True)
class Entity:
    """Something that events are about and requests name: a device, a user, a shop.

    Parameters
    ----------
    name
        The name of the column that holds its key, in every source.
    type
        ``str`` or ``int``.

    Examples
    --------
    >>> Entity("shop").name
    'shop'
    """

    name: str
    type: ColumnType = str
    where: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or declared_at())
        declared.text(self.name, what="the name of an entity", where=self.where)
        if self.type not in (str, int):
            raise ProjectError(
                f"entity {self.name!r} has a key of an unsupported type",
                got=getattr(self.type, "__name__", repr(self.type)),
                hint="use str or int",
                where=self.where,
            )


@dataclass(frozen=True)
class Column:
    """The type of a column and what values are believable.

    Parameters
    ----------
    type
        ``str``, ``bool``, ``int``, ``float`` or ``datetime``.
    between
        Lowest and highest believable value, both included; a row outside is quarantined.
    optional
        Whether the value may be missing. A missing int or bool is carried as a float NaN.
    """

    type: ColumnType
    between: tuple[float, float] | None = None
    optional: bool = False

    @property
    def kind(self) -> str:
        """``str``, ``bool``, ``int``, ``float`` or ``time``."""
        return _TYPES[self.type]


def column(type: ColumnType, *, between: tuple[float, float] | None = None, optional: bool = False) -> Column:
    """Declare a column with a range, or one that may be missing.

    Examples
    --------
    >>> column(float, between=(0, 200)).between
    (0, 200)
    """
    if not isinstance(type, Hashable) or type not in _TYPES:
        raise ProjectError(
            "a column has an unsupported type",
            got=repr(type),
            hint="use str, bool, int, float or datetime",
            where=declared_at(),
        )
    return Column(type, between, optional)


Schema = Mapping[str, ColumnType | Column]


def _columns(schema: Schema) -> dict[str, Column]:
    return {name: kind if isinstance(kind, Column) else column(kind) for name, kind in schema.items()}


SourceKind = Literal["events", "table", "requests"]


@dataclass(frozen=True)
class Source:
    """The common shape of ``Events``, ``Table`` and ``Requests``; made by those three functions.

    ``time`` and ``known`` name the columns that say when a row happened and when it could first be known; ``id``
    names the column that is unique per row (empty: rows are told apart by their whole content).
    """

    kind: SourceKind
    name: str
    time: str
    known: str
    keys: tuple[Entity, ...]
    columns: Mapping[str, Column]
    history: str = ""
    id: str = ""
    where: str = field(default="", compare=False, repr=False)

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys)

    def every_column(self) -> dict[str, Column]:
        """All columns of a row: times, keys, id and the declared ones."""
        times = {self.time: Column(datetime), self.known: Column(datetime)}
        keys = {key.name: Column(key.type) for key in self.keys}
        unique = {self.id: Column(str)} if self.id and self.id not in self.columns else {}
        return {**times, **keys, **unique, **self.columns}


def Events(  # noqa: N802 - a declaration, read as a noun in project files
    name: str,
    *,
    time: str,
    known: str,
    keys: Sequence[Entity],
    schema: Schema,
    history: str = "",
    id: str = "",
) -> Source:
    """Things that happened. Delivery is always by ``known``; a row may not be known before it happened.

    Parameters
    ----------
    name
        Name of the source; events are posted to ``/v1/events/<name>``.
    time, known
        Columns with the time it happened and the time it could first be known; often the same column.
    keys
        The entities each row is about.
    schema
        Further columns and their types; see :func:`column`.
    history
        Parquet file or glob, relative to the project, with what is known already; empty for none.
    id
        A column that is unique per event; empty: told apart by the whole row.

    Examples
    --------
    >>> shop = Entity("shop")
    >>> sales = Events("sales", time="at", known="at", keys=[shop], schema={"amount": int})
    >>> sales.key_names
    ('shop',)
    """
    return _source("events", name, time=time, known=known, keys=keys, schema=schema, history=history, id=id)


def Table(  # noqa: N802
    name: str, *, time: str, known: str, keys: Sequence[Entity], schema: Schema, history: str = ""
) -> Source:
    """The latest state per key, as it becomes known: a later ``time`` replaces an earlier one.

    Examples
    --------
    >>> Table("weather", time="hour", known="known_at", keys=[Entity("origin")], schema={"wind": float}).kind
    'table'
    """
    return _source("table", name, time=time, known=known, keys=keys, schema=schema, history=history, id="")


def Requests(  # noqa: N802
    name: str,
    *,
    id: str,
    at: str,
    keys: Sequence[Entity],
    inputs: Schema,
    history: str = "",
) -> Source:
    """The questions a model is asked: training rows, replay arrivals and label joins all come from here.

    Parameters
    ----------
    id
        The column with the request id; labels join by it.
    at
        The column with the time of asking.
    inputs
        What a caller sends besides the entity keys.

    Examples
    --------
    >>> Requests("visits", id="visit", at="at", keys=[Entity("shop")], inputs={"basket": float}).id
    'visit'
    """
    declared.text(id, what="id= of requests", where=declared_at())
    return _source("requests", name, time=at, known=at, keys=keys, schema=inputs, history=history, id=id)


def _source(
    kind: SourceKind,
    name: str,
    *,
    time: str,
    known: str,
    keys: Sequence[Entity],
    schema: Schema,
    history: str,
    id: str,
) -> Source:
    where = declared_at()
    declared.text(name, what=f"the name of {kind}", where=where)
    of = f"of {name!r}"
    for role, column_name in (("time", time), ("known", known)):
        declared.text(column_name, what=f"the column of {role} {of}", where=where)
    for role, given in (("history", history), ("id", id)):
        declared.a(str, given, what=f"{role}= {of}", hint="write it in quotes", where=where)
    entities = declared.every_one(Entity, keys, what=f"keys= {of}", hint="write keys=[shop], a tt.Entity", where=where)
    declared.a(Mapping, schema, what=f"the columns {of}", hint='write a dict, as in {"amount": float}', where=where)
    declared.every_one(str, tuple(schema), what=f"the columns {of}", hint="name each in quotes", where=where)
    return Source(kind, name, time, known, entities, _columns(schema), history, id, where)
