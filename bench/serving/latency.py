"""Latency on a quiet core: one connection, the 100-tree model, answers one after the other.

    python bench/serving/latency.py [--servers trimtab,fastapi] [--requests 20000]

The aims are a median of 0.5 ms and 3 ms for 99 %; `--pause 0.005` leaves time between the requests, as a caller does
who is alone, and shows what waking up costs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rig.load import ServerLost, drive, hold
from rig.measure import server, settle, workload
from rig.models import made
from rig.options import common, finished, listed
from rig.processes import LOAD_CORE, NotStarted, stay_on
from rig.report import machine

AIM_P50_MS, AIM_P99_MS = 0.5, 3.0
SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)


def main() -> int:
    """Measure and print; 1 when Trimtab misses an aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["TAB"])
    parser.add_argument("--pause", type=float, default=0.0, help="seconds from request to request; 0 for none")
    given = finished(common(parser, servers=["trimtab", "fastapi"], seconds=5.0, connections=["1"]).parse_args())
    for name in given.models:
        made(name)
    stay_on(LOAD_CORE)
    missed, rows = False, []
    print(machine() | {"seconds": given.seconds, "pause": given.pause})
    print(
        f"{'server, model':28} {'p50 ms':>8} {'p90':>8} {'p99':>8} {'p99.9':>8} {'most':>8} {'requests':>9} {'bad':>4}"
    )
    for repeat in range(given.repeats):
        for model_name in given.models:
            for spec in given.servers:
                try:
                    load = once(spec, model_name, given)
                except (NotStarted, ServerLost, OSError) as error:
                    print(f"NOT MEASURED {spec} {model_name}: {error}")
                    continue
                shares = {f"p{share * 100:g}": load.quantile_ms(share) for share in SHARES}
                rows.append({"server": spec, "model": model_name, **shares, "bad": load.errors + load.wrong})
                figures = " ".join(f"{load.quantile_ms(share):8.3f}" for share in SHARES)
                print(
                    f"{spec + ' ' + model_name:28} {figures} {load.requests:9} {load.errors + load.wrong:4}  #{repeat}"
                )
                if spec == "trimtab" and model_name == "TAB":
                    over = load.quantile_ms(0.5) > AIM_P50_MS or load.quantile_ms(0.99) > AIM_P99_MS
                    missed |= over or bool(load.first_error)
    print(f"aims of {AIM_P50_MS:g} ms and {AIM_P99_MS:g} ms: {'MISSED' if missed else 'met in every repeat'}")
    if given.json:
        Path(given.json).write_text(json.dumps({"machine": machine(), "rows": rows}) + "\n")
    return int(missed)


def once(spec: str, model_name: str, given: argparse.Namespace):
    """One server, warmed up."""
    model = made(model_name)
    under_test = server(spec)
    requests, check = workload(model, "rows" if spec.startswith("bentoml") else "infer")
    try:
        started, port = under_test.start(model)
        address = ("127.0.0.1", port)
        try:
            settle(address, requests, check)
            drive(address, requests, check, connections=1, seconds=0.5)
            if given.pause:
                return hold(address, requests, check, connections=1, rate=1 / given.pause, seconds=given.seconds)
            return drive(
                address, requests, check, connections=1, seconds=0.0 if given.requests else given.seconds,
                count=given.requests,
            )  # fmt: skip
        finally:
            started.stop()
    finally:
        under_test.close()


if __name__ == "__main__":
    sys.exit(main())
