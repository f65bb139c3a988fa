"""Where a worker spends its time under load: the top functions, by cProfile or by sampling.

    python bench/serving/hotpath.py --model TAB --connections 64 --requests 20000
    python bench/serving/hotpath.py --how sample --connections 16     # py-spy, with native frames; distorts less

cProfile counts every call and inflates small functions; py-spy (`install_peers.py tools`) samples the running worker
from outside. Both begin after a warm-up, so that imports and loading are not in the picture.
"""

from __future__ import annotations

import argparse
import io
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rig.load import Load, drive
from rig.measure import settle, workload
from rig.models import checker, made
from rig.ours import Trimtab, home_with, python_path
from rig.peers import venvs
from rig.processes import LOAD_CORE, Started, cpu_seconds, free_port, stay_on
from rig.protocols import binary_reader, binary_requests, drive_grpc, grpc_requests, grpc_values


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=["cprofile", "sample"], default="cprofile")
    parser.add_argument("--model", default="TAB")
    parser.add_argument("--form", choices=["infer", "predict", "binary", "grpc", "grpc-typed"], default="infer")
    parser.add_argument("--server", default="", help="kind of HTTP server, as the worker's option names it")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--top", type=int, default=45)
    parser.add_argument("--sort", choices=["tottime", "cumtime"], default="tottime")
    parser.add_argument("--seconds", type=float, default=8.0, help="of sampling")
    return parser.parse_args()


def started(given: argparse.Namespace, folder: Path, ours: Trimtab, port: int) -> Started:
    home = home_with(made(given.model), folder / "home")
    grpc = {"grpc_port": given.grpc_port} if given.form.startswith("grpc") else {}
    command = ours.command(home.root, port, **grpc)
    if given.how == "cprofile":
        command[2] = "rig.profiled_worker"
    environment = {"PYTHONPATH": python_path(), "PROFILE": str(folder / "profile")}
    running = Started(command, log=folder / "log", environment=environment)
    running.wait_for_port(given.grpc_port if grpc else port)
    return running


def loading(given: argparse.Namespace, port: int) -> Callable[..., Load]:
    """Loads the worker, once it gives right answers; takes connections, and seconds or a count."""
    model, form = made(given.model), given.form
    if form.startswith("grpc"):
        requests, check = grpc_requests(model, raw=form == "grpc"), checker(model.answers, grpc_values)
        return lambda **more: drive_grpc(given.grpc_port, requests, check, **more)
    if form == "binary":
        requests, check = binary_requests(model), checker(model.answers, binary_reader(model))
    else:
        requests, check = workload(model, form)
    settle(("127.0.0.1", port), requests, check)
    return lambda **more: drive(("127.0.0.1", port), requests, check, **more)


def by_cprofile(given: argparse.Namespace, folder: Path) -> None:
    """Count every call."""
    ours, port = Trimtab(given.server), free_port()
    running = started(given, folder, ours, port)
    try:
        load_with = loading(given, port)
        load_with(connections=given.connections, seconds=0.3)
        plain = per_request(running, load_with, given)
        os.kill(running.pid, signal.SIGUSR1)
        time.sleep(0.1)
        profiled = per_request(running, load_with, given)
    finally:
        running.stop()
        ours.close()
    print(f"{plain:.1f} µs CPU a request without the profiler, {profiled:.1f} with it; {given.requests} requests")
    text = io.StringIO()
    stats = pstats.Stats(str(folder / "profile"), stream=text)
    stats.sort_stats(given.sort).print_stats(given.top)
    print(text.getvalue().replace(str(Path.cwd()) + "/", ""))


def per_request(running: Started, load_with: Callable[..., Load], given: argparse.Namespace) -> float:
    before = cpu_seconds(running.pid)
    load = load_with(connections=given.connections, count=given.requests)
    if load.first_error:
        print(f"BAD ANSWERS {load.errors + load.wrong}: {load.first_error}")
    return (cpu_seconds(running.pid) - before) / load.requests * 1e6


def by_sampling(given: argparse.Namespace, folder: Path) -> None:
    """Look at the stack a thousand times a second: share of samples by the function on top, and by line below it."""
    ours, port = Trimtab(given.server), free_port()
    running = started(given, folder, ours, port)
    try:
        load_with = loading(given, port)
        load_with(connections=given.connections, seconds=0.3)
        output = folder / "stacks"
        tool = str(venvs() / "tools" / "bin" / "py-spy")
        command = [tool, "record", "--pid", str(running.pid), "--rate", "1000", "--duration", str(int(given.seconds))]
        sampler = subprocess.Popen(
            [*command, "--native", "--format", "raw", "--output", str(output)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        while sampler.poll() is None:
            load_with(connections=given.connections, seconds=0.5)
    finally:
        running.stop()
        ours.close()
    if sampler.returncode or not output.exists():
        raise SystemExit(f"py-spy did not run: {sampler.stderr.read().decode()[-500:]}")
    print_samples(output.read_text().splitlines(), given.top)


def print_samples(lines: Sequence[str], top: int) -> None:
    """Shares of samples of the serving thread: by Python line with all it calls below, and by function."""
    own, native, within = Counter(), Counter(), Counter()
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any("_bootstrap" in frame for frame in frames):
            continue  # a thread that waits for work
        python = [frame for frame in frames if ".py:" in frame]
        total += int(count)
        own[python[-1] if python else "event loop and C"] += int(count)
        native[frames[-1]] += int(count)
        for frame in {one.rpartition(":")[0] + ")" for one in python}:
            within[frame] += int(count)
    titles = ("by Python line, with the C that it calls", "by what runs, C included", "by function, with all below it")
    for title, found in zip(titles, (own, native, within), strict=True):
        print(f"\n{title}, of {total} samples")
        for frame, count in found.most_common(top):
            print(f"{count / total:7.1%}  {frame}")


def main() -> int:
    """Profile and print."""
    given = options()
    given.grpc_port = free_port()
    made(given.model)
    stay_on(LOAD_CORE)
    with tempfile.TemporaryDirectory() as folder:
        (by_cprofile if given.how == "cprofile" else by_sampling)(given, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
