"""Small stand-ins for what serving is handed: a plan, a reader, a runtime, records, and a timer that ticks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np

from trimtab.core.clock import VirtualClock
from trimtab.core.ports import Place
from trimtab.errors import Unavailable
from trimtab.features.batch import FeatureBatch, RequestBatch, Watermark
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.ask import Steer
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.engine import Engine
from trimtab.serving.infer import decode_infer, encode_infer
from trimtab.serving.meter import LocalCells, Meter
from trimtab.serving.pipeline import Deployed, Pipeline, deploy
from trimtab.serving.record import PredictionRecord, decode_record
from trimtab.serving.routing import Arm, Route, RouteTable

SHAPE = RequestShape(
    source="visits",
    id="visit",
    at="asked",
    keys={"shop": "str", "till": "int"},
    inputs={"basket": "float", "items": "int", "member": "bool", "since": "time", "note": "str", "age": "int"},
    optional=("note", "age"),
    ranges={"basket": (0.0, 1000.0), "items": (0, 99)},
)
GOOD = {
    "id": "r1",
    "shop": "a",
    "till": 3,
    "basket": 12.5,
    "items": 2,
    "member": True,
    "since": "2013-03-04T06:00Z",
}
SMALL = RequestShape("visits", "visit", "asked", {"shop": "str"}, {"basket": "float"}, (), {})


def small_plan(tag: str = "x", *, features: Sequence[str] = ("basket", "length")) -> Plan:
    """A plan with two features; another tag is another plan with the same request."""
    return Plan(SMALL, (ModulePart("pkg.calc", tuple(features), tag),))


def manifest_of(plan: Plan, *, model: str = "m", outputs: int = 1, **more: str) -> Manifest:
    width = len(plan.names())
    return Manifest(
        format=1,
        model=model,
        task="binary",
        runtime="onnx",
        files={},
        inputs=(Tensor("features", "float32", (-1, width)),),
        outputs=(Tensor("probability", "float32", (-1, outputs)),),
        plan_digest=plan.digest,
        dataset_digest="",
        trained_until=0,
        code_revision="",
        libraries={},
        parity=ExportParity(1, 0.0, 0.0, 0, 1e-5),
        **more,
    )


class Reader:
    """Features straight from the request: the basket, and the length of the shop's name."""

    def __init__(self, *, error: Exception | None = None, stale: tuple[str, ...] = ()) -> None:
        self.reads: list[int] = []
        self.error = error
        self.stale = stale

    def read(self, batch: RequestBatch) -> FeatureBatch:
        self.reads.append(len(batch))
        if self.error is not None:
            raise self.error
        if "poison" in list(batch.keys["shop"]):
            raise ZeroDivisionError("the bundle's own code")
        length = np.char.str_len(batch.keys["shop"]).astype(np.float64)
        values = np.stack([batch.inputs["basket"], length], axis=1).astype(np.float32)
        return FeatureBatch(values, np.ones((len(batch), 1), np.float32), {"sales": Watermark(7, 70)}, self.stale)


class Linear:
    """``bias + sum of features`` per row; refuses to run once closed."""

    blocking = False
    trouble = ""

    def __init__(self, bias: float, *, outputs: int = 1, error: Exception | None = None) -> None:
        self.bias, self.outputs, self.error = bias, outputs, error
        self.closed = False
        self.rows: list[int] = []

    note = "nothing"

    def run(self, values: np.ndarray) -> np.ndarray:
        assert not self.closed, "used after close"
        assert values.dtype == np.float32
        if self.error is not None and self.rows:
            raise self.error
        self.rows.append(len(values))
        total = values.sum(axis=1, keepdims=True) + np.float32(self.bias)
        return np.concatenate([total + index for index in range(self.outputs)], axis=1)

    def close(self) -> None:
        self.closed = True


class MemoryRecords:
    """Records in a list; ``full`` refuses like a full disk."""

    def __init__(self) -> None:
        self.batches: list[list[PredictionRecord]] = []
        self.full = False

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:
        if self.full:
            raise Unavailable("the disk is full")
        self.batches.append([decode_record(row) for row in rows])
        return Place("w", len(self.batches))

    @property
    def rows(self) -> list[PredictionRecord]:
        return [row for batch in self.batches for row in batch]


class House:
    """Versions by name, each a bias; and what loads them."""

    def __init__(self) -> None:
        self.made: dict[str, Deployed] = {}
        self.broken: dict[str, Exception] = {}

    def add(
        self, version: str, bias: float, *, plan: Plan | None = None, reader: Reader | None = None, **more
    ) -> Deployed:
        plan = plan or small_plan()
        outputs = more.get("outputs", 1)
        model = more.pop("model", "m")
        self.made[version] = deploy(
            version,
            manifest_of(plan, outputs=outputs, model=model),
            plan,
            reader=reader or Reader(),
            runtime=Linear(bias, **more),
        )
        return self.made[version]

    def load(self, version: str) -> Deployed:
        if version in self.broken:
            raise self.broken[version]
        return self.made[version]


def table(
    generation: int, *arms: tuple[str, str, float], rollout: str = "", salt: str = "s", unit: str = ""
) -> RouteTable:
    return RouteTable(generation, {"m": Route("m", tuple(Arm(*arm) for arm in arms), rollout, salt, unit=unit)})


def engine_with(house: House, *arms: tuple[str, str, float], unit: str = "", **more) -> Engine:
    ticks = itertools.count(step=10_000)
    engine = Engine(Pipeline(lambda: next(ticks)), **more)
    assert engine.swap(table(1, *arms, unit=unit), house.load) is None
    return engine


def batch_of(*ids: str, shop: str = "aa", basket: float = 1.0) -> RequestBatch:
    n = len(ids)
    return RequestBatch(ids, np.full(n, 5, np.int64), {"shop": np.array([shop] * n)}, {"basket": np.full(n, basket)})


class Desk:
    """A dispatcher with everything behind it, and the answers it gave."""

    def __init__(self, engine: Engine, **more) -> None:
        self.records = MemoryRecords()
        names = itertools.count()
        self.answers: list[bytes | Exception] = []
        self.clock = VirtualClock(1_000)
        self.dispatcher = Dispatcher(engine, self.records, clock=self.clock, new_id=lambda: f"new{next(names)}", **more)
        self.cells = LocalCells()
        self.dispatcher.settling.watcher = Meter(self.cells)

    def ask(self, body: object, *, model: str = "m") -> None:
        self.dispatcher.submit(model, msgspec.json.encode(body), self.answers.append)

    def infer(self, body: object, *, version: str = "", **more) -> None:
        live = self.dispatcher.engine.live
        manifest = (live.pinned("m", version) if version else live.answering("m")).manifest
        asked = decode_infer(msgspec.json.encode(body), inputs=manifest.inputs, outputs=manifest.outputs)
        self.dispatcher.submit_tensors(
            "m", asked, lambda answer: encode_infer(answer).body, self.answers.append, steer=Steer(version, **more)
        )

    def run(self) -> list:
        while self.dispatcher.step():
            pass
        return [answer if isinstance(answer, Exception) else msgspec.json.decode(answer) for answer in self.answers]
