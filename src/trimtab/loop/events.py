"""The events of a model's stream: their names, their fields, and how old ones are brought up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.core.clock import Micros
from trimtab.core.ids import Json, derived_id
from trimtab.core.ledger import Draft, Upcaster
from trimtab.errors import InputError

MODEL_DECLARED = "ModelDeclared"
TRIGGER_FIRED = "TriggerFired"
TRIGGER_HELD = "TriggerHeld"
TRAINING_REQUESTED = "TrainingRequested"
TRAINING_FINISHED = "TrainingFinished"
TRAINING_FAILED = "TrainingFailed"
TRAINING_REPEATED = "TrainingRepeated"
VERSION_REGISTERED = "VersionRegistered"
VARIANT_MEASURED = "VariantMeasured"
VERSION_BROUGHT = "VersionBrought"
FLOORS_JUDGED = "FloorsJudged"
ROLLOUT_STARTED = "RolloutStarted"
GATE_PROGRESSED = "GateProgressed"
GATE_JUDGED = "GateJudged"
APPROVAL_REQUESTED = "ApprovalRequested"
APPROVED = "Approved"
DENIED = "Denied"
FORCED = "Forced"
TRAFFIC_SHIFTED = "TrafficShifted"
STEP_PASSED = "StepPassed"
PROMOTED = "Promoted"
REJECTED = "Rejected"
ROLLED_BACK = "RolledBack"
DAY_MATURED = "DayMatured"
QUALITY_JUDGED = "QualityJudged"
DRIFT_CHANGED = "DriftChanged"
DRIFT_CONFIRMED = "DriftConfirmed"
REQUEST_REFUSED = "RequestRefused"
KILLED = "Killed"
REVIVED = "Revived"
NOTIFIED = "Notified"


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of an event type's data: those it must have, and those that were measured on a wall clock."""

    fields: tuple[str, ...]
    measured: tuple[str, ...] = ()
    version: int = 1


def _shape(fields: str, *, measured: str = "", version: int = 1) -> Shape:
    return Shape(tuple((fields + " " + measured).split()), tuple(measured.split()), version)


SHAPES: dict[str, Shape] = {
    MODEL_DECLARED: _shape("model policy previous"),
    TRIGGER_FIRED: _shape("trigger reason evidence"),
    TRIGGER_HELD: _shape("trigger reason because key"),
    TRAINING_REQUESTED: _shape("job cutoff reason trigger champion seed"),
    TRAINING_FINISHED: _shape(
        "job version metrics dataset rows trained_until size_bytes reference_weeks reference_level daily_gains",
        measured="train_seconds p99_ms other",
    ),
    TRAINING_FAILED: _shape("job error"),
    TRAINING_REPEATED: _shape("job version"),
    VERSION_REGISTERED: _shape("version number job metrics dataset rows trained_until reference_weeks reference_level"),
    VARIANT_MEASURED: _shape(
        "version parent variant metrics parent_metrics size_bytes parent_size_bytes largest_difference flipped rows",
        measured="p99_ms latencies",
    ),
    VERSION_BROUGHT: _shape(
        "version by reason metrics rows trained_until size_bytes reference_weeks reference_level", measured="p99_ms"
    ),
    FLOORS_JUDGED: _shape("version passed checks", measured="measured_values"),
    ROLLOUT_STARTED: _shape("rollout version champion bound margin alpha expires"),
    GATE_PROGRESSED: _shape("rollout version day rows days gain e_superior e_inferior e_harm state"),
    GATE_JUDGED: _shape("rollout version verdict evidence"),
    APPROVAL_REQUESTED: _shape("rollout version evidence"),
    APPROVED: _shape("rollout version by reason asked"),
    DENIED: _shape("rollout version by reason asked"),
    FORCED: _shape("rollout version by reason asked"),
    TRAFFIC_SHIFTED: _shape("rollout version share step"),
    STEP_PASSED: _shape("rollout version step evidence"),
    PROMOTED: _shape("rollout version replaces reason evidence"),
    REJECTED: _shape("rollout version reason evidence"),
    ROLLED_BACK: _shape("rollout version to of reason evidence"),
    DAY_MATURED: _shape("day version answered labelled loss"),
    QUALITY_JUDGED: _shape("version week days loss limit alpha labelled answered coverage verdict", version=2),
    DRIFT_CHANGED: _shape("version feature severity previous psi alarm_psi ks rows start end"),
    DRIFT_CONFIRMED: _shape("version severity since end psi alarm_psi"),
    REQUEST_REFUSED: _shape("asked kind by reason version"),
    KILLED: _shape("version to constant by reason asked"),
    REVIVED: _shape("version by reason asked"),
    NOTIFIED: _shape("keys"),
}
"""Every type of a model's stream. Optional fields may come beside these (``asked``, ``number`` …)."""

OPTIONAL = frozenset(
    {"asked", "number", "champion_number", "replaces_number", "to_number", "strategy", "wanted", "arms", "unit"}
)


def _unknown_alpha(data: Mapping[str, Json]) -> Mapping[str, Json]:
    """Version 1 did not say at which chance of a false alarm the limit was drawn; nobody can tell afterwards."""
    return {**data, "alpha": None}


UPCASTERS: dict[tuple[str, int], Upcaster] = {(QUALITY_JUDGED, 1): _unknown_alpha}
"""By (type, version): how the data of that version becomes the data of the next one; a step for each that ever was."""


def draft(
    stream: str,
    number: int,
    type: str,
    data: Mapping[str, Json],
    *,
    at: Micros,
    actor: str = "loop",
    cause: str = "",
) -> Draft:
    """A draft of an event that will be the ``number``-th of its stream.

    Its id follows from stream, number and type: deciding again after a crash gives the same id, so that appending it
    twice is seen.

    Raises
    ------
    InputError
        When the type is unknown, or the data has not exactly its fields.
    """
    shape = SHAPES.get(type)
    if shape is None:
        raise InputError("no such type of event", got=repr(type), hint=f"one of {', '.join(sorted(SHAPES))}")
    missing = set(shape.fields) - set(data)
    unknown = set(data) - set(shape.fields) - OPTIONAL
    if missing or unknown:
        raise InputError(
            f"the data of {type} does not have its fields",
            got=f"missing {sorted(missing)}, unknown {sorted(unknown)}",
            hint=f"fields: {', '.join(shape.fields)}",
        )
    return Draft(
        id=derived_id(stream, number, type),
        type=type,
        data=dict(data),
        happened=at,
        known=at,
        actor=actor,
        cause=cause,
        version=shape.version,
        measured=shape.measured,
    )
