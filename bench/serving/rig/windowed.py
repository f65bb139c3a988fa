"""A model on window features of four entities, an online store full of them, and requests for it.

Its clock is driven and stands still, so that every answer can be verified against features read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from rig.models import headers
from rig.ours import Trimtab, pack_version, route_to
from rig.processes import Started
from trimtab.adapters.clock.shared import SharedClock
from trimtab.adapters.models.export import OnnxExporter
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.app import worker
from trimtab.app.home import Home
from trimtab.core.clock import HOUR, SECOND
from trimtab.features.batch import RequestBatch
from trimtab.features.online import OnlineReader, OnlineWriter
from trimtab.features.plan import Plan, compile_plan
from trimtab.features.sources import Entity, Events, Requests
from trimtab.features.views import windows
from trimtab.training.task import binary

ENTITIES = [Entity(name) for name in ("carrier", "origin", "tail", "route")]
COUNTS = {"carrier": 15, "origin": 3, "tail": 4000, "route": 220}
OVER = ["1h", "3h", "6h", "12h", "24h", "3d", "7d"]
EVENTS = 20_000
NOW = 480_000 * HOUR
"""The time that the driven clock shows."""
MODEL = "windowed"


def made_plan() -> Plan:
    """4 entities with 7 windows of a count and a mean: 56 features."""
    landings = Events("landings", time="at", known="at", keys=ENTITIES, schema={"late": bool})
    view = windows(landings, by=ENTITIES, over=OVER, count="*", mean=["late"])
    asked = Requests("trips", id="id", at="ask", keys=ENTITIES, inputs={})
    return compile_plan(asked, [view], {})


def events() -> dict[str, np.ndarray]:
    """A fortnight of events with keys as skewed as real ones."""
    rng = np.random.default_rng(0)
    columns = {name: np.array([f"{name}{i}" for i in rng.zipf(1.3, EVENTS) % n]) for name, n in COUNTS.items()}
    at = np.sort(NOW - rng.integers(60 * SECOND, 14 * 24 * HOUR, EVENTS))
    return columns | {"at": at, "late": rng.random(EVENTS) < 0.3}


@dataclass(frozen=True)
class Windowed:
    """A home with everything in it, requests, and the right answers, shape (n, 1)."""

    home: Home
    requests: Sequence[bytes]
    answers: np.ndarray
    features: int


def prepared(root: Path, *, requests: int = 512) -> Windowed:
    """Fill a home: events applied to the online store, a model of 100 trees trained on what is read from it."""
    home, plan = Home(root).made(), made_plan()
    columns = events()
    store = LmdbRows(root / "online", durable=False)
    writer = OnlineWriter(plan.parts, store)
    for first in range(0, EVENTS, 2000):
        writer.apply("landings", {name: column[first : first + 2000] for name, column in columns.items()}, first)
    reader = OnlineReader(plan, store, {})
    drawn = np.random.default_rng(1).integers(0, EVENTS, 4000)
    known = reader.read(_batch({name: columns[name][drawn] for name in COUNTS})).values
    asked = {name: columns[name][drawn][:requests] for name in COUNTS}
    store.close()
    data = _trained(np.nan_to_num(known, nan=-1.0))
    version = pack_version(home, MODEL, data, plan, features=len(plan.names()), outputs=1)
    route_to(home, MODEL, version)
    runtime = OnnxModel(data)
    answers = np.concatenate([runtime.run(row[None]) for row in known[:requests]])
    bodies = [msgspec.json.encode({name: str(asked[name][row]) for name in COUNTS}) for row in range(requests)]
    return Windowed(home, [headers(f"/predict/{MODEL}", body) for body in bodies], answers, len(plan.names()))


def _batch(keys: dict[str, np.ndarray]) -> RequestBatch:
    rows = len(keys["tail"])
    return RequestBatch([""] * rows, np.full(rows, NOW), keys, {})


def _trained(rows: np.ndarray) -> bytes:
    import lightgbm

    rng = np.random.default_rng(2)
    label = (rows[:, ::5].sum(axis=1) + rng.normal(0, 5, len(rows)) > np.median(rows[:, ::5].sum(axis=1))).astype(int)
    settings = {"objective": "binary", "num_leaves": 31, "seed": 0, "verbose": -1, "num_threads": 1}
    trained = lightgbm.train(settings, lightgbm.Dataset(rows, label), num_boost_round=100)
    return OnnxExporter().export(trained, rows[:500], task=binary(positive="late")).data


def started(ours: Trimtab, found: Windowed) -> tuple[Started, int]:
    """A worker on that home, whose clock stands still."""
    SharedClock(found.home.run / worker.CLOCK, writable=True).advance_to(NOW)
    return ours.started(found.home, driven=True)
