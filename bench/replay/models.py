"""What several models of one project cost: replayed in turn, and live in one control process and one worker.

    .venv/bin/python bench/replay/models.py [--repeats 3]

A project of 1, 2 or 4 models over the same sources and requests. Their features are either the same, so that they share
online rows, or each model has windows and columns of its own. Replay: one week, each model in turn. Live: the real
processes under a clock that this script moves, for two days of flights a repeat; every request is asked of one model,
each model in its turn. CPU seconds of the processes themselves, read from the kernel (Linux only). Cases are run in
turn, several times; medians are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from trimtab.adapters.project.file import load_project
from trimtab.adapters.wire.client import JsonClient
from trimtab.adapters.wire.status import read_status
from trimtab.app.data import read_known
from trimtab.app.rehearsal import _requests, _rows, start_platform
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.clock import DAY, HOUR, instant, iso

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
START = "2013-03-04"
WINDOWS = ('"3h", "24h", "7d"', '"2h", "20h", "6d"', '"4h", "22h", "5d"', '"5h", "18h", "4d"')
SKY = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
CASES = {
    "1 model": (1, False),
    "2 models, shared": (2, False),
    "4 models, shared": (4, False),
    "2 models, own": (2, True),
    "4 models, own": (4, True),
}
BATCH = 5
"""Rows a posting, about as many as become known at once in a replay."""


def project(root: Path, models: int, own: bool) -> Path:
    """A copy of the example with several models, with the same features or each with its own."""
    copy = root / f"flights-{models}{'-own' if own else ''}"
    if copy.exists():
        return copy
    shutil.copytree(FLIGHTS, copy, ignore=shutil.ignore_patterns(".trimtab", "data", "__pycache__", "report.html"))
    (copy / "data").symlink_to(FLIGHTS / "data")
    text = (copy / "project.py").read_text()
    first = text.index("form = tt.windows(")
    head, block = text[:first], text[first:]
    blocks = []
    for number in range(models):
        one = re.sub(r"^(form|sky|late) = ", rf"\g<1>_{number} = ", block, flags=re.MULTILINE)
        one = one.replace("[form, sky,", f"[form_{number}, sky_{number},")
        one = one.replace('"late_arrival"', f'"late_{number}"')
        if own:
            turned = ", ".join(f'"{name}"' for name in SKY[number:] + SKY[:number])
            one = one.replace(WINDOWS[0], WINDOWS[number])
            one = re.sub(r'\["temp".*?\]', f"[{turned}]", one)
        blocks.append(one)
    (copy / "project.py").write_text(head + "\n".join(blocks))
    made = load_project(copy)
    parts = {part for name in made.models for part in made.plan(name).parts}
    assert len(parts) == (5 * models if own else 5) + 1, parts
    return copy


def cpu(pid: int) -> float:
    """CPU seconds of all living threads of a process."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that has just ended
            continue
    return total / 1e9


