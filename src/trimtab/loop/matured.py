"""What matured days and drift reports mean for the loop: weeks judged, severities recorded."""

from __future__ import annotations

import math

from trimtab.core.clock import DAY
from trimtab.loop import events as e
from trimtab.loop.declare import Trigger
from trimtab.loop.deliberation import Deliberation, finite
from trimtab.loop.observations import DayMatured
from trimtab.loop.quality import LEAST_LABELS, LEVEL_WEEKS, weekly_limit
from trimtab.loop.rollout import count_pairs
from trimtab.loop.state import WEEK_DAYS, Week
from trimtab.monitoring.blocks import DayBlock, DriftReport, FeatureDrift

DEFAULT_WEEK_ALPHA = 0.01
SEVERITIES = frozenset({"ok", "warning", "critical"})
"""``insufficient_data`` is no news: the last severity stands."""


def mature(work: Deliberation, day: DayMatured) -> None:
    """Take in a matured day; one that was taken in before is ignored."""
    if day.day <= work.state.last_day:
        return
    _close_weeks(work, until=day.day)
    champion = work.state.champion
    block = next((block for block in day.blocks if block.version == champion), None)
    seen = (
        block if block is not None and math.isfinite(block.loss) else DayBlock(champion, day.day, 0, 0, 0.0, 0.0, 0.0)
    )
    data = {
        "day": day.day,
        "version": champion,
        "answered": seen.answered,
        "labelled": seen.labelled,
        "loss": float(seen.loss),
    }
    work.record(e.DAY_MATURED, data)
    _close_weeks(work, until=day.day + DAY)
    count_pairs(work, day.pairs)


def notice_drift(work: Deliberation, report: DriftReport) -> None:
    """Record what changed in severity; confirm a critical drift of the predictions after a day.

    A single critical window may be one odd day. Two, at least a day apart with nothing milder between them, confirm it,
    and only that may start a training: drift of features alone informs.
    """
    if not work.state.champion or report.version != work.state.champion:
        return
    for feature in sorted(report.features, key=lambda drift: drift.feature):
        _compare(work, report, feature, name=feature.feature)
    _compare(work, report, report.prediction, name="prediction")
    found = work.state.drift.get("prediction")
    critical = report.prediction.severity == "critical" and found is not None and found.severity == "critical"
    if critical and found is not None and not found.confirmed and report.end - found.since >= DAY:
        data = {
            "version": report.version,
            "severity": "critical",
            "since": found.since,
            "end": report.end,
            "psi": finite(report.prediction.psi),
            "alarm_psi": finite(report.prediction.alarm_psi),
        }
        work.record(e.DRIFT_CONFIRMED, data)


def _compare(work: Deliberation, report: DriftReport, drift: FeatureDrift, *, name: str) -> None:
    known = work.state.drift.get(name)
    previous = known.severity if known else "ok"
    stale = known is not None and report.end <= known.since
    if drift.severity not in SEVERITIES or drift.severity == previous or stale:
        return
    data = {
        "version": report.version,
        "feature": name,
        "severity": drift.severity,
        "previous": previous,
        "psi": finite(drift.psi),
        "alarm_psi": finite(drift.alarm_psi),
        "ks": finite(drift.ks),
        "rows": drift.rows,
        "start": report.start,
        "end": report.end,
    }
    work.record(e.DRIFT_CHANGED, data)


def _close_weeks(work: Deliberation, *, until: int) -> None:
    while (week := work.state.week) is not None and week.start + WEEK_DAYS * DAY <= until:
        _judge_week(work, week)


def _judge_week(work: Deliberation, week: Week) -> None:
    loss = week.loss / week.labelled if week.labelled >= LEAST_LABELS else None
    alpha = _alpha(work.policy.triggers)
    limit = _limit(work, alpha)
    answer = "insufficient_data"
    if loss is not None and limit is not None:
        answer = "drop" if loss > limit else "ok"
    data = {
        "version": work.state.champion,
        "week": week.start,
        "days": week.days,
        "loss": loss,
        "limit": limit,
        "alpha": alpha,
        "labelled": week.labelled,
        "answered": week.answered,
        "coverage": week.labelled / week.answered if week.answered else 0.0,
        "verdict": answer,
    }
    work.record(e.QUALITY_JUDGED, data)


def _limit(work: Deliberation, alpha: float) -> float | None:
    version = work.version(work.state.champion)
    if version is None or version.reference_level is None:
        return None
    live = [week.loss for week in work.state.weeks[:LEVEL_WEEKS] if week.verdict == "ok" and week.loss is not None]
    return weekly_limit(version.reference_weeks, [version.reference_level, *live], alpha=alpha)


def _alpha(triggers: tuple[Trigger, ...]) -> float:
    return next((trigger.alpha for trigger in triggers if trigger.kind == "quality"), DEFAULT_WEEK_ALPHA)
