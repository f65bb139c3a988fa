"""The fold: from events to the state of a model.

It is pure and total: an event type that this version does not know changes only the position in the stream, so that a
ledger written by a newer version can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import msgspec

from trimtab.core.clock import DAY, Micros
from trimtab.core.ids import Json
from trimtab.core.ledger import Draft, Event, upcast
from trimtab.gates.comparison import PairedEvidence, start_evidence, watch_harm
from trimtab.loop import events as e
from trimtab.loop.sentences import describe
from trimtab.loop.state import (
    WEEK_DAYS,
    Drift,
    JudgedWeek,
    Killed,
    Notice,
    Reign,
    Rollout,
    State,
    TestArm,
    Training,
    Version,
    Week,
)


def fold(state: State, event: Event) -> State:
    """The state after one more event; events of other streams change nothing."""
    return apply(state, upcast(event, e.UPCASTERS).draft) if event.stream == state.stream else state


def fold_all(stream: str, events: Iterable[Event]) -> State:
    """The state of a stream from its events."""
    state = State(stream)
    for event in events:
        state = fold(state, event)
    return state


def apply(state: State, draft: Draft) -> State:
    """The state after a draft, as if it had been appended; ``decide`` runs on it."""
    step = _FOLDS.get(draft.type)
    data = draft.data
    after = step(state, data, draft.known) if step else state
    after = replace(after, number=state.number + 1)
    if asked := data.get("asked"):
        after = replace(after, asked=after.asked | {asked})
    if _worth_telling(draft):
        notice = Notice(draft.id, draft.type, describe(draft), draft.happened)
        after = replace(after, notices=(*after.notices, notice))
    return replace(after, route=after.number) if draft.type in _ROUTING else after


_ROUTING = frozenset({e.ROLLOUT_STARTED, e.TRAFFIC_SHIFTED, e.PROMOTED, e.REJECTED, e.ROLLED_BACK, e.KILLED, e.REVIVED})
_TOLD = frozenset(
    {e.TRAINING_FAILED, e.APPROVAL_REQUESTED, e.PROMOTED, e.REJECTED, e.ROLLED_BACK, e.FORCED, e.DRIFT_CONFIRMED}
    | {e.KILLED, e.REVIVED}
)
_FIRST_PHASE: Mapping[str, Literal["warming", "test"]] = {"blue-green": "warming", "ab": "test"}


def _worth_telling(draft: Draft) -> bool:
    match draft.type:
        case e.QUALITY_JUDGED:
            return bool(draft.data["verdict"] == "drop")
        case e.TRIGGER_HELD:
            return bool(draft.data["because"] == "budget")
        case _:
            return draft.type in _TOLD


Data = Mapping[str, Json]
Fold = Callable[[State, Data, Micros], State]


def _declared(state: State, data: Data, _: Micros) -> State:
    return replace(state, policy=data["policy"])


def _held(state: State, data: Data, _: Micros) -> State:
    return replace(state, held={**state.held, data["trigger"]: data["key"]})


def _training_requested(state: State, data: Data, _: Micros) -> State:
    job = Training(data["job"], data["cutoff"], data["reason"], data["trigger"], data["champion"], data["seed"])
    return replace(
        state,
        trainings={**state.trainings, job.job: job},
        cutoffs=(*state.cutoffs, job.cutoff),
        held={},
    )


def _training_ended(state: State, data: Data, *, failures: int) -> State:
    left = {job: training for job, training in state.trainings.items() if job != data["job"]}
    return replace(state, trainings=left, failures=failures)


def _training_finished(state: State, data: Data, _: Micros) -> State:
    after = _training_ended(state, data, failures=0)
    known = state.versions.get(data["version"])
    version = Version(
        digest=data["version"],
        number=known.number if known else len(state.versions) + 1,
        trained_until=data["trained_until"],
        reference_weeks=tuple(data["reference_weeks"]),
        reference_level=data["reference_level"],
        daily_gains=tuple(data["daily_gains"]),
        floors_passed=known.floors_passed if known else None,
    )
    training = state.trainings.get(data["job"])
    return replace(
        after,
        versions={**state.versions, version.digest: version},
        learned=training.cutoff if training else state.learned,
        labels=0,
    )


def _variant(state: State, data: Data, _: Micros) -> State:
    """A version made of another: it has learned what its parent has."""
    parent = state.versions.get(data["parent"])
    if parent is None or data["version"] in state.versions:
        return state
    made = replace(parent, digest=data["version"], number=len(state.versions) + 1, floors_passed=None)
    return replace(state, versions={**state.versions, made.digest: made})


def _brought(state: State, data: Data, _: Micros) -> State:
    """A version made elsewhere."""
    if data["version"] in state.versions:
        return state
    version = Version(
        digest=data["version"],
        number=len(state.versions) + 1,
        trained_until=data["trained_until"],
        reference_weeks=tuple(data["reference_weeks"]),
        reference_level=data["reference_level"],
        daily_gains=(),
    )
    return replace(state, versions={**state.versions, version.digest: version})


def _floors(state: State, data: Data, _: Micros) -> State:
    version = state.versions.get(data["version"])
    if version is None:
        return state
    judged = replace(version, floors_passed=bool(data["passed"]))
    return replace(state, versions={**state.versions, judged.digest: judged})


def _rollout_started(state: State, data: Data, known: Micros) -> State:
    rollout = Rollout(
        id=data["rollout"],
        version=data["version"],
        champion=data["champion"],
        alpha=data["alpha"],
        expires=data["expires"],
        evidence=start_evidence(data["bound"], margin=data["margin"]),
        phase=_FIRST_PHASE.get(data.get("strategy", ""), "shadow"),
        since=known,
        strategy=data.get("strategy", ""),
        wanted=data.get("wanted", 0.0),
        arms=tuple(TestArm(arm["name"], arm["version"], arm["share"]) for arm in data.get("arms", ())),
        unit=data.get("unit", ""),
    )
    return replace(state, rollout=rollout)


def _on_rollout(change: Callable[[Rollout, Data, Micros], Rollout]) -> Fold:
    def step(state: State, data: Data, known: Micros) -> State:
        if state.rollout is None or state.rollout.id != data["rollout"]:
            return state
        return replace(state, rollout=change(state.rollout, data, known))

    return step


def _progressed(rollout: Rollout, data: Data, _: Micros) -> Rollout:
    progress: dict[str, Any] = data["state"]
    return replace(
        rollout,
        evidence=msgspec.convert(progress["evidence"], PairedEvidence),
        step_days=progress["step_days"],
        last_day=data["day"],
    )


def _approval(rollout: Rollout, _: Data, known: Micros) -> Rollout:
    return replace(rollout, phase="approval", since=known)


def _forced(rollout: Rollout, _: Data, __: Micros) -> Rollout:
    return replace(rollout, forced=True)


def _shifted(rollout: Rollout, data: Data, known: Micros) -> Rollout:
    entering = rollout.phase != "canary"
    return replace(
        rollout,
        phase="canary",
        since=known if entering else rollout.since,
        evidence=watch_harm(rollout.evidence) if entering else rollout.evidence,
        share=data["share"],
        step=data["step"],
        step_since=known,
        step_days=0,
    )


def _crown(state: State, version: str, known: Micros, *, rolled_back: bool) -> State:
    """A new reign: its weeks, and the drift against its own reference, begin afresh."""
    past = state.reigns
    if past and past[-1].until is None:
        past = (*past[:-1], replace(past[-1], until=known, rolled_back=rolled_back))
    week = Week(known - known % DAY + DAY)
    return replace(state, reigns=(*past, Reign(version, known)), week=week, weeks=(), drift={})


def _promoted(state: State, data: Data, known: Micros) -> State:
    return replace(_crown(state, data["version"], known, rolled_back=False), rollout=None)


def _rejected(state: State, data: Data, _: Micros) -> State:
    ours = state.rollout is not None and state.rollout.id == data["rollout"]
    return replace(state, rollout=None) if ours else state


def _rolled_back(state: State, data: Data, known: Micros) -> State:
    if data["of"] == "champion":
        return _crown(state, data["to"], known, rolled_back=True)
    return _rejected(state, data, known)


def _killed(state: State, data: Data, known: Micros) -> State:
    return replace(state, killed=Killed(data["version"], known, data["to"], tuple(data["constant"])))


def _revived(state: State, _: Data, __: Micros) -> State:
    return replace(state, killed=None)


def _day(state: State, data: Data, _: Micros) -> State:
    week = state.week
    if week is not None and data["version"] == state.champion and data["day"] >= week.start:
        week = replace(
            week,
            days=week.days + 1,
            answered=week.answered + data["answered"],
            labelled=week.labelled + data["labelled"],
            loss=week.loss + data["loss"],
        )
    return replace(state, last_day=data["day"], labels=state.labels + data["labelled"], week=week)


def _quality(state: State, data: Data, _: Micros) -> State:
    judged = JudgedWeek(data["week"], data["loss"], data["limit"], data["verdict"])
    return replace(state, weeks=(*state.weeks, judged), week=Week(data["week"] + WEEK_DAYS * DAY))


def _drift(state: State, data: Data, _: Micros) -> State:
    return replace(state, drift={**state.drift, data["feature"]: Drift(data["severity"], data["end"])})


def _confirmed(state: State, _: Data, __: Micros) -> State:
    found = state.drift.get("prediction")
    return (
        state if found is None else replace(state, drift={**state.drift, "prediction": replace(found, confirmed=True)})
    )


def _notified(state: State, data: Data, _: Micros) -> State:
    done = frozenset(data["keys"])
    return replace(state, notices=tuple(notice for notice in state.notices if notice.key not in done))


_FOLDS: dict[str, Fold] = {
    e.MODEL_DECLARED: _declared,
    e.TRIGGER_HELD: _held,
    e.TRAINING_REQUESTED: _training_requested,
    e.TRAINING_FINISHED: _training_finished,
    e.TRAINING_FAILED: lambda state, data, _: _training_ended(state, data, failures=state.failures + 1),
    e.VARIANT_MEASURED: _variant,
    e.VERSION_BROUGHT: _brought,
    e.FLOORS_JUDGED: _floors,
    e.ROLLOUT_STARTED: _rollout_started,
    e.GATE_PROGRESSED: _on_rollout(_progressed),
    e.APPROVAL_REQUESTED: _on_rollout(_approval),
    e.FORCED: _on_rollout(_forced),
    e.TRAFFIC_SHIFTED: _on_rollout(_shifted),
    e.PROMOTED: _promoted,
    e.REJECTED: _rejected,
    e.ROLLED_BACK: _rolled_back,
    e.DAY_MATURED: _day,
    e.QUALITY_JUDGED: _quality,
    e.DRIFT_CHANGED: _drift,
    e.DRIFT_CONFIRMED: _confirmed,
    e.KILLED: _killed,
    e.REVIVED: _revived,
    e.NOTIFIED: _notified,
}