def memory(pid: int) -> float:
    """MiB that a process holds for itself: without pages of files, which the system keeps for all."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def replayed(root: Path, models: int) -> list[tuple[float, float, float]]:
    """Each model in turn: seconds, those of them that training took, and CPU seconds of all but the training."""
    path, found = project(root, models, own=False), []
    for number in range(models):
        out = root / "replay"
        began, before = time.perf_counter(), time.process_time()
        request = ReplayRequest(path, model=f"late_{number}", start=START, until="2013-03-11", out=out)
        timings = run_replay(request).result["timings"]
        spent = time.process_time() - before
        waited = timings.get("wait for training", 0.0)
        found.append((time.perf_counter() - began, waited, spent))
        shutil.rmtree(out)
    return found


class Running:
    """One platform: its processes, its history, and how far it has been delivered."""

    def __init__(self, root: Path, models: int, own: bool, token: str) -> None:
        self.project, self.models = load_project(project(root, models, own)), models
        name = next(iter(self.project.models))
        self.known = read_known(self.project, self.project.model(name))
        home = root / f"home-{models}{own}"
        self.now = instant(START)
        log = root / f"up-{models}{own}.log"
        self.platform = start_platform(Path(self.project.root), home, now=self.now, log=log, token=token)
        self.token = token
        self.status = home / "run" / "worker-1.json"
        self.worker = read_status(self.status).pid
        self.asked = 0

    def clients(self) -> tuple[JsonClient, JsonClient]:
        """Of the console and of the data plane; opened anew each time, because the server ends idle connections."""
        console = JsonClient(self.platform.console, token=self.token, timeout_s=600)
        return console, JsonClient(self.platform.predict)

    def ready(self) -> None:
        """Wait until every model answers."""
        deadline = time.monotonic() + 600
        console, data = self.clients()
        with console, data:
            while not all(model["live"] for model in console.get("/v1/status")["models"]):
                assert time.monotonic() < deadline
                time.sleep(0.5)
            while len(read_status(self.status).versions) < self.models:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def two_days(self) -> dict[str, float]:
        """Deliver two days and ask their requests one by one; what each part cost."""
        console, data = self.clients()
        with console, data:
            return self._two_days(console, data)

    def _two_days(self, console: JsonClient, data: JsonClient) -> dict[str, float]:
        control, worker = self.platform.process.pid, self.worker
        took = {"ticks": 0.0, "events": 0.0, "answers": 0.0}
        counts = {"ticks": 0, "events": 0, "answers": 0}
        for hour in range(self.now + HOUR, self.now + 2 * DAY + 1, HOUR):
            before = cpu(control)
            console.post("/v1/clock", {"now": iso(hour)})
            told = cpu(control)
            for name, history in self.known.histories.items():
                first, stop = history.known.searchsorted([hour - HOUR, hour], side="right").tolist()
                for start in range(first, stop, BATCH):
                    rows = _rows(self.project.sources[name], history.columns, start, min(start + BATCH, stop))
                    console.post(f"/v1/events/{name}", {"rows": rows})
                counts["events"] += stop - first
            sent = cpu(control)
            first, stop = self.known.requests.at.searchsorted([hour - HOUR, hour], side="right").tolist()
            instances = _requests(_Timeline(self.known.requests), first, stop)
            asking = cpu(worker)
            for instance in instances:
                data.post(f"/predict/late_{self.asked % self.models}", instance)
                self.asked += 1
            took["ticks"] += told - before
            took["events"] += sent - told
            took["answers"] += cpu(worker) - asking
            counts["ticks"] += 1
            counts["answers"] += stop - first
        self.now += 2 * DAY
        held = {"control": memory(control), "worker": memory(worker)}
        return {name: took[name] * 1e3 / counts[name] for name in took} | held


class _Timeline:
    """As much of a replay's timeline as it takes to write requests."""

    def __init__(self, requests) -> None:
        self.requests = requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not (FLIGHTS / "data" / "departures.parquet").exists():
        sys.path.insert(0, str(FLIGHTS))
        import prepare

        prepare.main()
    os.environ["TRIMTAB_TOKEN"] = token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        turns: dict[int, list[list[tuple[float, ...]]]] = {1: [], 4: []}
        for repeat in range(options.repeats):
            for models, runs in turns.items():
                runs.append(replayed(root, models))
                print(f"… {repeat + 1}: {models} replayed in turn", file=sys.stderr, flush=True)
        print_replays(turns, options.repeats)
        with ExitStack() as ends:
            running = {}
            for name, (models, own) in CASES.items():
                running[name] = Running(root, models, own, token)
                ends.callback(running[name].platform.stop)
                running[name].ready()  # one after the other: two trainings at once would take turns
                print(f"… {name} is up", file=sys.stderr, flush=True)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
            for repeat in range(options.repeats):
                for name, one in running.items():
                    found[name].append(one.two_days())
                    print(f"… {repeat + 1}: {name}", file=sys.stderr, flush=True)
        print_live(found)


def print_replays(turns: dict[int, list[list[tuple[float, ...]]]], repeats: int) -> None:
    """One line per project: what all of its replays took together."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {repeats} repeats, medians"
    )
    print(f"\n{'replayed in turn, one week':28}{'seconds':>10}{'of it training':>16}{'CPU-s without it':>18}")
    for name, models, count in (("1 of 1 model", 1, 1), ("1 of 4 models", 4, 1), ("2 of 4", 4, 2), ("4 of 4", 4, 4)):
        sums = [[sum(one[field] for one in run[:count]) for run in turns[models]] for field in range(3)]
        wall, training, own = (statistics.median(values) for values in sums)
        print(f"{name:28}{wall:>10.1f}{training:>16.1f}{own:>18.1f}")


def print_live(found: dict[str, list[dict[str, float]]]) -> None:
    """One line per platform."""
    heads = {"events": "ms an event", "ticks": "ms an hour's tick", "answers": "ms an answer"}
    print(f"\n{'live, two days a repeat, CPU':30}" + "".join(f"{head:>19}" for head in heads.values()), end="")
    print(f"{'control MiB':>14}{'worker MiB':>13}")
    for name, runs in found.items():
        cells = [statistics.median(run[field] for run in runs) for field in (*heads, "control", "worker")]
        print(f"{name:30}{cells[0]:>19.2f}{cells[1]:>19.1f}{cells[2]:>19.2f}{cells[3]:>14.0f}{cells[4]:>13.0f}")


if __name__ == "__main__":
    main()
