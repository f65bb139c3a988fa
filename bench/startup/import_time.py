"""What starting costs: ``import trimtab`` beyond Python's own start, and a serving worker's modules with their memory.

    .venv/bin/python bench/startup/import_time.py [--repeats 15]

Each measurement is a process of its own; the cases take turns, so that a busy moment hits all of them. Medians are
printed. The bar for ``import trimtab`` is 0.15 s beyond bare Python. The worker's line covers what it imports before it
opens anything: the time until it answers depends on the model.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

RSS = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
CASES = {"bare Python": "", "import trimtab": "import trimtab; ", "worker modules": "import trimtab.app.worker; "}
BAR_S = 0.15


def started(code: str) -> tuple[float, float]:
    """Seconds from the start of a process to its end, and its peak memory in MB."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + RSS], capture_output=True, text=True, check=True)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return time.perf_counter() - began, int(done.stdout) / unit


def main() -> int:
    """Measure and print; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(repeats + 1):
        for name, code in CASES.items():
            found[name].append(started(code))
    seconds = {
        name: statistics.median(one for one, _ in runs[1:]) for name, runs in found.items()
    }  # the first warms up
    bare = seconds["bare Python"]
    for name, runs in found.items():
        memory = statistics.median(one for _, one in runs[1:])
        print(f"{name:16} {seconds[name]:.3f} s  {seconds[name] - bare:+.3f} s  {memory:5.0f} MB")
    return 0 if seconds["import trimtab"] - bare <= BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
