"""The auditor's question: what was live at T, who approved it, on what evidence? Answered from the events alone.

It reads event names and data, and none of the code that decided: an audit must not depend on what it audits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trimtab.core.clock import Micros, iso
from trimtab.core.ids import Json
from trimtab.core.ledger import Event

_MODEL = "model:"


@dataclass(frozen=True, slots=True)
class Arm:
    """A version that answered requests beside the champion, and its share of them."""

    version: str
    number: int
    share: float
    since: Micros


@dataclass(frozen=True, slots=True)
class Live:
    """What answered for one model at a time, and why it was allowed to.

    ``approved_by`` is a person's name, ``policy`` when the policy asks for no person, or ``rollback`` when the version
    came back because another one failed.
    """

    model: str
    version: str
    number: int
    since: Micros
    approved_by: str
    reason: str
    evidence: Mapping[str, Json]
    policy: str
    """Digest of the policy in force when it went live."""
    events: tuple[str, ...]
    """Ids of the events that this answer rests on, the deciding one last."""
    canary: Arm | None = None

    def text(self) -> str:
        """The answer as a person reads it."""
        lines = [
            f"{self.model}: version {self.number or '?'} ({self.version[:8]}) since {iso(self.since)}",
            f"  approved by: {self.approved_by}",
            f"  reason: {self.reason}",
        ]
        if shown := _evidence_text(self.evidence):
            lines.append(f"  evidence: {shown}")
        if self.canary is not None:
            arm = self.canary
            name = f"version {arm.number or '?'} ({arm.version[:8]})"
            lines.append(f"  canary: {name} answered {arm.share:.0%} since {iso(arm.since)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Trail:
    """What has been seen of one model."""

    policy: str = ""
    live: Live | None = None
    canary: Arm | None = None
    permits: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By version: who let it past the gate, and the id of the event that says so."""
    floors: Mapping[str, tuple[str, Json]] = field(default_factory=dict)
    """By version: the id of the judgement, and its checks."""
    numbers: Mapping[str, int] = field(default_factory=dict)


def at(events: Iterable[Event], when: Micros) -> tuple[Live, ...]:
    """What was live at ``when``, one answer per model that had a champion then, by name.

    Parameters
    ----------
    events
        Of one stream or of all, in ledger order.
    when
        Events that became known later play no part.
    """
    trails: dict[str, _Trail] = {}
    for event in events:
        if event.stream.startswith(_MODEL) and event.known <= when:
            trails[event.stream] = _follow(trails.get(event.stream, _Trail()), event)
    found = [replace(trail.live, canary=trail.canary) for _, trail in sorted(trails.items()) if trail.live]
    return tuple(found)


def timeline(
    events: Iterable[Event], describe: Callable[[Event], str], *, without: Collection[str] = ()
) -> list[tuple[Micros, str]]:
    """When and what, in ledger order.

    Parameters
    ----------
    describe
        Makes the sentence: :func:`trimtab.loop.sentences.describe`.
    without
        Event types to leave out: :data:`trimtab.loop.sentences.QUIET` gives the short timeline.
    """
    return [(event.draft.happened, describe(event)) for event in events if event.type not in without]


def _follow(trail: _Trail, event: Event) -> _Trail:
    data, changes = event.data, dict[str, Any]()
    match event.type:
        case "ModelDeclared":
            changes = {"policy": data["policy"]}
        case "VersionRegistered":
            changes = {"numbers": {**trail.numbers, data["version"]: data["number"]}}
        case "FloorsJudged":
            judged = (event.id, {"checks": data["checks"], "measured_values": data["measured_values"]})
            changes = {"floors": {**trail.floors, data["version"]: judged}}
        case "Approved" | "Forced":
            changes = {"permits": {**trail.permits, data["version"]: (data["by"], event.id)}}
        case "TrafficShifted":
            number = trail.numbers.get(data["version"], 0)
            changes = {"canary": Arm(data["version"], number, data["share"], event.known)}
        case "Promoted":
            changes = {"live": _promoted(trail, event), "canary": None}
        case "RolledBack":
            live = _restored(trail, event) if data["of"] == "champion" else trail.live
            changes = {"live": live, "canary": None}
    return replace(trail, **changes)


def _promoted(trail: _Trail, event: Event) -> Live:
    data = event.data
    who, permit = trail.permits.get(data["version"], ("policy", ""))
    floors, checks = trail.floors.get(data["version"], ("", {}))
    return Live(
        model=event.stream.removeprefix(_MODEL),
        version=data["version"],
        number=trail.numbers.get(data["version"], 0),
        since=event.known,
        approved_by=who,
        reason=data["reason"],
        evidence={**data["evidence"], "floors": checks},
        policy=trail.policy,
        events=tuple(found for found in (floors, permit, event.id) if found),
    )


def _restored(trail: _Trail, event: Event) -> Live:
    data, actor = event.data, event.draft.actor
    return Live(
        model=event.stream.removeprefix(_MODEL),
        version=data["to"],
        number=trail.numbers.get(data["to"], 0),
        since=event.known,
        approved_by=actor.removeprefix("operator:") if actor.startswith("operator:") else "rollback",
        reason=data["reason"],
        evidence=data["evidence"],
        policy=trail.policy,
        events=(event.id,),
    )


def _evidence_text(evidence: Mapping[str, Json]) -> str:
    parts = []
    if evidence.get("days"):
        parts.append(
            f"mean gain {evidence['mean_gain']:+.4f} a row over {evidence['days']} days ({evidence['rows']} rows),"
            f" {evidence['e_superior']:.3g} to 1 for better"
        )
    floors = evidence.get("floors") or {}
    values = floors.get("measured_values", {})
    for check in floors.get("checks", ()):
        value = check["value"] if check["value"] is not None else values.get(check["measure"])
        sign = "≥" if check["side"] == "at_least" else "≤"
        parts.append(f"{check['measure']} {'unknown' if value is None else f'{value:.4g}'} ({sign} {check['bound']:g})")
    return "; ".join(parts)
