"""The ledger: every decision and every low-volume fact, as immutable events in hash-chained streams.

State is a fold of these events; nothing is updated in place. A stream is named after what it is about: the
platform is ``platform``, a model is ``model:<name>``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from trimtab.core.clock import Micros
from trimtab.core.ids import Json, canonical, digest, rounded, sha256
from trimtab.errors import ConflictError, InputError, LedgerCorrupt

PLATFORM = "platform"
GENESIS = "0" * 64
"""The hash that stands before the first event."""


def model_stream(name: str) -> str:
    """The stream of a model."""
    return f"model:{name}"


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that is not in the ledger yet.

    Parameters
    ----------
    id
        Unique over the ledger and a function of what it says (see :func:`trimtab.core.ids.derived_id`), so
        that appending it twice is seen.
    type
        What happened, in the past tense: ``TrainingFinished``.
    data
        JSON. No entity keys, feature values or secrets.
    happened, known
        Microseconds: when it took place, and when the platform learned of it.
    actor
        Who caused it: ``loop``, ``operator:<name>``, ``job:<id>``.
    cause
        The id of the event that led to this one; empty when none did.
    version
        The version of the shape of ``data``; old shapes are upcast on read.
    measured
        The names of the fields of ``data`` that were measured on a wall clock or differ between machines
        (durations, process ids); they are left out of the decision digest.
    """

    id: str
    type: str
    data: Mapping[str, Json]
    happened: Micros
    known: Micros
    actor: str = "loop"
    cause: str = ""
    version: int = 1
    measured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """An event in the ledger: a draft with its place and its hash."""

    seq: int
    """Position in the whole ledger, from 1, without gaps, in commit order."""
    stream: str
    number: int
    """Position in its stream, from 1, without gaps."""
    epoch: int
    draft: Draft
    previous: str
    hash: str

    @property
    def id(self) -> str:
        return self.draft.id

    @property
    def type(self) -> str:
        return self.draft.type

    @property
    def data(self) -> Mapping[str, Json]:
        return self.draft.data

    @property
    def known(self) -> Micros:
        return self.draft.known


class Ledger(Protocol):
    """Append-only store of events.

    Contract:

    - *Atomic*: an ``append`` is written whole or not at all, and is on disk when the call returns.
    - *Compare and append*: it succeeds only if ``stream`` holds exactly ``expected`` events, else raises
      ``ConflictError`` and writes nothing.
    - *Idempotent*: when the stream already holds exactly these events right after ``expected``, the stored ones are
      returned and nothing is written. Exactly these means the same ids, and of each the same type, actor, time and
      data without its measured fields (see :func:`check_repeated`); the same id with other content raises
      ``ConflictError`` that names the event.
    - *Fenced*: an ``epoch`` lower than the highest one ever appended raises ``StaleEpoch``.
    - *Ordered*: ``read`` yields events in commit order with no gaps; an event once seen is never missing later.
    - *Threads and processes*: any number may append and read at once.
    """

    def append(self, stream: str, drafts: Sequence[Draft], *, expected: int, epoch: int) -> list[Event]:
        """Append drafts to a stream and return the stored events."""
        ...

    def read(self, *, after: int = 0, stream: str | None = None) -> Iterator[Event]:
        """Yield the events with ``seq > after``, of one stream or of all."""
        ...

    def head(self) -> tuple[int, str, int]:
        """The last ``seq``, its hash, and the highest epoch: ``(0, GENESIS, 0)`` when empty."""
        ...


def normalized(draft: Draft) -> Draft:
    """The draft as it will read back: its data through JSON and back, so that its hash survives storage.

    Raises
    ------
    InputError
        When the draft has no id, or its data is not JSON (NaN and infinities are not).

    Examples
    --------
    >>> normalized(Draft("e1", "RunFinished", {"folds": (1, 2)}, 0, 0)).data
    {'folds': [1, 2]}
    """
    if not draft.id:
        raise InputError("an event has no id", got=draft.type, hint="derive one from what it says: ids.derived_id")
    try:
        data = json.loads(canonical(dict(draft.data)))
    except (TypeError, ValueError) as error:
        raise InputError(f"the data of event {draft.type} is not JSON", got=str(error)) from None
    return replace(draft, data=data, measured=tuple(draft.measured))


def event_hash(previous: str, stream: str, number: int, epoch: int, draft: Draft) -> str:
    """The hash that chains an event to the one before it in the whole ledger."""
    body = {
        "previous": previous,
        "stream": stream,
        "number": number,
        "epoch": epoch,
        "id": draft.id,
        "type": draft.type,
        "data": dict(draft.data),
        "happened": draft.happened,
        "known": draft.known,
        "actor": draft.actor,
        "cause": draft.cause,
        "version": draft.version,
        "measured": list(draft.measured),
    }
    return sha256(canonical(body))


def verify(events: Iterable[Event], *, previous: str = GENESIS) -> int:
    """Check the hash chain and return how many events it holds.

    Raises
    ------
    LedgerCorrupt
        At the first event whose hash does not follow from its content and the event before it.
    """
    count = 0
    for event in events:
        expected = event_hash(previous, event.stream, event.number, event.epoch, event.draft)
        if event.previous != previous or event.hash != expected:
            raise LedgerCorrupt(
                "the ledger was changed after it was written",
                got=f"event {event.seq} ({event.type}) with hash {event.hash[:12]}, expected {expected[:12]}",
                hint="restore the ledger from a backup; everything before this event is intact",
            )
        previous = event.hash
        count += 1
    return count


Upcaster = Callable[[Mapping[str, Json]], Mapping[str, Json]]
"""Turns the data of one version of an event type into the data of the next version."""


def upcast(event: Event, upcasters: Mapping[tuple[str, int], Upcaster]) -> Event:
    """Bring an event to the newest version of its type; the hash stays that of the stored form."""
    draft = event.draft
    while (step := upcasters.get((draft.type, draft.version))) is not None:
        draft = replace(draft, data=step(draft.data), version=draft.version + 1)
    return event if draft is event.draft else replace(event, draft=draft)


def check_repeated(stored: Sequence[Event], again: Sequence[Draft]) -> None:
    """Check that drafts whose ids are stored already say what is stored, but for what was measured.

    Floats are compared as in :func:`decision_digest`, to six digits. ``stored`` is in its newest shape.

    Raises
    ------
    ConflictError
        At the first event that differs, with the names of its fields that do.
    """
    for event, draft in zip(stored, again, strict=True):
        before, now = _decided(event.draft, draft.measured), _decided(draft, draft.measured)
        if canonical(before) == canonical(now):
            continue
        fields = [name for name in sorted({*before, *now}) if before.get(name, ...) != now.get(name, ...)]
        raise ConflictError(
            "an event is in the ledger already, but says something else",
            got=f"event {event.number} of {event.stream} ({event.type}, id {event.id}): {', '.join(fields)} differ",
            hint="the input or the code has changed since it was decided",
        )


def _decided(draft: Draft, measured: Sequence[str]) -> dict[str, Json]:
    data = {f"data.{name}": rounded(value) for name, value in draft.data.items() if name not in measured}
    return {"type": draft.type, "actor": draft.actor, "happened": draft.happened, **data}


def decision_digest(events: Iterable[Event]) -> str:
    """The identity of a run of the loop: its ordered events without measured fields, floats to six digits."""
    lines = [
        {
            "stream": event.stream,
            "type": event.type,
            "id": event.draft.id,
            "happened": event.draft.happened,
            "data": rounded({k: v for k, v in event.data.items() if k not in event.draft.measured}),
        }
        for event in events
    ]
    return digest(lines)
