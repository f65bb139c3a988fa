"""An invented year of replay, drawn from a fixed seed: realistic enough to look at, and plain enough to test with."""

from __future__ import annotations

import math
import random

from trimtab.core.clock import DAY, HOUR, WEEK, instant
from trimtab.web.report_data import (
    CalibrationBin,
    Champion,
    Decision,
    DriftCell,
    DriftMap,
    DriftRow,
    Fault,
    Gain,
    MonthRow,
    Parity,
    ReplayReport,
    Score,
    WeekPoint,
)

START, END = instant("2013-03-04"), instant("2014-01-01")
WEEKS = tuple(range(START, END - 3 * DAY, WEEK))
PROMOTED = ("2013-04-22", "2013-06-10", "2013-08-05", "2013-10-21")
LOST = {"2013-03", "2013-10"}


def example_report() -> ReplayReport:
    """A binary task over ten months."""
    rng = random.Random(7)
    weeks = _weeks(rng)
    months = _months(rng)
    return ReplayReport(
        project="flights",
        model="late_arrival",
        task="binary",
        outcome="late",
        start=START,
        end=END,
        months=months,
        total=MonthRow(
            "total", 281_373, 273_606, 0.236, Score(0.4871, 0.731, 0.0287), Score(0.4655, 0.759, 0.0071), lost=False
        ),
        weeks=weeks,
        decisions=_decisions(rng),
        champions=_champions(rng),
        digest="3f9a1c7be08d24556ff02b6b1d6c3a8c4de1970afbf0a92ce36d1187d5b0e942",
        gain=Gain(0.0216, 0.0171, 0.0259),
        drift=_drift(rng),
        calibration_frozen=_bins(rng, slope=0.8, shift=0.055),
        calibration_trimtab=_bins(rng, slope=0.99, shift=0.003),
        counts={
            "events delivered": 812_345,
            "requests answered": 281_373,
            "labels joined": 273_606,
            "shadow answers": 96_120,
            "models trained": 7,
            "ledger events": 1_204,
        },
        timings={
            "ingest and validate": 9.4,
            "features": 31.2,
            "inference": 24.8,
            "records": 6.1,
            "training": 58.7,
            "monitors": 11.3,
            "decisions": 0.41,
        },
        parity=Parity(2_000, 152_000, 0, 0, 0, 3.1e-13),
        quarantine={
            "landings": {"delay outside -120 to 1500": 3, "tailnum missing": 12},
            "weather": {"wind outside 0 to 120": 1},
        },
        faults=(
            Fault(
                "unit of distance",
                instant("2013-08-26"),
                "distance arrives in kilometres",
                instant("2013-08-27T04:00"),
                "drift of distance became critical (PSI 3.1, line 0.12)",
                instant("2013-08-29T12:00"),
                "the mapping was restored; no retraining was started on the bad rows",
            ),
            Fault(
                "bad challenger",
                instant("2013-11-11"),
                "an operator forced a shuffled model past the gate",
                instant("2013-11-11T19:00"),
                "the canary's paired loss passed its bound",
                instant("2013-11-11T19:00"),
                "rolled back from 10 % on evidence e = 812",
            ),
        ),
    )


def regression_report() -> ReplayReport:
    """A task without AUC, calibration, drift map or champions."""
    score, better = Score(12.5), Score(12.9)
    return ReplayReport(
        project="shops",
        model="basket",
        task="regression",
        outcome="amount",
        start=START,
        end=START + 4 * WEEK,
        months=(MonthRow("2013-03", 400, 380, 31.2, score, better, lost=True),),
        total=MonthRow("total", 400, 380, 31.2, score, better),
        weeks=tuple(WeekPoint(START + n * WEEK, 100, score, better) for n in range(4)),
        decisions=(),
        champions=(),
        digest="0" * 64,
        loss="squared_error",
    )


def _weeks(rng: random.Random) -> tuple[WeekPoint, ...]:
    points, first = [], instant(PROMOTED[0])
    for week in WEEKS:
        season = math.sin((week - START) / (END - START) * 2 * math.pi)
        base = 0.476 + 0.035 * season + rng.gauss(0, 0.013)
        gain = 0.0 if week < first else 0.022 + rng.gauss(0, 0.016)
        auc = 0.735 - 0.02 * season + rng.gauss(0, 0.012)
        ece = 0.02 + abs(rng.gauss(0.012, 0.01))
        frozen = Score(base, auc, ece)
        trimtab = frozen if week < first else Score(base - gain, auc + gain * 1.2, max(0.004, ece - gain))
        points.append(WeekPoint(week, rng.randint(5400, 6600), frozen, trimtab))
    return tuple(points)


def _months(rng: random.Random) -> tuple[MonthRow, ...]:
    rows = []
    for number in range(3, 13):
        name = f"2013-{number:02d}"
        frozen = Score(0.487 + rng.gauss(0, 0.02), 0.731 + rng.gauss(0, 0.01), 0.028 + rng.gauss(0, 0.004))
        gain = -0.003 if name in LOST else 0.022
        trimtab = Score((frozen.loss or 0) - gain, (frozen.auc or 0) + gain, 0.009 + abs(rng.gauss(0, 0.002)))
        requests = rng.randint(25_000, 29_500)
        rows.append(
            MonthRow(name, requests, int(requests * 0.972), 0.236 + rng.gauss(0, 0.04), frozen, trimtab, name in LOST)
        )
    return tuple(rows)


