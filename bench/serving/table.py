"""CPU per request of one-row JSON: Trimtab beside other servers, interleaved.

    python bench/serving/table.py [--servers trimtab,fastapi,…] [--models TAB,MLP] [--connections 1,16,64]
    python bench/serving/table.py --short          # seconds, for development

The server stands on core 0, the load generator on core 1. In each repeat every server is started afresh, one after the
other. The figure is user and system time of the server's process tree per request; every answer is verified. Trimtab
runs with records, metrics and routing, as it always does; `trimtab:bare` is the same without records and counting.
`trimtab:uvicorn` is the same behind the maintained server. `fastapi` runs the session in the event loop, `fastapi-def` in
FastAPI's thread pool (a plain `def`, as most teams write it), `fastapi-orjson` has no pydantic; `mlserver-batch` and
`bentoml-batch` are those with their adaptive batching. `--forms predict` asks Trimtab's friendly path, which peers do
not have.
"""

from __future__ import annotations

import argparse
import sys

from rig.load import ServerLost
from rig.measure import Measured, measured, server, settle, workload
from rig.models import made
from rig.options import common, finished, listed
from rig.processes import LOAD_CORE, NotStarted, stay_on
from rig.report import machine, medians, print_problems, print_table, write_json

DEFAULT = ["trimtab", "trimtab:uvicorn", "trimtab:bare", "fastapi", "fastapi-def", "mlserver", "bentoml", "triton"]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["TAB", "MLP"])
    parser.add_argument("--forms", type=listed, default=["infer"], help="infer, predict")
    return finished(common(parser, servers=DEFAULT, seconds=2.0).parse_args())


def run_server(spec: str, model_name: str, given: argparse.Namespace, problems: dict[str, str]) -> list[Measured]:
    """Start a server on a model and load it with every number of connections."""
    model = made(model_name)
    ours = spec.startswith("trimtab")
    under_test = server(spec)
    found = []
    try:
        started, port = under_test.start(model)
        try:
            for form in given.forms:
                if form == "predict" and not ours:
                    continue
                requests, check = workload(model, "rows" if spec.startswith("bentoml") else form)
                settle(("127.0.0.1", port), requests, check)
                work = model.name if form == "infer" else f"{model.name} {form}"
                for connections in map(int, given.connections):
                    seconds = 0.0 if given.requests else given.seconds
                    run = measured(
                        started, port, requests, check, labels=(spec, work), connections=connections,
                        seconds=seconds, count=given.requests,
                    )  # fmt: skip
                    found.append(run)
                    print(f"  {work} {spec} {connections}: {run.cpu_us:.1f} µs, {run.rps:.0f}/s", file=sys.stderr)
        finally:
            started.stop()
        if ours and (problem := under_test.unrecorded()):
            problems[f"{spec} on {model_name}, records"] = problem
    finally:
        under_test.close()
    return found


def main() -> int:
    """Measure and print; 1 when any answer was wrong."""
    given = options()
    for name in given.models:
        made(name)
    stay_on(LOAD_CORE)
    runs: list[Measured] = []
    problems: dict[str, str] = {}
    for _ in range(given.repeats):
        for model_name in given.models:
            for spec in given.servers:
                if f"{spec} on {model_name}" in problems:
                    continue
                try:
                    runs += run_server(spec, model_name, given, problems)
                except (NotStarted, ServerLost, OSError) as error:
                    problems[f"{spec} on {model_name}"] = f"{type(error).__name__}: {error}"
    print({**machine(), "seconds": given.seconds, "repeats": given.repeats})
    base = next((spec for spec in given.servers if spec.startswith("trimtab")), given.servers[0])
    print_table(medians(runs), base=base)
    print_problems(problems, runs)
    write_json(given.json, runs, problems)
    return int(any(run.errors or run.wrong for run in runs))


if __name__ == "__main__":
    sys.exit(main())
