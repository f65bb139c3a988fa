"""A tiny training set-up with real LightGBM, also run as a program by the reproducibility test."""

import sys
import time

import numpy as np
from tests.unit.registry.memory import MemoryBlobs

from trimtab.adapters.models.export import OnnxExporter
from trimtab.core.clock import DAY, HOUR
from trimtab.core.ids import sha256
from trimtab.datasets.frozen import freeze_split
from trimtab.datasets.splits import LabelEvents, split_by_time
from trimtab.features.batch import RequestBatch
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.registry.assemble import assemble
from trimtab.training.run import TrainingSpec, train
from trimtab.training.task import binary, regression

MODULE = "FEATURES = ('a', 'b', 'c')\n"
NAMES = ["calendar.a", "calendar.b", "calendar.c"]
PLAN = Plan(
    RequestShape("visits", "id", "at", {}, {}, (), {}),
    (ModulePart("features.calendar", ("a", "b", "c"), sha256(MODULE.encode())),),
)


def fit(data, params):
    import lightgbm as lgb

    settings = {"objective": "binary", "verbose": -1, "seed": data.seed, "num_threads": 1, "deterministic": True}
    dataset = lgb.Dataset(data.X, data.y, params={"verbose": -1})
    return lgb.train({**settings, **params, "bagging_fraction": 0.8, "bagging_freq": 1}, dataset, 15)


def split(*, seed=0, days=30, regression_task=False):
    rng = np.random.default_rng(seed)
    n = days * 40
    at = np.sort(rng.integers(0, days * DAY, n))
    X = rng.normal(size=(n, 3)).astype(np.float32)
    X[rng.random(X.shape) < 0.05] = np.nan
    score = np.nan_to_num(X[:, 0]) + 0.5 * rng.normal(size=n)
    ids = [f"r{i}" for i in range(n)]
    labels = LabelEvents(np.array(ids), score if regression_task else score > 0, at + rng.integers(0, 6 * HOUR, n))
    requests = RequestBatch(ids, at, {}, {"row": np.arange(n)})
    chosen = split_by_time(
        requests, labels, cutoff=days * DAY, matures=DAY, holdout=7 * DAY, classes=0 if regression_task else 2
    )
    return freeze_split(requests, chosen, names=NAMES, compute=lambda rows: X[rows])


def spec(**changes):
    return TrainingSpec(
        **{
            "model": "visits",
            "task": binary(positive="buys"),
            "fit": fit,
            "plan": PLAN,
            "seed": 3,
            "code_revision": "abc",
        }
        | changes
    )


def profile(data, predictions, holdout, on_holdout):
    return f"{len(data)} {predictions.mean():.12g} {len(holdout)} {on_holdout.sum():.12g}".encode()


def trained(**changes):
    options = {"exporter": OnnxExporter(), "profile": profile, "timer": time.perf_counter_ns, "data": split()} | {
        name: changes.pop(name) for name in ("champion", "data", "exporter") if name in changes
    }
    return train(spec(**changes), options.pop("data"), **options)


def packed(blobs, **changes):
    return assemble(blobs, trained(**changes), modules={"features.calendar": MODULE})


REGRESSION = regression(target="spend")

if __name__ == "__main__":
    sys.stdout.write(packed(MemoryBlobs(), params={"num_leaves": 7}).version)
