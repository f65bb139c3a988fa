"""When to retrain: triggers tried in order, then what may hold them back.

A trigger is *due* as long as its reason holds (a level, not a pulse), so that one that was held back fires when it may.
It is held back by, in this order: a training under way (which is its answer), a rollout under way (one challenger at a
time: the evidence about it would be thrown away), its cooldown since the last training of any kind, and the budget.
After a failed training the cooldown shrinks to 1, 2, 4 … days, so that an accident does not cost a month.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from trimtab.core.clock import DAY, Micros, duration_text, iso
from trimtab.core.ids import Json
from trimtab.loop import events as e
from trimtab.loop.declare import Trigger
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.policy import Policy
from trimtab.loop.state import WEEK_DAYS, State


class Answer(NamedTuple):
    """Whether to retrain now, and why or why not."""

    fire: bool
    reason: str
    trigger: str = ""
    """The trigger that fires, or is held back; empty when none is due."""
    because: str = ""
    """What holds it back: ``training``, ``busy``, ``cooldown`` or ``budget``."""
    key: str = ""
    """Changes when what holds it back changes, so that the same answer is recorded once."""
    evidence: Mapping[str, Json] = {}


@dataclass(frozen=True, slots=True)
class _Due:
    trigger: str
    reason: str
    cooldown: Micros
    evidence: Mapping[str, Json] = field(default_factory=dict)


def should_retrain(policy: Policy, state: State, now: Micros) -> Answer:
    """Whether a training should start now. Pure, so it is also the dry run.

    The first trigger in the declared order that is due and not held back fires. Before the first champion there is one
    more in front of them: a model that has never been trained is due at once.
    """
    held: Answer | None = None
    for due in _all_due(policy, state, now):
        because, reason, key = held_back(policy, state, now, cooldown=due.cooldown)
        if not because:
            return Answer(True, due.reason, due.trigger, evidence=due.evidence)
        held = held or Answer(False, f"{due.reason}; {reason}", due.trigger, because, key, due.evidence)
    return held or Answer(False, "no retraining needed")


def held_back(policy: Policy, state: State, now: Micros, *, cooldown: Micros) -> tuple[str, str, str]:
    """What holds a training back: (kind, sentence, key); empty texts when nothing does."""
    if state.trainings:
        job = min(state.trainings)
        return "training", f"training {job[:8]} is under way", f"training:{job}"
    if state.rollout is not None:
        return "busy", f"a rollout is under way ({state.rollout.phase})", f"busy:{state.rollout.id}"
    if state.failures:
        cooldown = min(cooldown, DAY * 2 ** min(state.failures - 1, 10))
    last = state.cutoffs[-1] if state.cutoffs else None
    if last is not None and now - last < cooldown:
        return (
            "cooldown",
            f"the last training was {_ago(now - last)} ago, cooldown {duration_text(cooldown)}",
            str(last),
        )
    spent = [cutoff for cutoff in state.cutoffs if now - cutoff < policy.budget.period]
    if len(spent) >= policy.budget.runs:
        free = spent[-policy.budget.runs] + policy.budget.period if policy.budget.runs else now + policy.budget.period
        text = f"the budget of {policy.budget.runs} runs in {duration_text(policy.budget.period)} is spent"
        return "budget", f"{text} until {iso(free)[:10]}", f"budget:{spent[-1] if spent else 0}"
    return "", "", ""


def consider_retraining(work: Deliberation) -> None:
    """Ask the triggers, and record what follows."""
    answer = should_retrain(work.policy, work.state, work.now)
    if answer.fire:
        request_training(work, answer.trigger, answer.reason, evidence=answer.evidence)
    elif answer.because not in ("", "training") and work.state.held.get(answer.trigger) != answer.key:
        work.record(
            e.TRIGGER_HELD,
            {"trigger": answer.trigger, "reason": answer.reason, "because": answer.because, "key": answer.key},
        )


def request_training(
    work: Deliberation,
    trigger: str,
    reason: str,
    *,
    evidence: Mapping[str, Json],
    actor: str = "loop",
    asked: str = "",
    cutoff: Micros | None = None,
) -> None:
    """Record that a trigger fired and that a training is wanted, on what was known by ``cutoff`` (now)."""
    fired = {"trigger": trigger, "reason": reason, "evidence": dict(evidence)}
    cause = work.record(e.TRIGGER_FIRED, fired | ({"asked": asked} if asked else {}), actor=actor)
    request = {
        "job": work.new_id("train"),
        "cutoff": work.now if cutoff is None else cutoff,
        "reason": reason,
        "trigger": trigger,
        "champion": work.state.champion,
        "seed": work.policy.seed,
    }
    work.record(e.TRAINING_REQUESTED, request, cause=cause)


def _all_due(policy: Policy, state: State, now: Micros) -> list[_Due]:
    if not policy.triggers:
        return []
    if not state.champion:
        attempts = min(max(len(state.cutoffs) - 1, 0), 10)
        return [_Due("first", "no version of this model is in production", DAY * 2**attempts if state.cutoffs else 0)]
    found = (_due(trigger, state, now) for trigger in policy.triggers)
    return [due for due in found if due is not None]


def _due(trigger: Trigger, state: State, now: Micros) -> _Due | None:
    match trigger.kind:
        case "time":
            return _time(trigger, state, now)
        case "quality":
            return _quality(trigger, state)
        case "drift":
            return _drift(trigger, state)
        case "volume":
            return _volume(trigger, state)


def _time(trigger: Trigger, state: State, now: Micros) -> _Due | None:
    if state.learned is None or now - state.learned < trigger.period:
        return None
    age = now - state.learned
    reason = f"the last training is {_ago(age)} old, and every {duration_text(trigger.period)} is the rule"
    return _Due("time", reason, trigger.cooldown, {"age_days": age // DAY})


def _quality(trigger: Trigger, state: State) -> _Due | None:
    if not state.weeks or state.weeks[-1].verdict != "drop":
        return None
    week = state.weeks[-1]
    if state.learned is not None and week.start + WEEK_DAYS * DAY <= state.learned:
        return None  # the last training has already learned from that week
    loss, limit = week.loss or 0.0, week.limit or 0.0
    reason = f"in the week of {iso(week.start)[:10]} the loss was {loss:.4f}, above the plausible {limit:.4f}"
    return _Due("quality", reason, trigger.cooldown, {"week": week.start, "loss": week.loss, "limit": week.limit})


def _drift(trigger: Trigger, state: State) -> _Due | None:
    drift = state.drift.get("prediction")
    if drift is None or drift.severity != "critical" or not drift.confirmed:
        return None
    reason = f"the predictions have drifted critically since {iso(drift.since)[:10]}"
    return _Due("drift", reason, trigger.cooldown, {"since": drift.since})


def _volume(trigger: Trigger, state: State) -> _Due | None:
    if state.labels < trigger.labels:
        return None
    reason = f"{state.labels} labels have matured since the last training, and {trigger.labels} are enough"
    return _Due("volume", reason, trigger.cooldown, {"labels": state.labels})


def _ago(length: Micros) -> str:
    return f"{length / DAY:.1f} days" if length < 10 * DAY else f"{length // DAY} days"
