"""What the end of a training job means: a version that is judged on its floors, or a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from trimtab.core.ids import Json
from trimtab.gates.floors import MEASURED, judge_floors
from trimtab.loop import events as e
from trimtab.loop.deliberation import Deliberation, finite, finite_all, plain
from trimtab.loop.observations import JobDone, JobLost
from trimtab.loop.rollout import introduce

RESULT_FIELDS = frozenset(
    {
        "version",
        "metrics",
        "dataset",
        "rows",
        "trained_until",
        "size_bytes",
        "train_seconds",
        "p99_ms",
        "reference_weeks",
        "reference_level",
        "holdout_daily_gains",
    }
)
"""What the loop reads of a training result. Everything else is kept beside it, and never enters a decision digest."""


def finish_training(work: Deliberation, done: JobDone) -> None:
    """Register what a job made and judge its floors; a job that is not under way is ignored (it was seen before)."""
    if done.job_id not in work.state.trainings:
        return
    missing = [name for name in ("version", "trained_until") if name not in done.result]
    if missing:
        fail_training(work, JobLost(done.job_id, f"the job's result has no {' and no '.join(missing)}"))
        return
    finished = _finished(done)
    seen_before = work.version(finished["version"]) is not None
    actor = f"job:{done.job_id}"
    cause = work.record(e.TRAINING_FINISHED, finished, actor=actor)
    if seen_before:
        work.record(e.TRAINING_REPEATED, {"job": done.job_id, "version": finished["version"]}, cause=cause)
        return
    kept = ("version", "job", "metrics", "dataset", "rows", "trained_until", "reference_weeks", "reference_level")
    number = work.state.versions[finished["version"]].number
    work.record(e.VERSION_REGISTERED, {name: finished[name] for name in kept} | {"number": number}, cause=cause)
    _judge(work, finished, cause=cause)


def fail_training(work: Deliberation, lost: JobLost) -> None:
    """Record a job that ended without a result."""
    if lost.job_id in work.state.trainings:
        work.record(e.TRAINING_FAILED, {"job": lost.job_id, "error": lost.error}, actor=f"job:{lost.job_id}")


def _finished(done: JobDone) -> dict[str, Json]:
    result = done.result
    metrics = result.get("metrics") or {}
    return {
        "job": done.job_id,
        "version": str(result["version"]),
        "metrics": {str(name): finite(metrics[name]) for name in sorted(metrics)},
        "dataset": str(result.get("dataset", "")),
        "rows": int(result.get("rows") or 0),
        "trained_until": int(result["trained_until"]),
        "size_bytes": int(result.get("size_bytes") or 0),
        "reference_weeks": finite_all(result.get("reference_weeks")),
        "reference_level": finite(result.get("reference_level")),
        "daily_gains": finite_all(result.get("holdout_daily_gains")),
        "train_seconds": finite(result.get("train_seconds")),
        "p99_ms": finite(result.get("p99_ms")),
        "other": plain({name: value for name, value in result.items() if name not in RESULT_FIELDS}),
    }


def _judge(work: Deliberation, finished: Mapping[str, Json], *, cause: str) -> None:
    """Judge the floors; a version that passes is introduced, any other rejected."""
    cause, failed = judge_version(work, finished, cause=cause)
    version = work.state.versions[finished["version"]]
    reason = ""
    if failed:
        reason = f"it fails {', '.join(failed)}"
    elif work.state.killed is not None:
        reason = "the kill switch is on"
    elif work.state.rollout is not None:
        reason = "another version is being rolled out"
    if reason:
        data = {"rollout": "", "version": version.digest, "reason": reason, "evidence": {}}
        work.record(e.REJECTED, data, cause=cause)
    else:
        introduce(work, version, cause=cause)


def judge_version(work: Deliberation, finished: Mapping[str, Json], *, cause: str) -> tuple[str, list[str]]:
    """Record what the floors say of a version: the event, and the measures that fail."""
    measures = {name: value for name, value in finished["metrics"].items() if value is not None}
    measures["size_bytes"] = float(finished["size_bytes"])
    if finished["p99_ms"] is not None:
        measures["latency_p99_ms"] = finished["p99_ms"]
    checks = judge_floors(work.policy.floors, measures)
    if not work.measured_decide:  # its value is reported beside the check, and breaks nothing
        checks = tuple(replace(check, passed=check.passed or check.measure in MEASURED) for check in checks)
    passed = all(check.passed for check in checks)
    data = {
        "version": finished["version"],
        "passed": passed,
        "checks": [asdict(check) | ({"value": None} if check.measure in MEASURED else {}) for check in checks],
        "measured_values": {check.measure: check.value for check in checks if check.measure in MEASURED},
    }
    cause = work.record(e.FLOORS_JUDGED, data, cause=cause)
    return cause, [check.measure for check in checks if not check.passed]
