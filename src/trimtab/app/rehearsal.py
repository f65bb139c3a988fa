"""A rehearsal: the real processes over real HTTP, under a clock that this driver moves.

It takes up where a replay's checkpoint stands, pushes the events and requests that follow in the order in which they
became known, and compares every answer with the replay's. Features are computed anew by the running platform; nothing
is read from the replay's records.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trimtab.adapters.wire.client import JsonClient
from trimtab.core.clock import HOUR, Micros, iso
from trimtab.core.ids import Json
from trimtab.core.ports import Columns
from trimtab.errors import Unavailable
from trimtab.features.sources import Source
from trimtab.loop.reading import Timeline
from trimtab.loop.served import Served

READY_S = 60.0
TRAINING_S = 600.0
"""Moving the clock past the hour at which a training is due waits for its result."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of a rehearsal."""

    requests: int
    events: int
    largest_difference: float
    other_version: int
    """Answers that came from another version than in the replay."""
    seconds: float
    console: str
    predict: str
    example: dict[str, Json]
    """The last request, as it was sent."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform: its process, where it listens and the token of its API."""

    process: subprocess.Popen[bytes]
    console: str
    predict: str
    token: str

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)


def start_platform(project: Path, home: Path, *, now: Micros, log: Path, token: str) -> Platform:
    """Start ``trimtab up`` on a home, with two free ports and a clock that stands at ``now``.

    Raises
    ------
    Unavailable
        When it is not ready within a minute; the message names its log.
    """
    port, console_port = _free_port(), _free_port()
    command = [sys.executable, "-m", "trimtab.cli.main", "up", "--project", str(project), "--home", str(home)]
    command += ["--port", str(port), "--console-port", str(console_port), "--clock", iso(now)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command
    platform = Platform(process, f"http://127.0.0.1:{console_port}", f"http://127.0.0.1:{port}", token)
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable("the platform stopped while starting", got=log.read_text()[-800:], hint=f"see {log.name}")
        try:
            with (
                JsonClient(platform.console, timeout_s=2) as console,
                JsonClient(platform.predict, timeout_s=2) as data,
            ):
                console.get("/health")
                data.get("/v2/health/ready")
        except Unavailable:
            time.sleep(0.1)
        else:
            return platform
    platform.stop()
    raise Unavailable("the platform was not ready in time", got=f"{READY_S:g} s", hint=f"see {log.name}")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is sent at one moment: rows by source that became known by then, then the requests asked at ``at``."""

    at: Micros
    rows: dict[str, tuple[int, int]]
    requests: tuple[int, int]


def deliveries(timeline: Timeline, start: Micros, until: Micros) -> Iterator[Delivery]:
    """Cut a timeline into steps: one per distinct time of asking and one per full hour, with the events known by then.

    The loop decides at full hours, on everything that became known until then: so that has to be sent before.
    """
    requests = timeline.requests
    first, last = np.searchsorted(requests.at, [start, until], side="right")
    sent = {
        name: int(np.searchsorted(history.known, start, side="right")) for name, history in timeline.histories.items()
    }
    asked = np.unique(requests.at[first:last])
    position = int(first)
    for at in np.union1d(asked, np.arange(-(-start // HOUR) * HOUR, until + 1, HOUR)).tolist():
        stop = min(int(np.searchsorted(requests.at, at, side="right")), int(last))
        rows = {}
        for name, history in timeline.histories.items():
            known = int(np.searchsorted(history.known, at, side="right"))
            if known > sent[name]:
                rows[name] = (sent[name], known)
                sent[name] = known
        yield Delivery(at, rows, (position, stop))
        position = stop


def rehearse(
    platform: Platform,
    *,
    model: str,
    sources: dict[str, Source],
    timeline: Timeline,
    served: Served,
    start: Micros,
    until: Micros,
    progress: Callable[[Micros, int], None],
) -> Rehearsed:
    """Push everything that became known in ``(start, until]`` through a running platform and compare its answers."""
    began = time.monotonic()
    asked = events = other = 0
    largest = 0.0
    example: dict[str, Json] = {}
    with (
        JsonClient(platform.console, token=platform.token, timeout_s=TRAINING_S) as console,
        JsonClient(platform.predict) as data,
    ):
        for step in deliveries(timeline, start, until):
            console.post("/v1/clock", {"now": iso(step.at)})
            for name, (first, stop) in step.rows.items():
                rows = _rows(sources[name], timeline.histories[name].columns, first, stop)
                console.post(f"/v1/events/{name}", {"rows": rows})
                events += stop - first
            first, stop = step.requests
            if first == stop:
                continue
            instances = _requests(timeline, first, stop)
            answers = data.post(f"/predict/{model}", {"instances": instances})["predictions"]
            for position, answer in zip(range(first, stop), answers, strict=True):
                largest = max(largest, abs(float(answer["prediction"]) - float(served.champion[position])))
                other += answer["version"] != served.versions[served.version[position]]
            asked += stop - first
            example = instances[-1]
            progress(step.at, asked)
        console.post("/v1/clock", {"now": iso(until + 1)})  # the last full hour is over once the clock has left it
    seconds = time.monotonic() - began
    return Rehearsed(asked, events, largest, other, seconds, platform.console, platform.predict, example)


def _rows(source: Source, columns: Columns, first: int, stop: int) -> list[dict[str, Json]]:
    """Rows as a caller would post them: numbers, strings, times as ISO 8601, a missing value as null."""
    kinds = {name: column.kind for name, column in source.every_column().items()}
    lists = {name: columns[name][first:stop].tolist() for name in kinds}
    return [{name: _plain(lists[name][row], kind) for name, kind in kinds.items()} for row in range(stop - first)]


def _requests(timeline: Timeline, first: int, stop: int) -> list[dict[str, Json]]:
    requests = timeline.requests
    named = {**requests.keys, **requests.inputs}
    lists = {name: values[first:stop].tolist() for name, values in named.items()}
    return [
        {"id": requests.ids[first + row], **{name: values[row] for name, values in lists.items()}}
        for row in range(stop - first)
    ]


def _plain(value: Json, kind: str) -> Json:
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN is the one value that is not itself
        return None
    return iso(value) if kind == "time" else value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
