"""What is live, what is under way and what was decided, as JSON: folds of the ledger, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trimtab.app.home import Home
from trimtab.app.keeping import disk_use
from trimtab.app.platform import BATCH_FAILED, BATCH_RAN, sentence
from trimtab.core.clock import DAY, Micros, iso
from trimtab.core.ids import Json
from trimtab.core.ledger import Event, Ledger, model_stream
from trimtab.core.ports import Series
from trimtab.errors import Unavailable, UnknownName
from trimtab.governance import audit
from trimtab.loop import events as e
from trimtab.loop.commands import route_of
from trimtab.loop.fold import fold_all
from trimtab.loop.sentences import QUIET
from trimtab.loop.state import State
from trimtab.serving.counted import NOTHING, Counted, WorkerNow
from trimtab.serving.meter import UNWRITABLE
from trimtab.serving.recordmode import LOST, WRITTEN
from trimtab.web.kinds import kind_of_event

DECISIONS = 20
DAYS = 15
"""How far back the status shows single days."""


def ledger_status(ledger: Ledger) -> dict[str, Json]:
    """Where the ledger stands."""
    seq, head, epoch = ledger.head()
    return {"events": seq, "head": head, "epoch": epoch}


def models_status(
    ledger: Ledger, names: Sequence[str], now: Micros, *, series: Series | None = None
) -> list[dict[str, Json]]:
    """Every model as the status page shows it (see :mod:`trimtab.web.status`); its days come from the series."""
    by_stream: dict[str, list[Event]] = {model_stream(name): [] for name in names}
    for event in ledger.read():
        if event.stream in by_stream:
            by_stream[event.stream].append(event)
    found = []
    for name in names:
        events = by_stream[model_stream(name)]
        days = recent_days(series, name, now) if series is not None else []
        found.append(_model(name, events, fold_all(model_stream(name), events), now) | {"days": days})
    return found


def recent_days(series: Series, model: str, now: Micros) -> list[dict[str, Json]]:
    """Mean loss and label coverage of each version on the last matured days, newest first."""
    prefix = f"{model}/quality/"
    sums = series.read(prefix, start=max(now - DAYS * DAY, 0))
    found = []
    for (name, day), vector in sorted(sums.items(), key=lambda item: (-item[0][1], item[0][0])):
        answered, labelled, loss = vector.tolist()[:3]
        found.append(
            {
                "day": iso(day)[:10],
                "version": name.removeprefix(prefix),
                "answered": int(answered),
                "loss": loss / labelled if labelled else None,
                "coverage": labelled / answered if answered else None,
            }
        )
    return found


def _model(name: str, events: Sequence[Event], state: State, now: Micros) -> dict[str, Json]:
    live = next(iter(live_at(events, now)), None)
    route = route_of(state)
    return {
        "name": name,
        "live": live,
        "arms": live["arms"] if live else [],
        "rollout": _rollout(state, events),
        "waiting": _waiting(state),
        "training": _training(state),
        "quality": _quality(events),
        "drift": _drift(state, events),
        "decisions": [_decision(event) for event in reversed(events) if event.type not in QUIET][:DECISIONS],
        "versions": [
            {"version": version.digest, "number": version.number, "trained_until": iso(version.trained_until)}
            for version in state.versions.values()
        ],
        "generation": state.route if route else 0,
    }


def live_at(events: Sequence[Event], when: Micros) -> list[dict[str, Json]]:
    """What was live at a time, who approved it and on what evidence; one item per model."""
    by_id = {event.id: event for event in events}
    return [_live(answer, by_id[answer.events[-1]]) for answer in audit.at(events, when)]


def _live(answer: audit.Live, deciding: Event) -> dict[str, Json]:
    canary = answer.canary
    share = canary.share if canary else 0.0
    arms = [{"name": "champion", "version": answer.version, "share": 1 - share}]
    if canary:
        arms.append({"name": "canary", "version": canary.version, "share": share})
    if answer.test:
        arms = [{"name": arm.name, "version": arm.version, "share": arm.share} for arm in answer.test]
    return {
        "model": answer.model,
        "version": answer.version,
        "number": answer.number,
        "since": iso(answer.since),
        "arms": arms,
        "killed": answer.killed,
        "actor": deciding.draft.actor,
        "approved_by": answer.approved_by,
        "reason": answer.reason,
        "evidence": dict(answer.evidence),
        "policy": answer.policy,
        "event": deciding.id,
    }


def _rollout(state: State, events: Sequence[Event]) -> dict[str, Json] | None:
    rollout = state.rollout
    if rollout is None:
        return None
    progress = [event for event in events if event.type == e.GATE_PROGRESSED and event.data["rollout"] == rollout.id]
    said = {"days": 0, "rows": 0, "gain": None, "e_superior": None, "e_inferior": None}
    if progress:
        said = {name: progress[-1].data[name] for name in said}
    return {
        "id": rollout.id,
        "challenger": rollout.version,
        "step": rollout.phase if rollout.phase != "canary" else f"canary {rollout.step + 1}",
        "share": rollout.share,
        "since": iso(rollout.since),
        "expires": iso(rollout.since + rollout.expires),
        "rows": said["rows"],
        "evidence": {name: value for name, value in said.items() if name != "rows" and value is not None},
    }


def _waiting(state: State) -> dict[str, Json] | None:
    rollout = state.rollout
    if rollout is None or rollout.phase != "approval":
        return None
    return {"what": "approval", "version": rollout.version, "since": iso(rollout.since)}


def _training(state: State) -> dict[str, Json] | None:
    if not state.trainings:
        return None
    training = state.trainings[min(state.trainings)]
    return {"job": training.job, "since": iso(training.cutoff), "trigger": training.trigger}


def _quality(events: Sequence[Event]) -> dict[str, Json] | None:
    judged = next((event.data for event in reversed(events) if event.type == e.QUALITY_JUDGED), None)
    if judged is None:
        return None
    kept = {name: judged[name] for name in ("loss", "limit", "coverage", "labelled", "verdict")}
    return {"week": iso(judged["week"])[:10], **kept}


def _drift(state: State, events: Sequence[Event]) -> list[dict[str, Json]]:
    """The last change of each feature of the champion; none means that nothing has left the ordinary."""
    last = {
        event.data["feature"]: event.data
        for event in events
        if event.type == e.DRIFT_CHANGED and event.data["version"] == state.champion
    }
    return [
        {
            "feature": name,
            "severity": data["severity"],
            "psi": data["psi"],
            "alarm": data["alarm_psi"],
            "rows": data["rows"],
            "week": iso(data["start"]),
        }
        for name, data in sorted(last.items())
    ]


def _decision(event: Event) -> dict[str, Json]:
    return {
        "when": iso(event.known),
        "kind": kind_of_event(event.type, event.data),
        "sentence": sentence(event),
        "evidence": dict(event.data.get("evidence") or {}),
    }


def log_events(ledger: Ledger, *, at: Micros | None, model: str | None, limit: int) -> dict[str, Json]:
    """The newest events, oldest first; with ``at``, those known by then and what was live.

    Raises
    ------
    UnknownName
        When nothing is known of that model.
    """
    events = list(ledger.read())
    if model is not None:
        events = [event for event in events if event.stream == model_stream(model) or _of_its_batches(event, model)]
        if not events:
            raise UnknownName("nothing is known of that model", got=repr(model), hint="`trimtab log` shows all")
    if at is not None:
        events = [event for event in events if event.known <= at]
    shown = [_logged(event) for event in events[-limit:]] if limit else []
    return {"events": shown} | ({"live": live_at(events, at)} if at is not None else {})


def _of_its_batches(event: Event, model: str) -> bool:
    """The stream of the platform holds them, with the model as a fact."""
    return event.type in (BATCH_RAN, BATCH_FAILED) and event.data.get("model") == model


def _logged(event: Event) -> dict[str, Json]:
    return {
        "seq": event.seq,
        "id": event.id,
        "when": iso(event.known),
        "stream": event.stream,
        "type": event.type,
        "actor": event.draft.actor,
        "epoch": event.epoch,
        "text": sentence(event),
        "data": dict(event.data),
    }


def workers_status(run: Path, living: Mapping[str, str], found: Counted) -> list[dict[str, Json]]:
    """What each worker last said about itself, whether it lives, and what it has counted since its start.

    Parameters
    ----------
    living
        State by post, as :class:`trimtab.adapters.compute.supervisor.PostState` has it.
    found
        What the workers have counted.
    """
    from trimtab.adapters.wire.status import read_status

    counts = {said.name.rpartition("-")[0]: said for said in found.workers}
    told = []
    for name, state in sorted(living.items()):
        said = read_status(run / f"{name}.json")
        told.append(
            {
                "name": name,
                "pid": said.pid if said else None,
                "state": state if not (said and said.problem) else f"{state}: {said.problem}",
                "generation": said.generation if said else 0,
                "since": iso(said.started) if said else None,
                **_counted(counts.get(f"{name}-{said.pid}") if said else None),
            }
        )
    return told


def _counted(worker: WorkerNow | None) -> dict[str, Json]:
    """Rows answered, rows and replies that failed, and how long callers waited."""
    if worker is None:
        return {"answered": None, "errors": None, "p99_ms": None}
    arms = [arm for arm in worker.arms if arm.arm != "shadow"]
    total = sum((arm.stage("total") for arm in arms), NOTHING)
    p99 = total.quantile_us(0.99) / 1000
    replies = sum(stage.count for (_, _, status), stage in worker.replies.items() if status >= 500)
    return {
        "answered": sum(arm.answered for arm in arms),
        "errors": replies,
        "p99_ms": p99 if total.count else None,
    }


def records_status(found: Counted, home: Home) -> dict[str, Json]:
    """How many prediction records were written and lost since the home was made, over all workers that ever were.

    Also the living workers that refuse what cannot be recorded; and, by table, the bytes that records take up.
    """
    counted: dict[str, Json] = {
        name: sum(found.counters.get(counter, {}).values()) for name, counter in (("written", WRITTEN), ("lost", LOST))
    }
    refusing: list[Json] = [worker.name.rsplit("-", 2)[0] for worker in found.workers if worker.gauges.get(UNWRITABLE)]
    return counted | {"refusing": refusing, "tables": disk_use(home)}


def counts_of(home: Path) -> Counted:
    """What the workers of a home have counted; nothing where that cannot be read now."""
    from trimtab.adapters.wire.cells import METRICS, read_counts

    try:
        return read_counts(home / "run" / METRICS)
    except (Unavailable, OSError):
        return Counted([], {}, {})
