"""The strategies that a person may choose: kill switch, blue-green, A/B test, canary and shadow by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trimtab.core.ids import Json
from trimtab.loop import events as e
from trimtab.loop.asking import actor_of, asker, refuse
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.observations import Asked, Warmed
from trimtab.loop.rollout import end_rollout, evidence_of, go_on, promote, reject, roll_back_canary, start_rollout
from trimtab.loop.state import Rollout, Version

RESERVED = frozenset({"champion", "canary", "shadow", "previous", "pinned", "constant"})
"""Names that an arm of a test cannot have: they mean something else in the records."""
_EVEN = 1e-6


def kill(work: Deliberation, asked: Asked) -> None:
    """Take the champion out of service at once: the previous version answers, or a constant."""
    champion, constant = work.state.champion, [float(value) for value in asked.data.get("constant") or ()]
    back = "" if constant else work.state.stable or _beside_the_test(work)
    if not champion:
        refuse(work, asked, "no version answers yet")
        return
    if not constant and not back:
        refuse(work, asked, "there is no earlier champion to go back to: answer with a constant instead")
        return
    if work.state.rollout is not None:
        end_rollout(work, work.state.rollout, f"{asker(asked)} pulled the kill switch")
    work.record(
        e.KILLED,
        {
            "version": champion,
            "to": back,
            "constant": constant,
            "by": asker(asked),
            "reason": asked.reason,
            "asked": asked.id,
        },
        actor=actor_of(asked),
    )


def _beside_the_test(work: Deliberation) -> str:
    """The champion, while a test among other versions has taken its place."""
    rollout = work.state.rollout
    tested = [arm.version for arm in rollout.arms] if rollout is not None else []
    return work.state.champion if tested and work.state.champion not in tested else ""


def revive(work: Deliberation, asked: Asked) -> None:
    """End the kill switch: the champion answers again."""
    if work.state.killed is None:
        refuse(work, asked, "the kill switch is not on")
        return
    data = {"version": work.state.champion, "by": asker(asked), "reason": asked.reason, "asked": asked.id}
    work.record(e.REVIVED, data, actor=actor_of(asked))


def deploy_by(work: Deliberation, asked: Asked) -> None:
    """Begin a rollout in the way that a person chose, or end a test with the winner that the person names."""
    if winner := asked.data.get("winner"):
        _end_test(work, asked, winner)
        return
    strategy = asked.data["strategy"]
    arms: Sequence[Mapping[str, Json]] = asked.data.get("arms") or ()
    if strategy == "ab" and (wrong := _wrong_arms(arms)):
        refuse(work, asked, wrong)
        return
    versions = [str(arm["version"]) for arm in arms] if strategy == "ab" else [asked.version]
    if wrong := _wrong(work, asked, versions):
        refuse(work, asked, wrong)
        return
    if work.state.rollout is not None:
        end_rollout(work, work.state.rollout, f"{asker(asked)} chose another way for it: {strategy}")
    how: dict[str, Json] = {"strategy": strategy}
    if strategy == "ab":
        how |= {"arms": [dict(arm) for arm in arms], "unit": asked.data.get("unit") or "request"}
    elif strategy == "canary":
        how["wanted"] = float(asked.data["share"])
    challenger = next((one for one in versions if one != work.state.champion), versions[0])
    found = work.version(challenger)
    assert found is not None
    _begin(work, asked, found, how)


def take_warmth(work: Deliberation, warmed: Warmed) -> None:
    """Switch everything to the green version once every worker has it loaded, or give it up when one cannot."""
    rollout = work.state.rollout
    if rollout is None or rollout.id != warmed.rollout or rollout.phase != "warming":
        return
    if warmed.problem:
        reject(work, rollout, f"it cannot be loaded: {warmed.problem}", evidence={"workers": warmed.workers})
        return
    ready = f"loaded and warm on {warmed.workers} worker{'' if warmed.workers == 1 else 's'}"
    if not warmed.workers:
        ready = "loaded and run once beforehand; no worker runs, each loads it when it starts"
    reason = f"all traffic switched to it at once, {ready}"
    promote(work, rollout.version, reason, rollout=rollout.id, evidence={"workers": warmed.workers})


def _begin(work: Deliberation, asked: Asked, version: Version, how: Mapping[str, Json]) -> None:
    rollout = start_rollout(work, version, actor=actor_of(asked), asked=asked.id, how=how)
    if how["strategy"] == "shadow":
        return
    data = {
        "rollout": rollout.id,
        "version": version.digest,
        "by": asker(asked),
        "reason": asked.reason,
        "asked": asked.id,
    }
    if how["strategy"] == "ab":
        data["strategy"] = "ab"
    forced = asked.kind == "force"
    cause = work.record(e.FORCED if forced else e.APPROVED, data, actor=actor_of(asked))
    if how["strategy"] == "canary":
        go_on(work, cause=cause)


def _wrong(work: Deliberation, asked: Asked, versions: Sequence[str]) -> str:
    """Why no rollout of these versions can begin; empty when it can."""
    state = work.state
    if not state.champion:
        return "there is no champion yet: deploy it without a strategy"
    if state.killed is not None:
        return "the kill switch is on: revive first"
    rollout = state.rollout
    if rollout is not None and (rollout.version not in versions or rollout.phase not in ("shadow", "approval")):
        return f"version {rollout.version[:8]} is being rolled out: one at a time"
    return next(filter(None, (_wrong_version(work, asked, digest) for digest in versions)), "")


def _wrong_version(work: Deliberation, asked: Asked, digest: str) -> str:
    version = work.version(digest)
    if version is None:
        return f"no registered version {digest[:8] or '(none named)'}"
    if digest == work.state.champion and asked.data["strategy"] != "ab":
        return "it is the champion already"
    if not version.floors_passed and asked.kind != "force":
        return f"version {version.number} has not passed its floors, which only force may skip"
    return ""


def _wrong_arms(arms: Sequence[Mapping[str, Json]]) -> str:
    names = [str(arm["name"]) for arm in arms]
    shares = [float(arm["share"]) for arm in arms]
    if len(arms) < 2 or len(set(names)) < len(names):
        return "a test needs two arms or more, each with a name of its own"
    if RESERVED & set(names):
        return f"an arm cannot be called {', '.join(sorted(RESERVED & set(names)))}"
    if any(not share > 0 for share in shares) or abs(sum(shares) - 1) > _EVEN:
        return "the shares of the arms must be above 0 and add up to 1"
    return ""


def _end_test(work: Deliberation, asked: Asked, winner: str) -> None:
    rollout = work.state.rollout
    arm = next((one for one in rollout.arms if one.name == winner), None) if rollout is not None else None
    if rollout is None or rollout.phase != "test":
        refuse(work, asked, "no A/B test is under way")
    elif arm is None:
        refuse(work, asked, f"the arms of the test are {', '.join(one.name for one in rollout.arms)}")
    else:
        _win(work, asked, rollout, winner, arm.version)


def _win(work: Deliberation, asked: Asked, rollout: Rollout, winner: str, version: str) -> None:
    data = {"rollout": rollout.id, "version": version, "by": asker(asked), "reason": asked.reason, "asked": asked.id}
    cause = work.record(e.APPROVED, data, actor=actor_of(asked))
    if version == work.state.champion:
        reason = f"arm {winner}, the champion, won the A/B test"
        roll_back_canary(work, rollout, reason, evidence=evidence_of(rollout), actor=actor_of(asked))
        return
    evidence: dict[str, Json] = {"arm": winner, "arms": [f"{one.name} {one.version[:8]}" for one in rollout.arms]}
    promote(work, version, f"arm {winner} won the A/B test", rollout=rollout.id, evidence=evidence, cause=cause)
