"""The rules of ``trimtab check``: one function each, from declarations to problems.

**Leaks.** A feature may use what was known when the question was asked, and nothing later. Delivery by ``known`` sees
to that, so what is left to check is whether the declarations tell the truth:

1. *The answer is sent with the question*: an input of the requests has the name of the label's column.
2. *The answer is dated by the question*: the label's source is ``known`` by a column that callers send as an input.
   Rows join the request by id, so it is the same moment, and the caller knows it when asking: then it is not when
   the outcome could be known.
3. *A view looks up the request's own row*: a view keyed by the request id, or by the column that the label joins on.
   Such a row comes after the request; served, the feature is always missing.
4. *The questions are the answers*: the label is taken from the requests themselves.
5. In the data: labels that were *known before their request was asked* (more than 1 % of those that join).
6. In the data: a source with rows *known before they happened* (more than 1 %; each such row is quarantined anyway).

What cannot be seen: a ``known`` column that is filled with too early a time under a name of its own. The parity check
of served predictions finds that.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trimtab.core.ids import Json
from trimtab.errors import ProjectError, TrimtabError
from trimtab.features.plan import unaskable
from trimtab.features.sources import Column, Entity, Source
from trimtab.features.views import LatestView, OnRequest, View, WindowView
from trimtab.gates.declare import Comparison, Floor
from trimtab.loop.model import ModelSpec
from trimtab.stats.metrics import METRICS

MEASURES = ("latency_p99_ms", "size_bytes")
"""What else a floor may name."""
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "squared_error", "rmse", "mae", *MEASURES})

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_NUMBERS = ("int", "float", "bool")
_LABEL_KINDS = {"binary": ("bool",), "regression": ("int", "float"), "multiclass": ("str", "int")}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a project that cannot work: what, got, hint, and ``file:line``."""

    what: str
    got: str = ""
    hint: str = ""
    where: str = ""

    @staticmethod
    def of(error: TrimtabError) -> Problem:
        """The problem that an error describes."""
        return Problem(error.what, error.got, error.hint, error.where)

    def error(self) -> ProjectError:
        """The problem as an error, to be raised."""
        return ProjectError(self.what, got=self.got, hint=self.hint, where=self.where)

    def to_json(self) -> Json:
        fields = {"problem": self.what, "got": self.got, "hint": self.hint, "where": self.where}
        return {name: text for name, text in fields.items() if text}

    def __str__(self) -> str:
        return str(self.error())


def check_names(declared: Iterable[Source | ModelSpec]) -> Iterator[Problem]:
    """Sources and models have names of their own, that can stand in an address."""
    first: dict[tuple[str, str], Source | ModelSpec] = {}
    for item in declared:
        kind = "source" if isinstance(item, Source) else "model"
        earlier = first.setdefault((kind, item.name), item)
        if earlier is not item:
            yield Problem(
                f"two {kind}s have the same name", repr(item.name), f"the other is at {earlier.where}", item.where
            )
        if not _NAME.fullmatch(item.name):
            hint = "use letters, digits, _ and -, at most 64"
            yield Problem(f"a {kind} has a name that cannot stand in an address", repr(item.name), hint, item.where)


def check_entities(sources: Sequence[Source]) -> Iterator[Problem]:
    """An entity has one type everywhere."""
    first: dict[str, Entity] = {}
    for entity in (key for source in sources for key in source.keys):
        earlier = first.setdefault(entity.name, entity)
        if earlier.type is not entity.type:
            yield Problem(
                f"entity {entity.name!r} is declared with two types",
                f"{entity.type.__name__} here, {earlier.type.__name__} at {earlier.where}",
                "declare each entity once and use that object",
                entity.where,
            )


def check_source(source: Source) -> Iterator[Problem]:
    """What a source says about its columns agrees."""
    own = {source.time: "time", source.known: "time", **{key.name: key.type.__name__ for key in source.keys}}
    if source.id:
        own.setdefault(source.id, "str")
    for name, column in source.columns.items():
        said = own.get(name)
        if said is not None and (said != column.kind or column.optional):
            yield Problem(
                f"column {name!r} of {source.name!r} is declared twice, differently",
                f"{'optional ' if column.optional else ''}{column.kind} in the schema, {said} as key, id or time",
                "leave it out of the schema",
                source.where,
            )
        if column.between is not None and (
            column.kind not in ("int", "float") or column.between[0] > column.between[1]
        ):
            yield Problem(
                f"the range of column {name!r} of {source.name!r} cannot be kept",
                f"between={column.between} of {column.kind}",
                "give lowest and highest value of an int or a float",
                source.where,
            )
    if source.kind == "requests" and "at" in source.columns and source.time != "at":
        hint = f"rename it: on-request modules are given {source.time!r} under that name"
        yield Problem(f"an input of {source.name!r} is named 'at'", "", hint, source.where)
    if source.kind == "requests":
        yield from _sent_names(source)
    doubled = sorted({key for key in source.key_names if source.key_names.count(key) > 1})
    if doubled:
        yield Problem(f"{source.name!r} names a key twice", ", ".join(doubled), "name each entity once", source.where)


