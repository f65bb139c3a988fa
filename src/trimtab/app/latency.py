"""How long answers took, beside what they may take: from what workers count, or from prediction records."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from trimtab.adapters.project.file import load_project
from trimtab.adapters.wire.cells import METRICS, read_counts
from trimtab.app.home import HOME, Home, named_home
from trimtab.app.standalone import alone_home, alone_routes
from trimtab.core.clock import Micros, instant
from trimtab.core.ids import Json
from trimtab.errors import InputError, Unavailable, UnknownName
from trimtab.serving.budget import MEAN, PRESETS, TOTAL, BudgetReport, LatencyBudget, Line, report, stages_of
from trimtab.serving.counted import NOTHING, Arm, Counted, Stage
from trimtab.serving.latency import BUCKETS, SHOWN, bucket, shown_counts
from trimtab.serving.record import PINNED, PREDICTIONS, SHADOW, decode_record
from trimtab.serving.record import STAGES as RECORDED
from trimtab.serving.routing import RouteTable, decode_table, takes_part

From = Literal["workers", "records"]


def metrics_folder(root: Path) -> Path:
    """Where the workers of a home count."""
    return root / "run" / METRICS


@dataclass(frozen=True)
class LatencyRequest:
    """What ``trimtab latency`` was asked for."""

    project: Path
    model: str | None = None
    source: From = "workers"
    during_s: float = 0.0
    """Only what is answered in the next seconds; 0 for everything since the version went live."""
    since: str | None = None
    """Of records: only those asked at that time or later, ISO 8601."""
    home: Path | None = None


def show_latency(request: LatencyRequest) -> dict[str, Json]:
    """Every arm of a model, or of all models, beside the budget.

    Raises
    ------
    UnknownName
        When the project declares no such model.
    Unavailable
        When nothing was ever answered.
    """
    since = 0 if request.since is None else instant(request.since)
    if request.since is not None and request.source != "records":
        hint = f"read records: --from records --since {request.since}"
        raise InputError("what workers count has no times", got=f"--since {request.since}", hint=hint)
    served = alone_home(request.project, request.home)
    if served is not None:  # nobody has declared a budget
        home, budgets = served, dict.fromkeys(sorted(alone_routes(served).routes), PRESETS["table"])
    else:
        project = load_project(request.project)
        home = named_home(request.home) or Home(Path(project.root) / HOME)
        budgets = {name: spec.latency_budget for name, spec in sorted(project.models.items())}
    if request.model is not None:
        if request.model not in budgets:
            raise UnknownName("no such model here", got=repr(request.model), hint=", ".join(budgets))
        budgets = {request.model: budgets[request.model]}
    if request.source == "records":
        if request.during_s:
            raise InputError("records are of the past", hint="name a time with --since")
        arms = recorded(home, budgets, since=since)
        hint = "`trimtab predict` asks once"
    else:
        found = _counted(metrics_folder(home.root), request.during_s)
        arms = latency_status(found, budgets, routes_of(home))
        hint = "`trimtab predict` asks once; --from records tells also of what answers no more"
    if not arms:
        raise Unavailable("nothing was answered yet", hint=hint)
    return {"from": request.source, "during_s": request.during_s or None, "arms": arms}


# -- from what workers count


def routes_of(home: Home) -> RouteTable:
    """Which versions answer in a home; none where nothing was ever deployed.

    Raises
    ------
    InputError
        When the file is no route table.
    """
    try:
        return decode_table(home.route_file.read_bytes())
    except FileNotFoundError:
        return RouteTable(0, {})


def latency_status(found: Counted, budgets: Mapping[str, LatencyBudget], table: RouteTable) -> list[dict[str, Json]]:
    """Each arm that answers now by the route table, and each version that callers named, beside its budget."""
    told = []
    for name, budget in budgets.items():
        route = table.routes.get(name)
        arms = [arm for arm in found.arms if arm.model == name and arm.answered + arm.failed]
        now = [arm for arm in arms if route is not None and takes_part(route, arm.version, arm.arm)]
        told += [_told(arm, budget) for arm in sorted(now, key=lambda arm: -(arm.answered + arm.failed))]
    return told


def _counted(folder: Path, during_s: float) -> Counted:
    """What workers have counted, or what they count from now on for some seconds."""
    before = read_counts(folder)
    if not during_s:
        return before
    time.sleep(during_s)
    earlier = {(arm.model, arm.version, arm.arm): arm.cells for arm in before.arms}
    arms = [_since(arm, earlier.get((arm.model, arm.version, arm.arm))) for arm in read_counts(folder).arms]
    return Counted(arms, {}, {})


def _since(arm: Arm, before: Sequence[int] | None) -> Arm:
    if before is None:
        return arm
    return Arm(arm.model, arm.version, arm.arm, [a - b for a, b in zip(arm.cells, before, strict=True)])


def _told(arm: Arm, budget: LatencyBudget) -> dict[str, Json]:
    total = arm.stage("total")

    def measured(stages: tuple[str, ...], q: float) -> float:
        # As slow as if all were slow at once: what they took together was not counted.
        parts = [arm.stage(stage) for stage in stages]
        return math.fsum(part.mean_us if q == MEAN else part.quantile_us(q) for part in parts) / 1000

    held = report(budget, measured, requests=total.count)
    who = {"model": arm.model, "version": arm.version, "arm": arm.arm, "rows": arm.answered + arm.failed}
    return who | report_json(held) | {"distribution": {"total": bars(total), "inference": bars(arm.stage("infer"))}}


# -- from records


def recorded(home: Home, budgets: Mapping[str, LatencyBudget], *, since: Micros = 0) -> list[dict[str, Json]]:
    """The same from prediction records, which carry the time of every stage but queue and record.

    What the stages of a part took together is exact here. ``total`` is the sum of the recorded stages. Of each arm the
    version is told that answered last; of a shadow all that scored in the last rollout, and each that callers named.
    """
    last: dict[tuple[str, str, str], tuple[Micros, int, str]] = {}
    sums: dict[tuple[str, str, str], dict[tuple[str, ...], tuple[list[int], list[int]]]] = {}
    for at, (_, row) in enumerate(home.records("latency").scan(PREDICTIONS)):
        try:
            record = decode_record(row)
        except msgspec.MsgspecError:
            continue
        if record.model not in budgets or record.asked_at < since or len(record.timings) != len(RECORDED):
            continue
        key = (record.model, record.version, record.arm)
        last[key] = max(last.get(key, (0, -1, "")), (record.asked_at, at, record.rollout))
        arm = sums.setdefault(key, {})
        timings = dict(zip(RECORDED, record.timings, strict=True))
        for stages in _wanted(budgets[record.model]):
            known = [timings[stage] for stage in stages if stage in timings]
            us = sum(record.timings) if stages == TOTAL else sum(known)
            if known or stages == TOTAL:
                counts, total = arm.setdefault(stages, ([0] * BUCKETS, [0]))
                counts[bucket(us)] += 1
                total[0] += us
    newest = {(key[0], key[2]): key for key in sorted(last, key=last.__getitem__)}
    found = {key: parts for key, parts in sums.items() if _lasting(key, newest[key[0], key[2]], last)}
    told = [_told_of(key, parts, budgets[key[0]]) for key, parts in found.items()]
    return sorted(told, key=lambda arm: (arm["model"], -arm["rows"]))


def _lasting(
    key: tuple[str, str, str],
    newest: tuple[str, str, str],
    last: Mapping[tuple[str, str, str], tuple[Micros, int, str]],
) -> bool:
    """Whether a version is told of beside the newest of its arm."""
    same_rollout = last[key][2] == last[newest][2]
    return key[2] == PINNED or key == newest or (key[2] == SHADOW and same_rollout)


def _wanted(budget: LatencyBudget) -> list[tuple[str, ...]]:
    parts = [stages_of(part) for part in budget.stages]
    return [*parts, *((stage,) for stage in RECORDED), ("infer",), TOTAL]


def _told_of(
    key: tuple[str, str, str], parts: Mapping[tuple[str, ...], tuple[list[int], list[int]]], budget: LatencyBudget
) -> dict[str, Json]:
    stages = {name: Stage(counts, total[0]) for name, (counts, total) in parts.items()}

    def measured(wanted: tuple[str, ...], q: float) -> float:
        stage = stages.get(wanted, NOTHING)
        return (stage.mean_us if q == MEAN else stage.quantile_us(q)) / 1000

    total = stages[TOTAL]
    held = report(budget, measured, requests=total.count)
    who = {"model": key[0], "version": key[1], "arm": key[2], "rows": total.count}
    inference = bars(stages.get(("infer",), NOTHING))
    return who | report_json(held) | {"distribution": {"total": bars(total), "inference": inference}}


# -- as JSON


def report_json(held: BudgetReport) -> dict[str, Json]:
    """A report as JSON: times in milliseconds, null where nothing was measured."""
    budget = held.budget
    return {
        "requests": held.requests,
        "budget": {"total_ms": budget.total_ms, "percentile": budget.percentile, "buffer_ms": budget.buffer_ms},
        "stages": [_line_json(line) for line in held.lines],
        "total": _line_json(held.total),
        "broken": list(held.broken),
    }


def _line_json(line: Line) -> dict[str, Json]:
    times = {name: getattr(line, name) for name in ("actual_ms", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "variance")}
    shown: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in times.items()}
    return {"part": line.part, "budget_ms": line.budget_ms or None, **shown, "broken": line.broken}


def bars(stage: Stage) -> list[dict[str, Json]]:
    """How many took how long: counts between round bounds, from the first that is not empty to the last."""
    cumulative = shown_counts(stage.counts)
    counts = [after - before for before, after in zip([0, *cumulative], cumulative, strict=False)]
    filled = [at for at, count in enumerate(counts) if count]
    if not filled:
        return []
    uppers: list[float | None] = [*(bound / 1000 for bound in SHOWN), None]
    return [{"upto_ms": uppers[at], "count": counts[at]} for at in range(filled[0], filled[-1] + 1)]