def _decisions(rng: random.Random) -> tuple[Decision, ...]:
    made = []
    for number, start in enumerate(
        ("2013-03-18", "2013-04-15", "2013-06-03", "2013-07-29", "2013-09-09", "2013-10-14")
    ):
        at = instant(start)
        version = f"{rng.getrandbits(48):012x}"
        why = ("time", "quality", "drift", "time", "quality", "time")[number]
        evidence = {"version": version, "rows": 50_000 + 20_000 * number}
        said = (
            "28 days have passed since the last training" if why == "time" else "the matured week is beyond its limit"
        )
        made += [
            Decision(at, "trigger", f"Retraining is due: {said}.", {"trigger": why, "loss": 0.512, "limit": 0.498}),
            Decision(
                at + HOUR, "train", f"Trained {version} on everything known, {evidence['rows']:,} rows.", evidence
            ),
            Decision(
                at + HOUR,
                "gate",
                f"{version} keeps every floor on the held-out week.",
                {"roc_auc": 0.741, "p99_ms": 1.8},
            ),
        ]
        if number in (0, 4):
            sentence = f"{version} was rejected: no evidence in 28 days that it beats the champion."
            made.append(Decision(at + 6 * DAY, "reject", sentence, {"e_value": 0.71, "needed": 10, "days": 28}))
            continue
        made += [
            Decision(
                at + 5 * DAY, "canary", f"{version} answers 10 % of requests.", {"e_value": 13.2, "paired_rows": 4_102}
            ),
            Decision(
                at + 7 * DAY,
                "promote",
                f"{version} answers everything now.",
                {
                    "e_value": 22.4,
                    "needed": 10,
                    "gain": 0.0142,
                    "blocks": 7,
                    "guardrails": {"errors": {"canary": 0, "champion": 0}, "slow": {"canary": 1, "champion": 12}},
                },
            ),
        ]
    made += [
        Decision(instant("2013-08-26"), "fault", "Fault on stage: distance arrives in kilometres.", {}),
        Decision(
            instant("2013-08-27T04:00"), "drift", "Drift of distance is critical: PSI 3.1, line 0.12.", {"psi": 3.1}
        ),
        Decision(
            instant("2013-11-11"),
            "force",
            "operator:ada forced 9c1d past the gate: 'on stage'.",
            {"actor": "operator:ada"},
        ),
        Decision(
            instant("2013-11-11T19:00"),
            "rollback",
            "9c1d was rolled back: it loses 0.31 per request.",
            {"e_value": 812.0},
        ),
    ]
    return tuple(sorted(made, key=lambda d: d.when))


def _champions(rng: random.Random) -> tuple[Champion, ...]:
    edges = [START, *(instant(text) for text in PROMOTED)]
    found = []
    for number, since in enumerate(edges):
        until = edges[number + 1] if number + 1 < len(edges) else None
        mean, step = 0.012 + 0.006 * number, 0.009 - 0.0035 * number
        found.append(
            Champion(
                f"{rng.getrandbits(256):064x}",
                since,
                until,
                since - 7 * DAY,
                50_854 + 48_000 * number,
                3.1 + 2.4 * number,
                Gain(mean, mean - 0.005, mean + 0.005) if number else None,
                Gain(step, step - 0.006, step + 0.006) if number else None,
            )
        )
    return tuple(found)


def _drift(rng: random.Random) -> DriftMap:
    names = [
        f"landings.{entity}.{what}_{length}"
        for entity in ("carrier", "origin", "tailnum", "route")
        for what in ("count", "mean_late", "mean_delay")
        for length in ("3h", "1d", "7d")
    ]
    names += ["weather.wind", "weather.temp", "weather.precip", "weather.visib", "calendar.hour", "distance"]
    return DriftMap(
        WEEKS,
        _drift_row(rng, "prediction", 0.12, 0.10),
        tuple(_drift_row(rng, name, 0.1 + rng.random() * 0.5, rng.random() * 0.4) for name in names),
    )


def _drift_row(rng: random.Random, name: str, alarm: float, level: float) -> DriftRow:
    cells = []
    for number, _ in enumerate(WEEKS):
        season = 0.5 + 0.9 * math.sin(math.pi * number / len(WEEKS)) ** 2
        psi = max(0.0, level * season * (0.5 + rng.random()))
        if name == "distance":
            psi = 3.1 if number == 25 else 0.02
        if number == 0:
            cells.append(DriftCell(None, alarm, "insufficient_data"))
            continue
        cells.append(DriftCell(psi, alarm, "critical" if psi > 2 * alarm else "warning" if psi > alarm else "ok"))
    return DriftRow(name, tuple(cells))


def _bins(rng: random.Random, *, slope: float, shift: float) -> tuple[CalibrationBin, ...]:
    bins = []
    for number in range(12):
        predicted = 0.03 + number * 0.065
        observed = shift + slope * predicted + rng.gauss(0, 0.006)
        bins.append(CalibrationBin(predicted, max(0.0, observed), int(60_000 * math.exp(-number / 2.6)) + 400))
    return tuple(bins)
