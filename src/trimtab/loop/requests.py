"""What persons ask for. Each request is dealt with once, by its id, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable

from trimtab.loop import events as e
from trimtab.loop.asking import actor_of, asker, refuse
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.observations import Asked
from trimtab.loop.rollout import (
    end_rollout,
    evidence_of,
    go_on,
    introduce,
    promote,
    reject,
    roll_back_canary,
    start_rollout,
    under_way,
)
from trimtab.loop.strategies import deploy_by, kill, revive
from trimtab.loop.triggers import held_back, request_training
from trimtab.loop.variants import add_brought, add_variant


def answer_request(work: Deliberation, asked: Asked) -> None:
    """Do what a person asks, or refuse."""
    if asked.id in work.state.asked:
        return
    answer = _ANSWERS.get(asked.kind)
    if answer is not None:
        answer(work, asked)


def _train(work: Deliberation, asked: Asked) -> None:
    """A person need not wait for a cooldown, but the budget is the budget."""
    _, reason, _ = held_back(work.policy, work.state, work.now, cooldown=0)
    if reason:
        refuse(work, asked, reason)
        return
    why = f"{asker(asked)} asked for it: {asked.reason}"
    cutoff = asked.data.get("cutoff")
    if cutoff is not None and not 0 < cutoff <= work.now:
        refuse(work, asked, "nothing can be learned from what has yet to happen")
        return
    request_training(work, "manual", why, evidence={}, actor=actor_of(asked), asked=asked.id, cutoff=cutoff)


def _judge(work: Deliberation, asked: Asked) -> None:
    rollout = work.state.rollout
    if rollout is None or rollout.phase != "approval":
        refuse(work, asked, "no version waits for approval")
        return
    if asked.version not in ("", rollout.version):
        refuse(work, asked, f"it is version {rollout.version[:8]} that waits for approval")
        return
    data = {
        "rollout": rollout.id,
        "version": rollout.version,
        "by": asker(asked),
        "reason": asked.reason,
        "asked": asked.id,
    }
    if asked.kind == "approve":
        go_on(work, cause=work.record(e.APPROVED, data, actor=actor_of(asked)))
        return
    cause = work.record(e.DENIED, data, actor=actor_of(asked))
    reject(work, rollout, f"{asker(asked)} denied it: {asked.reason}", evidence=evidence_of(rollout), cause=cause)


def _roll_back(work: Deliberation, asked: Asked) -> None:
    """End the rollout under way, whatever its phase; when there is none, go back to the champion before this one."""
    rollout, champion = work.state.rollout, work.state.champion
    why = f"{asker(asked)} asked for it: {asked.reason}"
    if rollout is not None and asked.version in ("", rollout.version):
        # The champion is never blamed for a challenger: who means the champion asks again, or names a version.
        if rollout.phase in ("canary", "test"):
            roll_back_canary(work, rollout, why, evidence=evidence_of(rollout), actor=actor_of(asked), asked=asked.id)
            return
        data = {"rollout": rollout.id, "version": rollout.version, "reason": why, "evidence": evidence_of(rollout)}
        work.record(e.REJECTED, data | {"asked": asked.id}, actor=actor_of(asked))
        return
    target = _stable_before(work, asked.version)
    if not target:
        refuse(work, asked, "there is no earlier champion to go back to")
        return
    if rollout is not None:
        end_rollout(work, rollout, "the champion that it is compared with is being rolled back")
    data = {"rollout": "", "version": champion, "to": target, "of": "champion", "reason": why, "evidence": {}}
    work.record(e.ROLLED_BACK, data | {"asked": asked.id}, actor=actor_of(asked))


def _stable_before(work: Deliberation, wanted: str) -> str:
    """The version to go back to: the one asked for if it was champion once, else the last that was not rolled back."""
    champion = work.state.champion
    if wanted not in ("", champion):
        return wanted if any(reign.version == wanted for reign in work.state.reigns) else ""
    return work.state.stable


def _deploy(work: Deliberation, asked: Asked) -> None:
    """Begin the rollout of a version that was trained before, as the policy declares it."""
    if asked.data.get("strategy") or asked.data.get("winner"):
        deploy_by(work, asked)
        return
    version = work.version(asked.version)
    if version is None:
        refuse(work, asked, f"no registered version {asked.version[:8] or '(none named)'}")
    elif work.state.killed is not None:
        refuse(work, asked, "the kill switch is on: revive first")
    elif version.digest == work.state.champion:
        refuse(work, asked, "it is the champion already")
    elif work.state.rollout is not None:
        refuse(work, asked, f"version {work.state.rollout.version[:8]} is being rolled out: one at a time")
    elif not version.floors_passed:
        refuse(work, asked, "it has not passed its floors, which only force may skip")
    else:
        introduce(work, version, cause="", actor=actor_of(asked), asked=asked.id)


def _force(work: Deliberation, asked: Asked) -> None:
    """Past the gate, but not past the guardrails: a forced version starts as a canary like any other."""
    if asked.data.get("strategy"):
        deploy_by(work, asked)
        return
    version, rollout = work.version(asked.version), work.state.rollout
    if version is None:
        refuse(work, asked, f"no registered version {asked.version[:8] or '(none named)'}")
        return
    if work.state.killed is not None:
        refuse(work, asked, "the kill switch is on: revive first")
        return
    if version.digest == work.state.champion:
        refuse(work, asked, "it is the champion already")
        return
    if rollout is not None and rollout.version == version.digest and rollout.phase == "canary":
        refuse(work, asked, "it is in its canary already")
        return
    if rollout is not None and (rollout.version != version.digest or rollout.phase == "test"):
        end_rollout(
            work, rollout, f"{asker(asked)} forced version {version.number} ({version.digest[:8]}) in its place"
        )
        rollout = None
    rollout = rollout or start_rollout(work, version)
    data = {
        "rollout": rollout.id,
        "version": version.digest,
        "by": asker(asked),
        "reason": asked.reason,
        "asked": asked.id,
    }
    cause = work.record(e.FORCED, data, actor=actor_of(asked))
    if work.state.champion:
        go_on(work, cause=cause)
    else:
        why = f"{asker(asked)} forced it, and there is no champion to compare it with"
        promote(work, version.digest, why, rollout=under_way(work).id, cause=cause)


_ANSWERS: dict[str, Callable[[Deliberation, Asked], None]] = {
    "train": _train,
    "approve": _judge,
    "deny": _judge,
    "rollback": _roll_back,
    "deploy": _deploy,
    "force": _force,
    "variant": add_variant,
    "register": add_brought,
    "kill": kill,
    "revive": revive,
}
