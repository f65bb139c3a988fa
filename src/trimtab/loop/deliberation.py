"""One decision in the making: drafts so far, and the state they lead to."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trimtab.core.clock import Micros
from trimtab.core.ids import Json, derived_id
from trimtab.core.ledger import Draft
from trimtab.loop import events as e
from trimtab.loop.fold import apply
from trimtab.loop.policy import Policy
from trimtab.loop.state import State, Version

_NUMBERED = (
    ("version", "number"),
    ("champion", "champion_number"),
    ("replaces", "replaces_number"),
    ("to", "to_number"),
)


class Deliberation:
    """Collects drafts and folds each at once, so that later rules see what earlier ones decided.

    It lives for one call of :func:`trimtab.loop.decide.decide` and is not shared.
    """

    def __init__(self, policy: Policy, state: State, now: Micros, *, measured_decide: bool = True) -> None:
        self.policy, self.state, self.now = policy, state, now
        self.measured_decide = measured_decide
        self.drafts: list[Draft] = []
        self.waits = ""
        """Why a canary step waits, where that is more than too little traffic."""

    def record(self, type: str, data: Mapping[str, Json], *, actor: str = "loop", cause: str = "") -> str:
        """Draft an event, fold it, and return its id. Numbers of versions are added, since people say those."""
        named = {
            number: self.state.versions[data[key]].number
            for key, number in _NUMBERED
            if number not in data and data.get(key) in self.state.versions
        }
        number = self.state.number + 1
        draft = e.draft(self.state.stream, number, type, {**data, **named}, at=self.now, actor=actor, cause=cause)
        self.drafts.append(draft)
        self.state = apply(self.state, draft)
        return draft.id

    def new_id(self, kind: str) -> str:
        """An id for something that the next event brings into being."""
        return derived_id(self.state.stream, self.state.number + 1, kind)

    def version(self, digest: str) -> Version | None:
        """A registered version, or None."""
        return self.state.versions.get(digest)


def finite(value: Json) -> float | None:
    """The number, or None when it is not a finite one: the ledger holds no NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def finite_all(values: Json) -> list[float]:
    """The finite numbers of a list; empty when it is not a list."""
    if not isinstance(values, list | tuple):
        return []
    return [number for number in (finite(value) for value in values) if number is not None]


def plain(value: Json) -> Json:
    """A copy of a JSON value in which every number is finite: others become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return finite(value) if isinstance(value, float) else value
