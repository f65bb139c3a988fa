"""The kinds of decision a page can show: what each is called, its tone and its sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.core.ids import Json
from trimtab.web.markup import Markup, element


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of decision looks."""

    label: str
    tone: str
    """``good``, ``bad``, ``warn`` or ``quiet``; never the only sign, because not everybody sees colour."""
    path: str
    """SVG path around (0, 0), about ten wide."""
    filled: bool = True
    marked: bool = False
    """Whether it is drawn into the quality plot."""


_UP, _DOWN = "M0-5.5L5.5 4.5H-5.5Z", "M0 5.5L5.5-4.5H-5.5Z"
_CROSS, _DIAMOND = "M-4-4L4 4M4-4L-4 4", "M0-6L6 0L0 6L-6 0Z"
_TICK, _DOT = "M0-4.5V4.5", "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0"
_CHECK, _PIE = "M-5 0L-1.5 4L5-4", "M0-5a5 5 0 0 1 0 10Z M0-5a5 5 0 0 0 0 10"

KINDS: dict[str, Kind] = {
    "promote": Kind("Promoted", "good", _UP, marked=True),
    "reject": Kind("Rejected", "warn", _CROSS, filled=False, marked=True),
    "rollback": Kind("Rolled back", "bad", _DOWN, marked=True),
    "force": Kind("Forced", "bad", _DIAMOND, filled=False, marked=True),
    "kill": Kind("Killed", "bad", _CROSS, marked=True),
    "revive": Kind("Revived", "good", _CHECK, filled=False),
    "fault": Kind("Fault", "bad", _DIAMOND, marked=True),
    "train": Kind("Trained", "quiet", _TICK, filled=False, marked=True),
    "trigger": Kind("Trigger", "quiet", _DOT, filled=False),
    "gate": Kind("Gate", "quiet", _CHECK, filled=False),
    "gate_failed": Kind("Gate failed", "warn", _CROSS, filled=False),
    "shadow": Kind("Shadow", "quiet", _PIE, filled=False),
    "canary": Kind("Canary", "quiet", _PIE, filled=False),
    "approve": Kind("Approved", "good", _CHECK, filled=False),
    "deny": Kind("Denied", "warn", _CROSS, filled=False),
    "quality": Kind("Quality", "warn", _DOT),
    "drift": Kind("Drift", "warn", _DOT),
    "fail": Kind("Failed", "bad", _CROSS, filled=False),
    "note": Kind("Note", "quiet", _DOT, filled=False),
}


KIND_OF_EVENT: dict[str, str] = {
    "TriggerFired": "trigger",
    "TriggerHeld": "note",
    "TrainingFinished": "train",
    "TrainingFailed": "fail",
    "VersionBrought": "note",
    "FloorsJudged": "gate",
    "GateJudged": "gate",
    "RolloutStarted": "shadow",
    "StepPassed": "canary",
    "ApprovalRequested": "note",
    "Approved": "approve",
    "Denied": "deny",
    "Forced": "force",
    "Promoted": "promote",
    "Rejected": "reject",
    "RolledBack": "rollback",
    "Killed": "kill",
    "Revived": "revive",
    "QualityJudged": "quality",
    "DriftChanged": "drift",
    "DriftConfirmed": "drift",
    "RequestRefused": "deny",
}
"""The kind under which an event of the ledger is shown; a type that is not here is a step on the way."""


def kind_of_event(type: str, data: Mapping[str, Json]) -> str:
    """The kind under which an event is shown, by what it says: a gate that was not passed bears no check mark.

    Examples
    --------
    >>> kind_of_event("FloorsJudged", {"passed": False}), kind_of_event("GateJudged", {"verdict": "superior"})
    ('gate_failed', 'gate')
    """
    failed = data.get("passed") is False or data.get("verdict") in ("inferior", "expired")
    kind = KIND_OF_EVENT.get(type, "note")
    return "gate_failed" if kind == "gate" and failed else kind


def kind_of(name: str) -> Kind:
    """How a kind looks; an unknown one is shown under its own name."""
    return KINDS.get(name) or Kind(name.replace("_", " ").capitalize(), "quiet", _DOT, filled=False)


def sign(name: str, *, x: float = 0.0, y: float = 0.0) -> Markup:
    """The sign of a kind as an SVG path at ``(x, y)``."""
    kind = kind_of(name)
    style = "full" if kind.filled else "open"
    where = f"translate({x:.1f} {y:.1f})" if x or y else None
    return element("path", class_=f"sign {style} {kind.tone}", d=kind.path, transform=where)


def icon(name: str) -> Markup:
    """The sign of a kind as a small picture of its own, for lists and legends."""
    return element("svg", sign(name), class_="icon", viewBox="-8 -8 16 16", aria_hidden="true")
