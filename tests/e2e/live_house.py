"""A project with a trained version, and the real processes of ``trimtab up`` on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trimtab.adapters.compute.supervisor import read_post
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.client import JsonClient
from trimtab.adapters.wire.status import read_status
from trimtab.app.rehearsal import rehearse, start_platform
from trimtab.core.clock import iso
from trimtab.errors import Unavailable
from trimtab.serving.record import PREDICTIONS, PredictionRecord, decode_record

ROOT = Path(__file__).parents[2]
CLICKS = ROOT / "tests" / "projects" / "clicks"
MODEL = "buys"
VISIT = {"shop": "north", "basket": 12.5}


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


def cli(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "trimtab.cli.main", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment(**more), timeout=120)


def make_project(root: Path, *, until: int, days: int = 8) -> Path:
    """A copy of the small project with data up to a time."""
    shutil.copytree(CLICKS, root, ignore=shutil.ignore_patterns("__pycache__", "data", ".trimtab"))
    sys.path.insert(0, str(CLICKS))
    try:
        from generate import generate
    finally:
        sys.path.remove(str(CLICKS))
        sys.modules.pop("generate", None)
    generate(root, until=until, days=days)
    return root


def wait_until(holds: Callable[[], Any], *, within: float = 30.0, what: str = "it") -> Any:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen in {within:g} s")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class LiveHouse:
    """``trimtab up`` on one project, started and killed as often as a test likes."""

    def __init__(self, project: Path) -> None:
        self.project, self.home = project, project / ".trimtab"
        self.controls: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> str:
        return (self.project / "up.log").read_text()

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.home / "run" / "control.json").read_bytes())

    def launch(self, *options: str, **more: str) -> subprocess.Popen[bytes]:
        """Start the control process and do not wait for it."""
        command = [sys.executable, "-m", "trimtab.cli.main", "up", "--project", str(self.project)]
        command += ["--port", "0", "--console-port", "0", *options]
        with (self.project / "up.log").open("ab") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment(**more)
            )
        self.controls.append(process)
        return process

    def start(self, *options: str, **more: str) -> subprocess.Popen[bytes]:
        """Start the control process; it answers, and so do its workers, when this returns."""
        process = self.launch(*options, **more)

        def ready() -> bool:
            assert process.poll() is None, self.log
            workers = list((self.home / "run").glob("worker-*.pid"))
            everyone = len(list(self.statuses())) == sum(read_post(one.parent, one.stem).held for one in workers)
            return f'"pid": {process.pid}' in self._written() and self.answers() and everyone

        wait_until(ready, what=f"the start\n{self.log}")
        return process

    def _written(self) -> str:
        path = self.home / "run" / "control.json"
        return path.read_text() if path.exists() else ""

    def serves(self) -> bool:
        """Whether a living worker is ready."""
        try:
            with JsonClient(self.data, timeout_s=5) as data:
                return bool(data.get("/v2/health/ready")["ready"])
        except (Unavailable, StopIteration):
            return False

    def answers(self) -> bool:
        try:
            with JsonClient(self.facts["console"], timeout_s=5) as console:
                console.get("/health")
        except (Unavailable, FileNotFoundError):
            return False
        return self.serves()

    @property
    def data(self) -> str:
        """Where a living worker answers."""
        return next(f"http://127.0.0.1:{status.port}" for status in self.statuses())

    def statuses(self) -> Iterator[Any]:
        for path in sorted((self.home / "run").glob("worker-*.json")):
            post, status = read_post(self.home / "run", path.stem), read_status(path)
            if post.held and status is not None and post.process is not None and status.pid == post.process.pid:
                yield status

    def pids(self) -> list[int]:
        """Of the workers that live and have said so."""
        return [status.pid for status in self.statuses()]

    def loaded(self, count: int) -> list[int]:
        """Wait until so many workers are ready to answer, each with a version loaded; their processes.

        They share a port, so that the readiness of one says nothing of the one that gets the next connection.
        """

        def ready() -> list[int]:
            found = [status.pid for status in self.statuses() if status.versions]
            return found if len(found) == count and self.serves() else []

        return wait_until(ready, what=f"{count} workers with a version\n{self.log}")

    def console(self) -> JsonClient:
        return JsonClient(self.facts["console"], token=(self.home / "run" / "control.token").read_text(), timeout_s=60)

    def post_sale(self, client: JsonClient, visit: str, *, at: int, bought: bool = True) -> dict[str, Any]:
        row = {"visit": visit, "at": iso(at), "shop": "north", "bought": bought, "amount": 5.0}
        return client.post("/v1/events/sales", {"rows": [row]})

    def predict(self, client: JsonClient, visit: str) -> dict[str, Any]:
        return client.post(f"/predict/{MODEL}", {"id": visit, **VISIT})

    def records(self) -> list[PredictionRecord]:
        return [decode_record(row) for _, row in SpoolRecords(self.home / "records", "reader").scan(PREDICTIONS)]

    def events(self) -> list[Any]:
        from trimtab.app.home import Home

        return list(Home(self.home).ledger().read())

    def stop(self) -> None:
        for process in self.controls:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.controls:
            process.wait(40)

    def kill(self) -> None:
        """End everything, adopted workers too."""
        for process in self.controls:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        for path in (self.home / "run").glob("worker-*.pid"):
            post = read_post(self.home / "run", path.stem)
            if post.held and post.process is not None:
                os.kill(post.process.pid, signal.SIGKILL)
                wait_until(lambda post=post: not post.held, what="the worker's end")


def rehearsed(root, staging, *, home, now, token):
    """What came of the real processes going on from a replay's checkpoint, up to its end; the token is in the setting."""
    platform = start_platform(root, home, now=now, log=root / "live.log", token=token)
    try:
        return rehearse(
            platform,
            model=staging.spec.name,
            sources=dict(staging.project.sources),
            timeline=staging.replay.timeline,
            served=staging.replay.served,
            start=now,
            until=staging.options.until,
            progress=lambda when, done: None,
        )
    finally:
        platform.stop()
