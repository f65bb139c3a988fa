"""What the gates said of a version, and which version a person means: read from the ledger alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.app.naming import meant, registered
from trimtab.core.ids import Json
from trimtab.core.ledger import Event, Ledger, model_stream
from trimtab.errors import UnknownName
from trimtab.loop import events as e
from trimtab.loop.fold import fold_all

Result = dict[str, Any]


def judged(ledger: Ledger, model: str, version: str) -> Result:
    """What the gates of a model say of a version, from the ledger: its floors, and the comparison."""
    events = list(ledger.read(stream=model_stream(model)))
    if not events:
        raise UnknownName("nothing is known of that model", got=repr(model))
    digest = named_version(events, version)
    floors = [event.data for event in events if event.type == e.FLOORS_JUDGED and event.data["version"] == digest]
    checks = [_floor(check, floors[-1]["measured_values"]) for check in floors[-1]["checks"]] if floors else []
    passed = bool(floors) and bool(floors[-1]["passed"])
    comparison = _comparison(events, digest)
    if comparison is not None:
        checks.append(comparison)
        passed = passed and comparison["passed"]
    return {"model": model, "version": digest, "passed": passed, "checks": checks}


def named_version(events: Sequence[Event], named: str) -> str:
    """The version that a person means, of those in the ledger.

    Raises
    ------
    UnknownName
        When there is none, or there are several.
    """
    return meant(named, registered(events))


def champion_of(events: Sequence[Event], model: str) -> str:
    """The champion of a model by its events, as the loop itself has it: after a step back, the one before."""
    return fold_all(model_stream(model), events).champion


def _floor(check: Mapping[str, Json], measured: Mapping[str, Json]) -> Result:
    name = check["measure"]
    value = check["value"] if check["value"] is not None else measured.get(name)
    kept = {key: check[key] for key in ("bound", "side", "passed")}
    return {"name": name, "value": value, **kept, "detail": "held-out tail" if value is not None else "not measured"}


def _comparison(events: Sequence[Event], version: str) -> Result | None:
    """The last comparison of a version with a champion; None where it needed none."""
    ours = [event for event in events if event.data.get("version") == version]
    started = [event.data for event in ours if event.type == e.ROLLOUT_STARTED]
    if not started or not started[-1]["champion"]:
        return None
    rollout = started[-1]["rollout"]
    progress = [event.data for event in ours if event.type == e.GATE_PROGRESSED and event.data["rollout"] == rollout]
    verdict = next(
        (e_.data["verdict"] for e_ in ours if e_.type == e.GATE_JUDGED and e_.data["rollout"] == rollout), ""
    )
    last = progress[-1] if progress else {"days": 0, "rows": 0, "gain": 0.0, "e_superior": None}
    said = f"{last['days']} matured days, {last['rows']} rows, gain {last['gain']:+.4f} a row"
    return {
        "name": "better than the champion",
        "value": last["e_superior"],
        "bound": 1 / started[-1]["alpha"],
        "side": "at_least",
        "passed": verdict in ("superior", "floors"),
        "detail": f"{said}: {verdict or 'no verdict yet'}",
    }
