"""What persons ask for. Each request is dealt with once, by its id, or refused with a reason."""

from __future__ import annotations

from trimtab.loop import events as e
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.observations import Asked
from trimtab.loop.rollout import (
    evidence_of,
    go_on,
    introduce,
    promote,
    reject,
    roll_back_canary,
    start_rollout,
    under_way,
)
from trimtab.loop.state import Rollout
from trimtab.loop.triggers import held_back, request_training
from trimtab.loop.variants import add_variant


def answer_request(work: Deliberation, asked: Asked) -> None:
    """Do what a person asks, or refuse."""
    if asked.id in work.state.asked:
        return
    match asked.kind:
        case "train":
            _train(work, asked)
        case "approve" | "deny":
            _judge(work, asked)
        case "rollback":
            _roll_back(work, asked)
        case "deploy":
            _deploy(work, asked)
        case "force":
            _force(work, asked)
        case "variant":
            add_variant(work, asked)


def _actor(asked: Asked) -> str:
    return asked.actor if ":" in asked.actor else f"operator:{asked.actor}"


def _by(asked: Asked) -> str:
    return asked.actor.removeprefix("operator:")


def _refuse(work: Deliberation, asked: Asked, reason: str) -> None:
    data = {"asked": asked.id, "kind": asked.kind, "by": _by(asked), "reason": reason, "version": asked.version}
    work.record(e.REQUEST_REFUSED, data, actor=_actor(asked))


def _train(work: Deliberation, asked: Asked) -> None:
    """A person need not wait for a cooldown, but the budget is the budget."""
    _, reason, _ = held_back(work.policy, work.state, work.now, cooldown=0)
    if reason:
        _refuse(work, asked, reason)
        return
    why = f"{_by(asked)} asked for it: {asked.reason}"
    cutoff = asked.data.get("cutoff")
    if cutoff is not None and not 0 < cutoff <= work.now:
        _refuse(work, asked, "nothing can be learned from what has yet to happen")
        return
    request_training(work, "manual", why, evidence={}, actor=_actor(asked), asked=asked.id, cutoff=cutoff)


def _judge(work: Deliberation, asked: Asked) -> None:
    rollout = work.state.rollout
    if rollout is None or rollout.phase != "approval":
        _refuse(work, asked, "no version waits for approval")
        return
    if asked.version not in ("", rollout.version):
        _refuse(work, asked, f"it is version {rollout.version[:8]} that waits for approval")
        return
    data = {
        "rollout": rollout.id,
        "version": rollout.version,
        "by": _by(asked),
        "reason": asked.reason,
        "asked": asked.id,
    }
    if asked.kind == "approve":
        go_on(work, cause=work.record(e.APPROVED, data, actor=_actor(asked)))
        return
    cause = work.record(e.DENIED, data, actor=_actor(asked))
    reject(work, rollout, f"{_by(asked)} denied it: {asked.reason}", evidence=evidence_of(rollout), cause=cause)


def _roll_back(work: Deliberation, asked: Asked) -> None:
    """End the rollout under way, whatever its phase; when there is none, go back to the champion before this one."""
    rollout, champion = work.state.rollout, work.state.champion
    why = f"{_by(asked)} asked for it: {asked.reason}"
    if rollout is not None and asked.version in ("", rollout.version):
        # The champion is never blamed for a challenger: who means the champion asks again, or names a version.
        if rollout.phase == "canary":
            roll_back_canary(work, rollout, why, evidence=evidence_of(rollout), actor=_actor(asked), asked=asked.id)
            return
        data = {"rollout": rollout.id, "version": rollout.version, "reason": why, "evidence": evidence_of(rollout)}
        work.record(e.REJECTED, data | {"asked": asked.id}, actor=_actor(asked))
        return
    target = _stable_before(work, asked.version)
    if not target:
        _refuse(work, asked, "there is no earlier champion to go back to")
        return
    if rollout is not None:
        _end(work, rollout, "the champion that it is compared with is being rolled back")
    data = {"rollout": "", "version": champion, "to": target, "of": "champion", "reason": why, "evidence": {}}
    work.record(e.ROLLED_BACK, data | {"asked": asked.id}, actor=_actor(asked))


def _stable_before(work: Deliberation, wanted: str) -> str:
    """The version to go back to: the one asked for if it was champion once, else the last that was not rolled back."""
    champion = work.state.champion
    bad = {reign.version for reign in work.state.reigns if reign.rolled_back}
    past = [reign.version for reign in work.state.reigns if reign.version != champion]
    if wanted not in ("", champion):
        return wanted if wanted in past else ""
    return next((version for version in reversed(past) if version not in bad), "")


def _deploy(work: Deliberation, asked: Asked) -> None:
    """Begin the rollout of a version that was trained before, as the policy declares it."""
    version = work.version(asked.version)
    if version is None:
        _refuse(work, asked, f"no registered version {asked.version[:8] or '(none named)'}")
    elif version.digest == work.state.champion:
        _refuse(work, asked, "it is the champion already")
    elif work.state.rollout is not None:
        _refuse(work, asked, f"version {work.state.rollout.version[:8]} is being rolled out: one at a time")
    elif not version.floors_passed:
        _refuse(work, asked, "it has not passed its floors, which only force may skip")
    else:
        introduce(work, version, cause="", actor=_actor(asked), asked=asked.id)


def _force(work: Deliberation, asked: Asked) -> None:
    """Past the gate, but not past the guardrails: a forced version starts as a canary like any other."""
    version, rollout = work.version(asked.version), work.state.rollout
    if version is None:
        _refuse(work, asked, f"no registered version {asked.version[:8] or '(none named)'}")
        return
    if version.digest == work.state.champion:
        _refuse(work, asked, "it is the champion already")
        return
    if rollout is not None and rollout.version == version.digest and rollout.phase == "canary":
        _refuse(work, asked, "it is in its canary already")
        return
    if rollout is not None and rollout.version != version.digest:
        _end(work, rollout, f"{_by(asked)} forced version {version.number} ({version.digest[:8]}) in its place")
        rollout = None
    rollout = rollout or start_rollout(work, version)
    data = {
        "rollout": rollout.id,
        "version": version.digest,
        "by": _by(asked),
        "reason": asked.reason,
        "asked": asked.id,
    }
    cause = work.record(e.FORCED, data, actor=_actor(asked))
    if work.state.champion:
        go_on(work, cause=cause)
    else:
        why = f"{_by(asked)} forced it, and there is no champion to compare it with"
        promote(work, version.digest, why, rollout=under_way(work).id, cause=cause)


def _end(work: Deliberation, rollout: Rollout, reason: str) -> None:
    if rollout.phase == "canary":
        roll_back_canary(work, rollout, reason, evidence=evidence_of(rollout))
    else:
        reject(work, rollout, reason, evidence=evidence_of(rollout))