def _sent_names(source: Source) -> Iterator[Problem]:
    """What a caller sends has names that can stand in the body of a request."""
    roles = {source.id: "an id"}
    roles |= dict.fromkeys(source.columns, "an input") | dict.fromkeys(source.key_names, "a key")
    places = {key.name: key.where for key in source.keys}
    for name, role in roles.items():
        if why := unaskable(name):
            yield Problem(
                f"no request could send {role} of this name",
                f"{name!r}, of {source.name!r}",
                f"{why}; name it otherwise",
                places.get(name, source.where),
            )


def check_window(view: WindowView, spec: ModelSpec) -> Iterator[Problem]:
    """Windows aggregate numbers that exist, by entities that both sides have."""
    yield from _view_source(view, view.source)
    columns = view.source.every_column()
    for aggregation, name in view.aggregates:
        if name != "*":
            yield from _number(view.source, columns, name, f"window ({aggregation})", view.where)
    for entity in view.by:
        for holder in (view.source, spec.requests):
            if entity.name not in holder.key_names:
                yield Problem(
                    f"windows by {entity.name!r}, which is not a key of {holder.name!r}",
                    f"keys {', '.join(holder.key_names) or 'none'}",
                    suggest(entity.name, holder.key_names) or f"add it to keys= of {holder.name!r}",
                    view.where,
                )


def check_latest(view: LatestView, spec: ModelSpec) -> Iterator[Problem]:
    """Latest values are numbers that exist, and the request has the keys to look them up."""
    yield from _view_source(view, view.source)
    columns = view.source.every_column()
    for name in view.columns:
        yield from _number(view.source, columns, name, "latest value", view.where)
    for key in view.source.key_names:
        if key not in spec.requests.key_names:
            yield Problem(
                f"latest values of {view.source.name!r} need the key {key!r}, which {spec.requests.name!r} do not have",
                f"keys {', '.join(spec.requests.key_names) or 'none'}",
                f"add it to keys= of {spec.requests.name!r}",
                view.where,
            )


def _view_source(view: View, source: Source) -> Iterator[Problem]:
    if source.kind == "requests":
        hint = "use tt.Events or a tt.Table; inputs of the request go through an on-request module"
        yield Problem(f"a view reads requests: {source.name!r}", "", hint, view.where)


def _number(source: Source, columns: Mapping[str, Column], name: str, what: str, where: str) -> Iterator[Problem]:
    column = columns.get(name)
    if column is None:
        yield Problem(
            f"{what} of a column that {source.name!r} does not have", repr(name), suggest(name, columns), where
        )
    elif column.kind not in _NUMBERS:
        hint = "take an int, float or bool column; text becomes a number in an on-request module"
        yield Problem(f"{what} of a column that is not a number", f"{name!r} of type {column.kind}", hint, where)


def check_leaks(view: View, spec: ModelSpec) -> Iterator[Problem]:
    """A view does not look up the request's own row."""
    if isinstance(view, OnRequest) or view.source.kind == "requests":
        return
    keys = view.source.key_names if isinstance(view, LatestView) else tuple(entity.name for entity in view.by)
    own = {spec.requests.id} | ({spec.label.on} if view.source.name == spec.label.source.name else set())
    for key in sorted(own.intersection(keys)):
        yield Problem(
            f"a feature of {spec.name!r} is drawn from what is only known after the request: "
            f"its own row of {view.source.name!r}",
            f"keyed by {key!r}",
            "key the view by an entity that has a past, such as a customer or a place",
            view.where,
        )


