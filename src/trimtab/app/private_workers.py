"""Workers for measuring: on loopback, in a temporary home that borrows the bundles and rows of another."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab.adapters.files import write_atomic
from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import read_status, takes_connections
from trimtab.app import worker
from trimtab.app.home import Home, setting
from trimtab.app.interrupts import signals_held
from trimtab.app.setting_values import whole_number
from trimtab.errors import Unavailable
from trimtab.registry.bundle import Bundle
from trimtab.serving.profile import FILE, ServingProfile, encode_profile
from trimtab.serving.routing import Arm, Route, RouteTable

_READY_S = 30.0
_STOP_S = 5.0


@dataclass(frozen=True)
class PrivateWorkers:
    """Workers that answer, each on an address of its own."""

    root: Path
    addresses: tuple[tuple[str, int], ...]

    def batches(self) -> tuple[int, int]:
        """Rows answered and batches so far."""
        host, port = self.addresses[0]
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return _total(text, "trimtab_batch_rows_sum"), _total(text, "trimtab_batch_rows_count")


def _total(text: str, name: str) -> int:
    return round(sum(float(found) for found in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)))


@contextmanager
def private_workers(home: Home, bundle: Bundle, profile: ServingProfile, *, count: int) -> Iterator[PrivateWorkers]:
    """Serve a version from ``count`` workers; at the end nothing of them is left, whatever happened.

    They read bundles and online rows of ``home`` and write nothing there.

    Raises
    ------
    Unavailable
        When a worker does not start.
    """
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="trimtab-tune-") as folder:
        root = Path(folder)
        place = _borrowed(root, home)
        write_atomic(root / FILE, encode_profile(profile))
        write_routes(place.route_file, RouteTable(1, {bundle.manifest.model: _route(bundle)}))
        try:
            for number in range(1, count + 1):
                with signals_held():
                    started.append(_start(root, number))  # the one before must be ended when this one fails
            yield PrivateWorkers(root, tuple(_ready(root, number, one) for number, one in enumerate(started, 1)))
        finally:
            with signals_held():
                _end(started)


def _route(bundle: Bundle) -> Route:
    return Route(bundle.manifest.model, (Arm("champion", bundle.version, 1.0),))


def _borrowed(root: Path, home: Home) -> Home:
    place = Home(root)
    for part in ("records", "jobs", "run"):
        (root / part).mkdir()
    (root / "blobs").symlink_to(home.root.resolve() / "blobs")
    online = home.root.resolve() / "online"
    if online.is_dir() and any(online.iterdir()):
        (root / "online").symlink_to(online)
    else:
        (root / "online").mkdir()
        place.online()  # a worker opens the store, though this model reads nothing from it
    return place


def _start(root: Path, number: int) -> subprocess.Popen[bytes]:
    options = worker.WorkerOptions(
        host="127.0.0.1",
        port=0,
        providers=setting("providers"),
        model_python=setting("model_python"),
        max_queue=whole_number("max_queue"),
        parent=os.getpid(),
    )
    line = [sys.executable, "-m", worker.MODULE, *worker.command(root, number, options)]
    with (root / "run" / f"worker-{number}.log").open("ab") as log:
        # In a session of its own: Ctrl-C reaches us alone, and we end it.
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - our own module


def _ready(root: Path, number: int, process: subprocess.Popen[bytes]) -> tuple[str, int]:
    deadline, problem = time.monotonic() + _READY_S, "it ended"
    while process.poll() is None and time.monotonic() < deadline:
        status = read_status(root / "run" / f"{worker.post_name(number)}.json")
        if status is not None and status.pid == process.pid:
            if status.versions and takes_connections(status):
                return status.host, status.port
            problem = status.problem
        time.sleep(0.005)
    log = (root / "run" / f"worker-{number}.log").read_text(errors="replace").strip().splitlines()
    raise Unavailable("a worker does not start", got=" / ".join([problem, *log[-1:]]))


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_S
        for process in started:
            if process.poll() is None:
                process.send_signal(number)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
