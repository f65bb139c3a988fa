"""Cold start and memory: CPU seconds from the start of a process to its first right answer, and its memory under load.

    python bench/serving/cold.py [--servers trimtab,fastapi] [--models TAB,MLP] [--repeats 5]

The aims for a worker with the 100-tree model: ready within 1 CPU second, at most 110 MB resident. Memory is read after
some thousand requests at 64 connections; with MLP the weights alone are 6.3 MB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from rig.load import ServerLost, drive
from rig.measure import server, settle, workload
from rig.models import made
from rig.options import common, finished, listed
from rig.processes import LOAD_CORE, NotStarted, cpu_seconds, memory_mib, stay_on
from rig.report import machine

AIM_CPU_S, AIM_MB = 1.0, 110.0
_MB = 2**20 / 1e6


def once(spec: str, model_name: str, requests_after: int) -> dict[str, float]:
    """One start."""
    model = made(model_name)
    under_test = server(spec)
    requests, check = workload(model, "rows" if spec.startswith("bentoml") else "infer")
    try:
        began = time.perf_counter()
        started, port = under_test.start(model)
        try:
            settle(("127.0.0.1", port), requests, check)
            wall, cpu, fresh = time.perf_counter() - began, cpu_seconds(started.pid), memory_mib(started.pid)
            drive(("127.0.0.1", port), requests, check, connections=64, count=requests_after)
            return {"cpu_s": cpu, "wall_s": wall, "fresh_mb": fresh * _MB, "loaded_mb": memory_mib(started.pid) * _MB}
        finally:
            started.stop()
    finally:
        under_test.close()


def main() -> int:
    """Measure and print; 1 when Trimtab misses an aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["TAB", "MLP"])
    given = finished(common(parser, servers=["trimtab", "fastapi"], seconds=0.0, repeats=5).parse_args())
    for name in given.models:
        made(name)
    stay_on(LOAD_CORE)
    found: dict[str, list[dict[str, float]]] = {}
    problems: dict[str, str] = {}
    for _ in range(given.repeats):
        for model_name in given.models:
            for spec in given.servers:
                try:
                    run = once(spec, model_name, given.requests or 5000)
                    found.setdefault(f"{spec} {model_name}", []).append(run)
                except (NotStarted, ServerLost, OSError) as error:
                    problems[f"{spec} {model_name}"] = str(error)
    missed = False
    print(machine() | {"repeats": given.repeats})
    print(f"{'server, model':28} {'CPU s':>7} {'wall s':>7} {'MB fresh':>9} {'MB loaded':>10}")
    for name, runs in found.items():
        row = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
        print(f"{name:28} {row['cpu_s']:7.2f} {row['wall_s']:7.2f} {row['fresh_mb']:9.0f} {row['loaded_mb']:10.0f}")
        if name.startswith("trimtab") and name.endswith("TAB"):
            missed |= row["cpu_s"] > AIM_CPU_S or row["loaded_mb"] > AIM_MB
    for name, why in problems.items():
        print(f"NOT MEASURED {name}: {why}")
    print(f"aims of {AIM_CPU_S:g} CPU-s and {AIM_MB:g} MB: {'MISSED' if missed else 'met'}")
    if given.json:
        Path(given.json).write_text(json.dumps({"machine": machine(), "runs": found, "problems": problems}) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
