"""Rollouts: shadow, approval, canary steps, then promotion or a way back. One at a time, and only forward on evidence.

Whatever happens here is one of three answers: promote, go back, or *not enough evidence yet*. A phase without evidence
ends in rejection, never in promotion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from trimtab.core.clock import DAY, MINUTE, Micros, duration_text
from trimtab.core.ids import Json
from trimtab.gates.comparison import PairedEvidence, add_day, verdict
from trimtab.gates.guardrails import Guardrail, Tally, judge_counts, judge_loss
from trimtab.loop import events as e
from trimtab.loop.declare import Step
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.observations import Counted
from trimtab.loop.state import Rollout, Version
from trimtab.monitoring.blocks import ArmCount, PairBlock
from trimtab.stats.betting import REPORTED_MOST, e_value, winsor_bound

WARM_LIMIT: Micros = 2 * MINUTE
"""How long the workers may take to load the green version of a blue-green deployment."""
MARGIN = 0.02
"""A challenger may be worse by this share of its held-out loss and still pass a canary step (forced ones need it)."""


def start_rollout(
    work: Deliberation,
    version: Version,
    *,
    cause: str = "",
    actor: str = "loop",
    asked: str = "",
    how: Mapping[str, Json] | None = None,
) -> Rollout:
    """Begin to compare a version with the champion.

    Parameters
    ----------
    asked
        The request of a person that this answers.
    how
        The strategy that the person chose, and what belongs to it.
    """
    level = version.reference_level or 0.0
    bound = winsor_bound(version.daily_gains, level=level)
    data = {
        "rollout": work.new_id("rollout"),
        "version": version.digest,
        "champion": work.state.champion,
        "bound": bound,
        "margin": MARGIN * abs(level) or bound / 2,
        "alpha": work.policy.alpha,
        "expires": work.policy.expires,
    }
    chosen = ({"asked": asked} if asked else {}) | dict(how or {})
    work.record(e.ROLLOUT_STARTED, data | chosen, actor=actor, cause=cause)
    return under_way(work)


def under_way(work: Deliberation) -> Rollout:
    """The rollout of the state, where one is known to be there."""
    rollout = work.state.rollout
    assert rollout is not None
    return rollout


def introduce(work: Deliberation, version: Version, *, cause: str, actor: str = "loop", asked: str = "") -> None:
    """A version that passed its floors: the first one goes live, later ones are compared with the champion."""
    first, manual = not work.state.champion, work.policy.approval == "manual"
    if first and not manual and not asked:
        promote(work, version.digest, "it passed its floors and there is no champion to compare it with", rollout="")
        return
    rollout = start_rollout(work, version, cause=cause, actor=actor, asked=asked)
    if first and not manual:
        judged(work, rollout, "floors")
    elif first:
        request_approval(work, rollout)
    elif work.policy.comparison is None:
        judged(work, rollout, "floors")


def count_pairs(work: Deliberation, pairs: tuple[PairBlock, ...]) -> None:
    """Take in a matured day of the rollout under way, and judge."""
    for pair in pairs:
        rollout = work.state.rollout
        if rollout is None or not _counts(work, rollout, pair):
            continue
        evidence = add_day(rollout.evidence, pair.rows, pair.gain)
        canary_day = pair.canary_rows > 0 and pair.day + DAY > rollout.step_since
        _record_progress(work, rollout, evidence, day=pair.day, step_days=rollout.step_days + canary_day)
        _judge_day(work, under_way(work))


def count_answers(work: Deliberation, counted: Counted) -> None:
    """Take in what the arms of the canary step did so far: go back, go on, or wait."""
    rollout = work.state.rollout
    if rollout is None or rollout.phase != "canary" or counted.step != rollout.step:
        return
    arms = {arm.version: arm for arm in counted.arms if arm.rollout == rollout.id}
    champion, canary = _tally(arms.get(rollout.champion)), _tally(arms.get(rollout.version))
    rails = (*judge_counts(champion, canary, share=rollout.share), judge_loss(rollout.evidence, alpha=rollout.alpha))
    evidence = evidence_of(rollout) | {
        "answered": canary.asked - canary.errors,
        "errors": canary.errors,
        "slow": canary.slow,
        "canary_days": rollout.step_days,
        "guardrails": [asdict(rail) for rail in rails],
    }
    if canary.repeats[0]:
        evidence |= {"units": canary.units[0]}
        if any(rail.state == "wait" for rail in rails[:3]):
            work.waits = f": {_units_text(canary)}, and only units count as evidence"
    if stopped := [rail for rail in rails if rail.state == "stop"]:
        roll_back_canary(work, rollout, _stop_reason(stopped[0], canary), evidence=evidence)
    elif _may_pass(work, rollout, canary.asked - canary.errors) and all(rail.state == "go" for rail in rails):
        cause = work.record(
            e.STEP_PASSED,
            {"rollout": rollout.id, "version": rollout.version, "step": rollout.step, "evidence": evidence},
        )
        _next_step(work, under_way(work), cause=cause, evidence=evidence)


def expire(work: Deliberation) -> None:
    """End a phase that has found no evidence in its time."""
    rollout = work.state.rollout
    if rollout is not None and rollout.phase == "warming" and work.now - rollout.since > WARM_LIMIT:
        reject(work, rollout, f"not every worker had it loaded within {duration_text(WARM_LIMIT)}", evidence={})
        return
    if rollout is None or work.now - rollout.since < rollout.expires:
        return
    waited = duration_text(rollout.expires)
    match rollout.phase:
        case "shadow":
            judged(work, rollout, "expired")
        case "approval":
            reject(work, rollout, f"nobody approved it within {waited}", evidence=evidence_of(rollout))
        case "test":
            roll_back_canary(work, rollout, f"its test was not ended within {waited}", evidence=evidence_of(rollout))
        case "canary":
            reason = f"its canary did not gather enough evidence within {waited}{work.waits}"
            roll_back_canary(work, rollout, reason, evidence=evidence_of(rollout))


def judged(work: Deliberation, rollout: Rollout, answer: str) -> None:
    """Record the gate's verdict and do what follows from it."""
    evidence = evidence_of(rollout)
    data = {"rollout": rollout.id, "version": rollout.version, "verdict": answer, "evidence": evidence}
    cause = work.record(e.GATE_JUDGED, data)
    if answer in ("superior", "floors"):
        if work.policy.approval == "manual" or rollout.strategy == "shadow":
            request_approval(work, rollout, cause=cause)
        else:
            _next_step(work, rollout, cause=cause, evidence=evidence)
    else:
        reasons = {
            "inferior": "it is worse than the champion",
            "expired": f"it could not show within {duration_text(rollout.expires)} that it is better",
        }
        reject(work, rollout, reasons[answer], evidence=evidence, cause=cause)


