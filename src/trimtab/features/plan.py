"""The feature plan: what views compile to. Plain data, kept as JSON in every bundle and golden-tested.

Both paths read the plan and nothing else: :mod:`trimtab.features.history` computes it point in time for training,
:mod:`trimtab.features.online` keeps and reads the online rows for serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from trimtab.core.clock import Micros, duration_text
from trimtab.core.ids import digest
from trimtab.errors import ProjectError
from trimtab.features.sources import Column, Source
from trimtab.features.views import LatestView, OnRequest, View, WindowView


class WindowPart(msgspec.Struct, frozen=True, tag="windows"):
    """Windows of one source by one entity: one online row per key value."""

    source: str
    entity: str
    entity_type: str
    over: tuple[Micros, ...]
    aggregates: tuple[tuple[str, str], ...]
    kinds: tuple[str, ...]
    """For each aggregate the kind of its column: ``int`` (also bool: exact), ``float``, or ``*`` for a count."""
    along: str
    fresh: Micros
    optional: tuple[bool, ...]
    """For each aggregate whether its column may be missing."""
    time: str = "time"
    """The source's column that says when a row happened."""
    known: str = "known"
    """The source's column that says when a row could first be known."""

    @property
    def row_id(self) -> str:
        """What its online rows are stored under; equal parts of different models share their rows."""
        return digest(
            [
                self.source,
                self.entity,
                list(self.over),
                [list(a) for a in self.aggregates],
                list(self.kinds),
                list(self.optional),
                self.along,
            ]
        )[:12]

    def names(self) -> list[str]:
        """Feature names: windows outside, aggregates inside."""
        return [
            f"{self.source}.{self.entity}.{aggregation}{'' if column == '*' else '_' + column}_{duration_text(length)}"
            for length in self.over
            for aggregation, column in self.aggregates
        ]


class LatestPart(msgspec.Struct, frozen=True, tag="latest"):
    """The latest known row of one source by its keys."""

    source: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    ttl: Micros
    time: str = "time"
    """The source's column that says when a row happened."""
    known: str = "known"
    """The source's column that says when a row could first be known."""

    @property
    def row_id(self) -> str:
        """What its online rows are stored under."""
        return digest([self.source, list(self.keys), list(self.columns)])[:12]

    def names(self) -> list[str]:
        return [f"{self.source}.{column}" for column in self.columns]


class ModulePart(msgspec.Struct, frozen=True, tag="module"):
    """Features computed from the request by a module that travels in the bundle."""

    module: str
    features: tuple[str, ...]
    sha256: str
    """Of the module's source."""

    def names(self) -> list[str]:
        return [f"{self.module.rpartition('.')[2]}.{feature}" for feature in self.features]


Part = WindowPart | LatestPart | ModulePart


class RequestShape(msgspec.Struct, frozen=True):
    """What a caller sends: entity keys and inputs, with their kinds (``str int bool float time``)."""

    source: str
    id: str
    at: str
    keys: dict[str, str]
    inputs: dict[str, str]
    optional: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]


LIST = "instances"
"""The field under which a body has several requests."""


def unaskable(name: str) -> str:
    """Why no request could send something under that name; empty when it can.

    Examples
    --------
    >>> unaskable("basket size"), unaskable("instances")
    ('', 'under that name a request holds a list of requests')
    >>> unaskable('size"')
    'it holds a quotation mark, a backslash or a control character'
    """
    if name == LIST:
        return "under that name a request holds a list of requests"
    if any(letter in '"\\' or letter < " " for letter in name):
        return "it holds a quotation mark, a backslash or a control character"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "it is no valid Unicode: half of a surrogate pair"
    return ""


class Plan(msgspec.Struct, frozen=True):
    """All features of a model, in column order, and the request they are computed for."""

    requests: RequestShape
    parts: tuple[Part, ...]

    def names(self) -> list[str]:
        """The columns of the model's input matrix, in order."""
        return [name for part in self.parts for name in part.names()]

    def sources(self) -> list[str]:
        """The sources that feed it, sorted; each has a watermark."""
        return sorted({part.source for part in self.parts if not isinstance(part, ModulePart)})

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)

    @staticmethod
    def from_json(data: bytes) -> Plan:
        return msgspec.json.decode(data, type=Plan)

    @property
    def digest(self) -> str:
        return digest(msgspec.to_builtins(self))


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The text of an on-request module and the feature names it declares."""

    name: str
    text: str
    features: tuple[str, ...]
    sha256: str


def compile_plan(requests: Source, views: Sequence[View], modules: dict[str, ModuleSource]) -> Plan:
    """Turn views into a plan.

    Parameters
    ----------
    requests
        What the model is asked.
    views
        In the order in which their features become columns.
    modules
        The on-request modules named by :class:`OnRequest` views, by name.

    Raises
    ------
    ProjectError
        When two features get the same name, or when a view takes a column that its source lacks or that is no number.
    """
    parts: list[Part] = []
    for view in views:
        match view:
            case WindowView():
                parts.extend(_window_parts(view))
            case LatestView():
                parts.append(_latest_part(view))
            case OnRequest():
                module = modules[view.module]
                parts.append(ModulePart(module.name, module.features, module.sha256))
    plan = Plan(_shape(requests), tuple(parts))
    names = plan.names()
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ProjectError(
            "two views give features of the same name",
            got=", ".join(doubled),
            hint="drop one of the views, or a column that both take",
            where=requests.where,
        )
    return plan


def _number(source: Source, name: str, where: str) -> Column:
    """The declared column, which must be a number to be a feature."""
    declared = source.columns.get(name)
    numbers = sorted(other for other, column in source.columns.items() if column.kind in ("bool", "int", "float"))
    if declared is None or name not in numbers:
        raise ProjectError(
            f"a view takes {name!r} from source {source.name!r}, which is no number there",
            got="no such column" if declared is None else f"a column of kind {declared.kind}",
            hint=f"take one of {', '.join(numbers) or 'its numeric columns (it has none)'}",
            where=where,
        )
    return declared


def _latest_part(view: LatestView) -> LatestPart:
    for name in view.columns:
        _number(view.source, name, view.where)
    source = view.source
    return LatestPart(source.name, source.key_names, view.columns, view.ttl, source.time, source.known)


def _window_parts(view: WindowView) -> list[Part]:
    kinds, optional = [], []
    for _, name in view.aggregates:
        if name == "*":
            kinds.append("*")
            optional.append(False)
            continue
        declared = _number(view.source, name, view.where)
        kinds.append("int" if declared.kind in ("int", "bool") and not declared.optional else "float")
        optional.append(declared.optional)
    return [
        WindowPart(
            source=view.source.name,
            entity=entity.name,
            entity_type=entity.type.__name__,
            over=view.over,
            aggregates=view.aggregates,
            kinds=tuple(kinds),
            along=view.along,
            fresh=view.fresh,
            optional=tuple(optional),
            time=view.source.time,
            known=view.source.known,
        )
        for entity in view.by
    ]


def _shape(requests: Source) -> RequestShape:
    return RequestShape(
        source=requests.name,
        id=requests.id,
        at=requests.time,
        keys={key.name: key.type.__name__ for key in requests.keys},
        inputs={name: column.kind for name, column in requests.columns.items()},
        optional=tuple(name for name, column in requests.columns.items() if column.optional),
        ranges={
            name: (float(column.between[0]), float(column.between[1]))
            for name, column in requests.columns.items()
            if column.between is not None
        },
    )
