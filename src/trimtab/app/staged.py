"""What became of the faults that a replay put on stage: how each showed, and what ended the harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trimtab.app.data import UnitFault
from trimtab.core.clock import Micros, iso
from trimtab.core.ids import Json
from trimtab.core.ledger import Event
from trimtab.loop import events as e
from trimtab.loop.sentences import describe


def staged_faults(
    units: Sequence[str], bad_challengers: Sequence[Micros], events: Sequence[Event]
) -> list[dict[str, Json]]:
    """One entry per fault, in the fields of :class:`trimtab.web.report_data.Fault`."""
    return [*_units(units, events), *_bad(bad_challengers, events)]


def _units(units: Sequence[str], events: Sequence[Event]) -> Iterator[dict[str, Json]]:
    for text in units:
        fault = UnitFault.parse(text)
        shown = _first(
            event
            for event in events
            if event.type == e.DRIFT_CHANGED
            and event.known > fault.since
            and event.data["severity"] == "critical"
            and fault.column in event.data["feature"]
        )
        ended = _first(
            event
            for event in events
            if event.type == e.PROMOTED and event.known > fault.since and _trained_after(event, events, fault.since)
        )
        what = f"{fault.source}.{fault.column} is multiplied by {fault.factor:g} from {iso(fault.since)} on"
        yield _entry("unit change", fault.since, what, shown, ended)


def _bad(moments: Sequence[Micros], events: Sequence[Event]) -> Iterator[dict[str, Json]]:
    for moment in moments:
        forced = _first(event for event in events if event.type == e.FORCED and event.known >= moment)
        ended = None
        if forced is not None:
            version = forced.data["version"]
            ended = _first(
                event for event in events if event.type == e.ROLLED_BACK and event.data["version"] == version
            )
        what = "an operator forces a version that was trained on swapped labels past the gate"
        yield _entry("bad challenger", moment, what, ended, ended)


def _entry(name: str, started: Micros, what: str, shown: Event | None, ended: Event | None) -> dict[str, Json]:
    return {
        "name": name,
        "started": started,
        "what": what,
        "detected": shown.known if shown else None,
        "detection": describe(shown) if shown else "",
        "contained": ended.known if ended else None,
        "containment": describe(ended) if ended else "",
    }


def _first(events: Iterator[Event]) -> Event | None:
    return next(events, None)


def _trained_after(promoted: Event, events: Sequence[Event], moment: Micros) -> bool:
    version = promoted.data["version"]
    return any(
        event.data["trained_until"] > moment
        for event in events
        if event.type == e.TRAINING_FINISHED and event.data["version"] == version
    )