def request_approval(work: Deliberation, rollout: Rollout, *, cause: str = "") -> None:
    """Ask a person."""
    data = {"rollout": rollout.id, "version": rollout.version, "evidence": evidence_of(rollout)}
    work.record(e.APPROVAL_REQUESTED, data, cause=cause)


def go_on(work: Deliberation, *, cause: str) -> None:
    """After a person's word: to the first canary step, or live when there is no champion."""
    rollout = under_way(work)
    _next_step(work, rollout, cause=cause, evidence=evidence_of(rollout))


def promote(
    work: Deliberation,
    version: str,
    reason: str,
    *,
    rollout: str,
    evidence: Mapping[str, Json] | None = None,
    cause: str = "",
) -> None:
    """Make a version the champion."""
    data = {
        "rollout": rollout,
        "version": version,
        "replaces": work.state.champion,
        "reason": reason,
        "evidence": dict(evidence or {}),
    }
    work.record(e.PROMOTED, data, cause=cause)


def reject(
    work: Deliberation,
    rollout: Rollout,
    reason: str,
    *,
    evidence: Mapping[str, Json],
    cause: str = "",
    actor: str = "loop",
) -> None:
    """End a rollout before its canary; the champion stays."""
    data = {"rollout": rollout.id, "version": rollout.version, "reason": reason, "evidence": dict(evidence)}
    work.record(e.REJECTED, data, cause=cause, actor=actor)


def roll_back_canary(
    work: Deliberation,
    rollout: Rollout,
    reason: str,
    *,
    evidence: Mapping[str, Json],
    actor: str = "loop",
    asked: str = "",
) -> None:
    """Take all traffic of a canary or a test back to the champion."""
    data = {
        "rollout": rollout.id,
        "version": rollout.version,
        "to": rollout.champion,
        "of": "test" if rollout.phase == "test" else "canary",
        "reason": reason,
        "evidence": dict(evidence),
    }
    work.record(e.ROLLED_BACK, data | ({"asked": asked} if asked else {}), actor=actor)


def end_rollout(work: Deliberation, rollout: Rollout, reason: str) -> None:
    """End a rollout in whatever phase it is; the champion stays."""
    if rollout.phase in ("canary", "test"):
        roll_back_canary(work, rollout, reason, evidence=evidence_of(rollout))
    else:
        reject(work, rollout, reason, evidence=evidence_of(rollout))


def evidence_of(rollout: Rollout) -> dict[str, Json]:
    """The evidence of a rollout as an event carries it."""
    return _summary(rollout.evidence)


def _tally(arm: ArmCount | None) -> Tally:
    """What an arm did; an :class:`ArmCount` keeps its errors beside its answers, a tally of trials has them inside."""
    return Tally(0, 0, 0) if arm is None else Tally(arm.answered + arm.errors, arm.errors, arm.slow, arm.repeats)


