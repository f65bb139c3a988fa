"""Medians of repeats, and the tables that are printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rig.measure import Measured

Key = tuple[str, str, int]


def medians(runs: Iterable[Measured]) -> dict[Key, dict[str, float]]:
    """By (work, server, connections): the median of every figure, and the sums of what went wrong."""
    groups: dict[Key, list[Measured]] = defaultdict(list)
    for run in runs:
        groups[run.work, run.server, run.connections].append(run)
    figures = ("cpu_us", "rps", "p50_ms", "p99_ms", "busy", "load_busy", "memory_mib")
    return {
        key: {name: statistics.median(getattr(run, name) for run in group) for name in figures}
        | {
            "errors": sum(run.errors for run in group),
            "wrong": sum(run.wrong for run in group),
            "least_cpu_us": min(run.cpu_us for run in group),
            "most_cpu_us": max(run.cpu_us for run in group),
            "repeats": len(group),
        }
        for key, group in groups.items()
    }


def print_table(found: Mapping[Key, Mapping[str, float]], *, base: str) -> None:
    """One line per work, connections and server; ratios are how many times the CPU of ``base`` a server takes."""
    print(
        f"{'work':12} {'conn':>4} {'server':24} {'CPU µs':>8} {'range':>15} {'x ' + base[:9]:>11} "
        f"{'rps':>8} {'p50 ms':>8} {'p99 ms':>8} {'core':>5} {'load':>5} {'MiB':>5} {'bad':>4}"
    )
    for work in dict.fromkeys(key[0] for key in found):
        for connections in sorted({key[2] for key in found if key[0] == work}):
            ours = found.get((work, base, connections))
            for (name, server, number), row in found.items():
                if name == work and number == connections:
                    ratio = f"{row['cpu_us'] / ours['cpu_us']:.2f}" if ours else "-"
                    span = f"{row['least_cpu_us']:.1f}-{row['most_cpu_us']:.1f}"
                    print(
                        f"{work:12} {number:4} {server:24} {row['cpu_us']:8.1f} {span:>15} {ratio:>11} "
                        f"{row['rps']:8.0f} {row['p50_ms']:8.3f} {row['p99_ms']:8.3f} {row['busy']:5.2f} "
                        f"{row['load_busy']:5.2f} {row['memory_mib']:5.0f} {row['errors'] + row['wrong']:4.0f}"
                    )


def print_problems(problems: Mapping[str, str], runs: Iterable[Measured]) -> None:
    """What did not run, and the first wrong answer of each server."""
    for name, why in problems.items():
        print(f"NOT MEASURED {name}: {why}")
    for name, note in {run.server: run.note for run in runs if run.note}.items():
        print(f"BAD ANSWERS  {name}: {note}")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}


def write_json(path: str, runs: Sequence[Measured], problems: Mapping[str, str], **more: Any) -> None:
    """Every run, for later comparison."""
    if path:
        content = {"machine": machine(), "runs": [run.to_json() for run in runs], "problems": dict(problems), **more}
        Path(path).write_text(json.dumps(content, indent=1) + "\n")
