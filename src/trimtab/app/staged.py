"""What became of the faults that a replay put on stage: how each showed, and what ended the harm.

A unit change shows when a feature named after its column is in critical drift. It is contained by the promotion, for
good, of a version that learned from rows after the change in place of one that did not: the sender goes on sending the
new unit, so nothing else ends it within a replay. A bad challenger shows and is contained by its rollback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trimtab.app.data import UnitFault
from trimtab.core.clock import DAY, Micros, iso
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
        shown = _first(event for event in events if _shows(event, fault))
        ended = _first(event for event in events if _relearned(event, events, fault.since))
        what = f"{fault.source}.{fault.column} is multiplied by {fault.factor:g} from {iso(fault.since)} on"
        entry = _entry("unit change", fault.since, what, shown, ended)
        if ended is not None:
            days = (_trained_until(ended.data["version"], events) - fault.since) / DAY
            entry["containment"] = f"{describe(ended)}; its training saw {days:.1f} days of the changed unit"
        yield entry


def _shows(event: Event, fault: UnitFault) -> bool:
    """Whether an event says that a feature named after the column is in critical drift, over days with the fault."""
    return (
        event.type == e.DRIFT_CHANGED
        and event.data["severity"] == "critical"
        and event.data["end"] > fault.since
        and fault.column in event.data["feature"]
    )


def _relearned(event: Event, events: Sequence[Event], since: Micros) -> bool:
    """Whether an event ends the harm of a unit change: a champion that knew only the old unit is replaced for good.

    The new one must have learned from rows after the change. A promotion that was rolled back later did not end it,
    and where the first champion already knew the changed unit there was no harm to end.
    """
    if event.type != e.PROMOTED or event.known <= since or not event.data["replaces"]:
        return False
    version = event.data["version"]
    back = any(
        later.type == e.ROLLED_BACK and later.data["of"] == "champion" and later.data["version"] == version
        for later in events
        if later.known > event.known
    )
    return not back and _trained_until(event.data["replaces"], events) <= since < _trained_until(version, events)


def _trained_until(version: str, events: Sequence[Event]) -> Micros:
    trained = (event for event in events if event.type == e.TRAINING_FINISHED and event.data["version"] == version)
    found = _first(trained)
    return 0 if found is None else int(found.data["trained_until"])


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
