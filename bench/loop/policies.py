"""How much of what retraining can gain does the default policy recover on a year of flights?

    make bench, or: .venv/bin/python bench/loop/policies.py [--until 2013-06-01]

One run: the policy through the whole replay (gates, shadow, canary), and beside it fixed schedules without any gate,
fitted by the same training function on the same point-in-time features. The best of the schedules is known only in
hindsight; the share of its gain over the frozen model is what the policy recovers. There is no target: the policy's
defaults were chosen before they were scored here (docs/decisions/0003-default-policy.md).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from trimtab.app.jobs import read_inputs
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.clock import DAY, instant
from trimtab.features.batch import RequestBatch
from trimtab.stats.metrics import evaluate
from trimtab.training.task import TrainingData

PROJECT = Path(__file__).parents[2] / "examples" / "flights"
START = "2013-03-04"
SCHEDULES = {
    "weekly, all history": (7, None),
    "every 4 weeks, all history": (28, None),
    "every 8 weeks, all history": (56, None),
    "weekly, last 60 days": (7, 60),
    "every 4 weeks, last 60 days": (28, 60),
    "every 8 weeks, last 60 days": (56, 60),
}


def fit_predict(inputs, label, known, cutoff, span, rows):
    """Fit on everything matured by the cutoff and predict the given rows."""
    spec, at = inputs.spec, inputs.known.requests.at
    usable = (at <= cutoff - spec.label.matures) & (known <= cutoff) & np.isfinite(label)
    if span is not None:
        usable &= at >= cutoff - span * DAY
    data = TrainingData(
        inputs.features[usable], label[usable], tuple(inputs.project.plan(spec.name).names()), at[usable], spec.seed
    )
    model = spec.train(data, dict(spec.params))
    return model.booster_.predict(inputs.features[rows], num_threads=1)


def schedule(inputs, label, known, edges, span):
    """Predictions of a schedule that refits at each edge; shape (n,), NaN before the first."""
    at = inputs.known.requests.at
    said = np.full(len(at), np.nan)
    for edge, following in zip(edges, [*edges[1:], 2**62], strict=True):
        rows = np.flatnonzero((at > edge) & (at <= following))
        if len(rows):
            said[rows] = fit_predict(inputs, label, known, edge, span, rows)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--until", default=None)
    options = parser.parse_args()
    if not (PROJECT / "data" / "departures.parquet").exists():
        sys.path.insert(0, str(PROJECT))
        import prepare

        prepare.main()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        run = run_replay(ReplayRequest(PROJECT, start=START, until=options.until, out=Path(scratch) / "replay"))
        served, answered = run.staging.replay.served, np.array(run.staging.replay.answered)
    policy_seconds = time.perf_counter() - began
    inputs = read_inputs(str(PROJECT / "project.py"), run.staging.spec.name, (), "")
    label, known = labels(inputs.known.requests, inputs.known.labels)
    rows = answered[np.isfinite(label[answered])]
    last = int(inputs.known.requests.at[rows[-1]])
    results = {"frozen (first champion)": served.frozen, "Trimtab, default policy": served.champion}
    counts = {"frozen (first champion)": 1, "Trimtab, default policy": run.result["counts"]["trainings"]}
    for name, (days, span) in SCHEDULES.items():
        edges = list(range(instant(START), last, days * DAY))
        results[name], counts[name] = schedule(inputs, label, known, edges, span), len(edges)
        print(f"… {name} done after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    table = {name: evaluate("binary", label[rows], said[rows]) for name, said in results.items()}
    show(table, counts, run, policy_seconds, len(rows))


def labels(requests: RequestBatch, events) -> tuple[np.ndarray, np.ndarray]:
    """Label and the time it became known, by request; NaN and never where there is none."""
    value = dict(zip(events.ids.tolist(), events.values.tolist(), strict=True))
    when = dict(zip(events.ids.tolist(), events.known.tolist(), strict=True))
    return (
        np.array([value.get(request, np.nan) for request in requests.ids], np.float64),
        np.array([when.get(request, 2**62) for request in requests.ids], np.int64),
    )


def show(table, counts, run, policy_seconds, rows) -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{rows:,} labelled flights asked from {START} on\n")
    print(f"{'policy':32}{'fits':>6}{'AUC':>8}{'logloss':>9}{'ECE':>8}")
    for name, found in table.items():
        print(f"{name:32}{counts[name]:>6}{found['roc_auc']:>8.4f}{found['log_loss']:>9.4f}{found['ece']:>8.4f}")
    frozen, ours = (table[name]["log_loss"] for name in ("frozen (first champion)", "Trimtab, default policy"))
    best = min(SCHEDULES, key=lambda name: table[name]["log_loss"])
    share = (frozen - ours) / (frozen - table[best]["log_loss"])
    print(f"\nbest ungated fixed schedule in hindsight: {best}, logloss {table[best]['log_loss']:.4f}")
    print(f"share of its gain over frozen that the policy recovers: {share:.0%}")
    print(f"promotions {run.result['counts']['promotions']}, rejections {run.result['counts']['rejections']}")
    print(f"the replay of the policy took {policy_seconds:.0f} s; digest {run.result['digest'][:16]}")
    print(json.dumps({"share": share, "logloss": {name: found["log_loss"] for name, found in table.items()}}))


if __name__ == "__main__":
    main()