def _summary(evidence: PairedEvidence) -> dict[str, Json]:
    return {
        "days": evidence.days,
        "rows": evidence.rows,
        "mean_gain": evidence.mean_gain,
        "e_superior": e_value(evidence.superior),
        "e_inferior": e_value(evidence.inferior),
        "e_noninferior": e_value(evidence.noninferior),
        "e_harm": 1.0 if evidence.harm is None else e_value(evidence.harm),
    }


def _counts(work: Deliberation, rollout: Rollout, pair: PairBlock) -> bool:
    """Whether a block is evidence: of this rollout, new, and after everything either version may have learned from."""
    if (pair.rollout, pair.champion, pair.challenger) != (rollout.id, rollout.champion, rollout.version):
        return False
    learned = [found.trained_until for name in (rollout.champion, rollout.version) if (found := work.version(name))]
    return pair.day > max(learned, default=-1) and pair.day > rollout.last_day


def _record_progress(
    work: Deliberation, rollout: Rollout, evidence: PairedEvidence, *, day: int, step_days: int
) -> None:
    summary = _summary(evidence)
    data = {
        "rollout": rollout.id,
        "version": rollout.version,
        "day": day,
        "rows": summary["rows"],
        "days": summary["days"],
        "gain": summary["mean_gain"],
        "e_superior": summary["e_superior"],
        "e_inferior": summary["e_inferior"],
        "e_harm": summary["e_harm"],
        "state": {"evidence": msgspec.to_builtins(evidence), "step_days": step_days},
    }
    work.record(e.GATE_PROGRESSED, data)


def _judge_day(work: Deliberation, rollout: Rollout) -> None:
    if rollout.phase == "canary":
        rail = judge_loss(rollout.evidence, alpha=rollout.alpha)
        if rail.state == "stop":
            roll_back_canary(work, rollout, _stop_reason(rail), evidence=evidence_of(rollout))
    elif rollout.phase == "approval":
        if e_value(rollout.evidence.inferior) >= 1 / rollout.alpha:
            reject(work, rollout, "it turned out worse while it waited for approval", evidence=evidence_of(rollout))
    elif (answer := verdict(rollout.evidence, alpha=rollout.alpha)) != "open":
        judged(work, rollout, answer)


def _steps(work: Deliberation, rollout: Rollout) -> tuple[Step, ...]:
    if rollout.strategy == "canary":
        first = work.policy.guarded_steps[0]
        larger = (step for step in work.policy.steps if step.share > rollout.wanted)
        return (Step(rollout.wanted, first.least, first.rows), *larger)
    return work.policy.guarded_steps if rollout.forced else work.policy.steps


def _may_pass(work: Deliberation, rollout: Rollout, answered: int) -> bool:
    steps = _steps(work, rollout)
    step = steps[min(rollout.step, len(steps) - 1)] if steps else Step(rollout.share, 0, 0)
    return work.now - rollout.step_since >= step.least and answered >= step.rows and rollout.step_days >= 1


def _next_step(work: Deliberation, rollout: Rollout, *, cause: str, evidence: Mapping[str, Json]) -> None:
    steps, following = _steps(work, rollout), rollout.step + 1
    if rollout.champion and following < len(steps):
        data = {
            "rollout": rollout.id,
            "version": rollout.version,
            "share": steps[following].share,
            "step": following,
        }
        work.record(e.TRAFFIC_SHIFTED, data, cause=cause)
        return
    promote(work, rollout.version, _why(rollout, following), rollout=rollout.id, evidence=evidence, cause=cause)


def _why(rollout: Rollout, passed: int) -> str:
    if not rollout.champion:
        return "a person approved it and there is no champion to compare it with"
    way = "forced past the gate by a person, " if rollout.forced else ""
    if passed == 0:
        return f"{way}it passed its gates; the policy has no canary"
    return f"{way}it passed all {passed} canary steps"


def _units_text(canary: Tally) -> str:
    units = canary.units[0]
    return (
        f"its {canary.asked} requests are of {units} unit{'' if units == 1 else 's'} (users, bodies, single requests)"
    )


def _stop_reason(rail: Guardrail, canary: Tally = Tally(0, 0, 0)) -> str:
    if rail.name == "errors" and rail.e_value <= rail.stop_at:
        return f"every request that it was asked failed, and {_units_text(canary)}: too few to compare by"
    what: dict[str, Any] = {
        "split": "its share of the traffic is not what it should be",
        "errors": "it has more errors than the champion",
        "slow": "it is slow more often than the champion",
        "loss": "it predicts worse than the champion on the same requests",
    }
    shown = f"over {REPORTED_MOST:.0e}" if rail.e_value >= REPORTED_MOST else f"{rail.e_value:.3g}"
    return f"{what[rail.name]} (evidence {shown} to 1, {rail.stop_at:.3g} needed)"