def check_label(spec: ModelSpec) -> Iterator[Problem]:
    """The label exists, fits the task, joins, and is not known before the question."""
    label, source, requests = spec.label, spec.label.source, spec.requests
    if source.kind != "events":
        said = "the requests themselves: the answer leaks" if source.kind == "requests" else f"a {source.kind}"
        yield Problem(
            f"the label of {spec.name!r} comes from {said}",
            repr(source.name),
            "declare tt.Events that become known when the outcome does",
            label.where,
        )
        return
    columns = source.every_column()
    for role, name in (*(("label", name) for name in label.columns), ("on=", label.on)):
        if name not in columns:
            yield Problem(
                f"{role} names a column that {source.name!r} does not have",
                repr(name),
                suggest(name, columns),
                label.where,
            )
    yield from _label_columns(spec, columns)
    if label.on in columns and columns[label.on].kind != "str":
        yield Problem(f"on={label.on!r} is not text, as request ids are", columns[label.on].kind, "", label.where)
    if label.matures <= 0:
        yield Problem("matures must be longer than nothing", f"{label.matures} µs", "", label.where)
    for name in sorted({*label.columns}.intersection(requests.every_column())):
        yield Problem(
            f"the label of {spec.name!r} is sent with {requests.name!r}: the answer leaks",
            repr(name),
            "take it out of the requests; it is not known when the question is asked",
            requests.where,
        )
    if source.known in requests.columns:
        yield Problem(
            f"{source.name!r} is declared known by a column that callers send when they ask: the answer leaks",
            f"known={source.known!r}, which is an input of {requests.name!r}",
            "declare as known= the column that says when the outcome could be known",
            source.where,
        )


def _label_columns(spec: ModelSpec, columns: Mapping[str, Column]) -> Iterator[Problem]:
    """The columns of the label are as many, and of the kinds, that the task learns from."""
    label = spec.label
    wanted = _LABEL_KINDS[spec.task.kind]
    for name in label.columns:
        held = columns.get(name)
        if held is not None and held.kind not in wanted:
            hint = f"a {spec.task.kind} task needs {' or '.join(wanted)}"
            yield Problem(f"label {name!r} has the wrong type", held.kind, hint, label.where)
    numbers = spec.task.outputs if spec.task.kind == "regression" else 1
    if len(label.columns) != numbers:
        hint = f"one for each of {spec.task.target}" if numbers > 1 else "name one column"
        yield Problem(f"the label of {spec.name!r} has another number of columns than the task has numbers",
                      f"{len(label.columns)} and {numbers}", hint, label.where)  # fmt: skip


def check_policy(spec: ModelSpec) -> Iterator[Problem]:
    """Gates, rollout and spans."""
    for floor in spec.floors:
        yield from _floor(floor, spec)
    comparisons = [gate for gate in spec.gates if isinstance(gate, Comparison)]
    for gate in comparisons:
        if gate.loss != spec.task.loss:
            hint = f"use {spec.task.loss!r}: it is what a {spec.task.kind} task minimises"
            yield Problem(
                f"the champion gate of {spec.name!r} compares another loss", repr(gate.loss), hint, spec.where
            )
    if len(comparisons) > 1:
        yield Problem(f"{spec.name!r} has more than one champion gate", str(len(comparisons)), "keep one", spec.where)
    yield from _rollout(spec, compared=bool(comparisons))
    if spec.on.length is not None and spec.holdout >= spec.on.length:
        yield Problem(f"{spec.name!r} holds back as much as it learns from", "", "shorten holdout=", spec.where)
    if spec.holdout <= 0 and spec.floors:
        yield Problem(f"{spec.name!r} has floors but no held-out tail", "", 'set holdout="7d"', spec.where)
    if not callable(spec.train):
        held = type(spec.train).__name__
        yield Problem(f"train= of {spec.name!r} is not a function", held, "pass fit(data, params)", spec.where)
    if spec.requests.kind != "requests":
        got = f"{spec.requests.name!r} holds {spec.requests.kind}"
        yield Problem(f"requests= of {spec.name!r} is not of requests", got, "declare tt.Requests(...)", spec.where)


def _floor(floor: Floor, spec: ModelSpec) -> Iterator[Problem]:
    metrics = (*METRICS[spec.task.kind], *MEASURES)
    if floor.measure not in metrics:
        hint = suggest(floor.measure, metrics)
        yield Problem(f"a floor of {spec.name!r} names an unknown metric", repr(floor.measure), hint, spec.where)
    elif (floor.side == "at_most") != (floor.measure in LOWER_IS_BETTER):
        got = f"{floor.side}({floor.measure!r}, {floor.bound:g})"
        hint = f"write tt.at_least({floor.measure!r}, ...)"
        if floor.side == "at_least":
            hint = f"write tt.at_most({floor.measure!r}, ...)"
        yield Problem(f"a floor of {spec.name!r} asks for a bad model", got, hint, spec.where)


def _rollout(spec: ModelSpec, *, compared: bool) -> Iterator[Problem]:
    shares = [step.share for step in spec.rollout]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        got = ", ".join(f"{share:g}" for share in shares)
        yield Problem(f"the rollout of {spec.name!r} does not grow", got, "order the steps by share", spec.where)
    if compared and 0 not in shares:
        hint = "put tt.shadow() first: the gate compares rows that both versions predicted"
        yield Problem(f"{spec.name!r} has a champion gate but no shadow step", "", hint, spec.where)


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest name, or with all of them."""
    names = [item for item in known if item != "*"]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names)}" if names else ""
