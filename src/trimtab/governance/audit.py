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
_TRAINED = ("job", "dataset", "trained_until", "metrics")


@dataclass(frozen=True, slots=True)
class Arm:
    """A version that answered requests beside the champion, and its share of them."""

    version: str
    number: int
    share: float
    since: Micros
    name: str = "canary"


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
    trained: Mapping[str, Json] = field(default_factory=dict)
    """What it learned from, and how it did on its held-out tail: ``job, dataset, trained_until, metrics``."""
    canary: Arm | None = None
    test: tuple[Arm, ...] = ()
    """The arms of the A/B test that was under way; they answered instead of the version."""
    killed: str = ""
    """What answered instead of the version, and who pulled the kill switch; empty when it was not on."""

    def text(self) -> str:
        """The answer as a person reads it."""
        lines = [
            f"{self.model}: version {self.number or '?'} ({self.version[:8]}) since {iso(self.since)}",
            f"  approved by: {self.approved_by}",
            f"  reason: {self.reason}",
        ]
        if self.trained:
            known = iso(self.trained["trained_until"])
            lines.append(f"  trained on: what was known at {known}, dataset {self.trained['dataset'][:8]}")
        if shown := _evidence_text(self.evidence):
            lines.append(f"  evidence: {shown}")
        if self.canary is not None:
            arm = self.canary
            name = f"version {arm.number or '?'} ({arm.version[:8]})"
            lines.append(f"  canary: {name} answered {arm.share:.0%} since {iso(arm.since)}")
        for arm in self.test:
            name = f"version {arm.number or '?'} ({arm.version[:8]})"
            lines.append(f"  A/B test, arm {arm.name}: {name} answered {arm.share:.0%} since {iso(arm.since)}")
        if self.killed:
            lines.append(f"  kill switch: {self.killed}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Trail:
    """What has been seen of one model."""

    policy: str = ""
    live: Live | None = None
    canary: Arm | None = None
    test: tuple[Arm, ...] = ()
    killed: str = ""
    permits: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By rollout: who let its version past the gate, and the id of the event that says so. A permit is good for that
    rollout alone: a version that comes back later needs a new one, or passes by the policy."""
    floors: Mapping[str, tuple[str, Json]] = field(default_factory=dict)
    """By version: the id of the judgement, and its checks."""
    registered: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """By version: what was said of it when it was registered."""

    def number(self, version: str) -> int:
        """The number that people call a version by; 0 when it was never registered."""
        return int(self.registered.get(version, {}).get("number", 0))

    def answer(self, event: Event, version: str, *, approved_by: str, evidence: Mapping[str, Json]) -> Live:
        """That a version went live by an event."""
        facts = self.registered.get(version, {})
        return Live(
            model=event.stream.removeprefix(_MODEL),
            version=version,
            number=self.number(version),
            since=event.known,
            approved_by=approved_by,
            reason=event.data["reason"],
            evidence=evidence,
            policy=self.policy,
            events=(event.id,),
            trained={name: facts[name] for name in _TRAINED if name in facts},
        )


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
    found = [
        replace(trail.live, canary=trail.canary, test=trail.test, killed=trail.killed)
        for _, trail in sorted(trails.items())
        if trail.live
    ]
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
            changes = {"registered": {**trail.registered, data["version"]: data}}
        case "FloorsJudged":
            judged = (event.id, {"checks": data["checks"], "measured_values": data["measured_values"]})
            changes = {"floors": {**trail.floors, data["version"]: judged}}
        case "Approved" | "Forced":
            changes = {"permits": {**trail.permits, data["rollout"]: (data["by"], event.id)}}
        case "TrafficShifted":
            arm = Arm(data["version"], trail.number(data["version"]), data["share"], event.known)
            changes = {"canary": arm}
        case "Promoted":
            changes = {"live": _promoted(trail, event), "canary": None, "test": ()}
        case "RolledBack":
            live = _restored(trail, event) if data["of"] == "champion" else trail.live
            changes = {"live": live, "canary": None, "test": ()}
        case "RolloutStarted":
            changes = {"test": _tested(trail, event)}
        case "Killed" | "Revived":
            changes = {"killed": _switched(trail, event) if event.type == "Killed" else ""}
    return replace(trail, **changes)


def _promoted(trail: _Trail, event: Event) -> Live:
    version = event.data["version"]
    who, permit = trail.permits.get(event.data.get("rollout", ""), ("policy", ""))
    floors, checks = trail.floors.get(version, ("", {}))
    live = trail.answer(event, version, approved_by=who, evidence={**event.data["evidence"], "floors": checks})
    return replace(live, events=tuple(found for found in (floors, permit, event.id) if found))


def _tested(trail: _Trail, event: Event) -> tuple[Arm, ...]:
    """The arms of an A/B test that began; none for any other rollout."""
    return tuple(
        Arm(arm["version"], trail.number(arm["version"]), arm["share"], event.known, arm["name"])
        for arm in event.data.get("arms", ())
    )


def _switched(trail: _Trail, event: Event) -> str:
    """What answers behind the kill switch."""
    data = event.data
    instead = f"version {trail.number(data['to']) or '?'} ({data['to'][:8]}) answers"
    if data["constant"]:
        instead = f"every answer is {', '.join(f'{value:g}' for value in data['constant'])}"
    return f"{instead}, since {iso(event.known)}, pulled by {data['by']}: {data['reason']}"


def _restored(trail: _Trail, event: Event) -> Live:
    person = event.draft.actor.partition("operator:")[2]
    return trail.answer(event, event.data["to"], approved_by=person or "rollback", evidence=event.data["evidence"])


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
