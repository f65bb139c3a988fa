"""`/predict` by entity keys: CPU per request when 56 window features of 4 entities are read for it.

    python bench/serving/predict_features.py [--servers trimtab,trimtab:uvicorn] [--connections 1,16,64] [--short]

For each of 4 entities 7 windows (1 h to 7 d) with a count and a mean, read from the online store that 20,000 events have filled; a
model of 100 trees; records, metrics and routing on. The worker's clock is driven and stands still, so that every answer
can be verified. The aim is 250 µs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rig.measure import Measured, measured, server, settle
from rig.models import checker, predict_values
from rig.options import common, finished
from rig.processes import LOAD_CORE, stay_on
from rig.report import medians, print_problems, print_table, write_json
from rig.windowed import Windowed, prepared, started

AIM_US = 250.0


def run_server(spec: str, found: Windowed, given: argparse.Namespace) -> list[Measured]:
    """One repeat with one worker."""
    ours = server(spec)
    running, port = started(ours, found)
    check = checker(found.answers, predict_values)
    try:
        settle(("127.0.0.1", port), found.requests, check)
        return [
            measured(
                running, port, found.requests, check, labels=(spec, f"{found.features} features"),
                connections=int(connections), seconds=0.0 if given.requests else given.seconds, count=given.requests,
            )
            for connections in given.connections
        ]  # fmt: skip
    finally:
        running.stop()
        ours.close()


def main() -> int:
    """Measure and print; 1 when any answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = finished(common(parser, servers=["trimtab"], seconds=3.0).parse_args())
    runs: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-windowed-") as folder:
        found = prepared(Path(folder))
        stay_on(LOAD_CORE)
        for _ in range(given.repeats):
            for spec in given.servers:
                runs += run_server(spec, found, given)
    table = medians(runs)
    print_table(table, base=given.servers[0])
    for (_, spec, connections), row in table.items():
        said = "within" if row["cpu_us"] <= AIM_US else "OVER"
        print(f"{spec} at {connections}: {row['cpu_us']:.0f} µs, {said} {AIM_US:g}")
    print_problems({}, runs)
    write_json(given.json, runs, {})
    return int(any(run.errors or run.wrong for run in runs))


if __name__ == "__main__":
    sys.exit(main())
