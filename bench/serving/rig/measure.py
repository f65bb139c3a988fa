"""One measurement: a server that runs, a load on it, and the CPU time that the server spent."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rig.load import Check, Load, ServerLost, drive
from rig.models import BenchModel, checker, headers, infer_values, predict_values, rows_values
from rig.ours import Trimtab
from rig.peers import NAMES, Peer, peer
from rig.processes import NotStarted, Started, cpu_seconds, memory_mib

WARM_S = 0.5


@dataclass(frozen=True)
class Measured:
    """What one run showed."""

    server: str
    work: str
    connections: int
    cpu_us: float
    """CPU microseconds of the server's process tree per request."""
    rps: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    wrong: int
    busy: float
    """Share of a core that the server used."""
    load_busy: float
    """Share of its core that the generator used; near 1 it was the bottleneck and the server had time to spare."""
    memory_mib: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def server(spec: str) -> Trimtab | Peer:
    """The server that a specification names: ``trimtab[:KIND][:bare]`` or a peer."""
    name, *rest = spec.split(":")
    if name == "trimtab":
        return Trimtab(next((part for part in rest if part != "bare"), ""), bare="bare" in rest)
    if name not in NAMES:
        raise SystemExit(f"no such server: {spec}; there are trimtab[:KIND][:bare], {', '.join(NAMES)}")
    return peer(name)


def workload(model: BenchModel, form: str) -> tuple[list[bytes], Check]:
    """Whole requests, and what verifies their answers; the form is ``infer``, ``predict`` or ``rows``."""
    if form == "rows":
        return [headers("/predict", body) for body in model.rows_bodies()], checker(model.answers, rows_values)
    if form == "predict":
        requests = [headers(f"/predict/{model.name}", body) for body in model.predict_bodies()]
        return requests, checker(model.answers, predict_values)
    requests = [headers(f"/v2/models/{model.name}/infer", body) for body in model.infer_bodies()]
    return requests, checker(model.answers, infer_values)


def settle(address: tuple[str, int], requests: Sequence[bytes], check: Check, *, timeout_s: float = 60.0) -> None:
    """Wait until a server gives right answers: some listen before their model is loaded.

    Raises
    ------
    NotStarted
        When it does not, with what it said.
    """
    end = time.monotonic() + timeout_s
    while True:
        try:
            found = drive(address, requests, check, connections=1, count=1)
            problem = found.first_error
            if not problem:
                return
            if found.wrong:
                raise NotStarted(f"wrong answers: {problem}")
        except (ServerLost, OSError) as error:
            problem = str(error)
        if time.monotonic() > end:
            raise NotStarted(f"no right answer: {problem}")
        time.sleep(0.1)


def measured(
    started: Started,
    port: int,
    requests: Sequence[bytes],
    check: Check,
    *,
    labels: tuple[str, str],
    connections: int,
    seconds: float = 0.0,
    count: int = 0,
    warm_s: float = WARM_S,
) -> Measured:
    """Warm up, then load a running server and read its CPU time before and after."""
    address = ("127.0.0.1", port)
    drive(address, requests, check, connections=connections, seconds=warm_s)
    before, own = cpu_seconds(started.pid), sum(os.times()[:2])
    load = drive(address, requests, check, connections=connections, seconds=seconds, count=count)
    spent, own = cpu_seconds(started.pid) - before, sum(os.times()[:2]) - own
    return judged(load, labels, connections, spent, own, memory_mib(started.pid))


def judged(load: Load, labels: tuple[str, str], connections: int, spent: float, own: float, memory: float) -> Measured:
    return Measured(
        server=labels[0],
        work=labels[1],
        connections=connections,
        cpu_us=spent / load.requests * 1e6,
        rps=load.rate,
        p50_ms=load.quantile_ms(0.5),
        p99_ms=load.quantile_ms(0.99),
        requests=load.requests,
        errors=load.errors,
        wrong=load.wrong,
        busy=spent / load.seconds,
        load_busy=own / load.seconds,
        memory_mib=memory,
        note=load.first_error,
    )
