"""What a replay costs, by stage, and how that grows with requests, with features and with a second version.

    .venv/bin/python bench/replay/growth.py [--repeats 3]

Every case is a replay of flights from 4 March on. Cases are run in turn, several times; medians are printed. Training is
left out of the comparison: it depends on the model's own library.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from trimtab.app.replaying import ReplayRequest, run_replay

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
STAGES = ("deliver events", "answer", "shadow and record", "observe", "decide", "everything else")
FORCED = ("bad-challenger@2013-03-04T01:00Z",)
CASES = {
    "1 week, 55 features": ("2013-03-11", "keys", ()),
    "2 weeks, 55 features": ("2013-03-18", "keys", ()),
    "4 weeks, 55 features": ("2013-04-01", "keys", ()),
    "2 weeks, 37 features": ("2013-03-18", "keys[:2]", ()),
    "2 weeks, 28 features": ("2013-03-18", "keys[:1]", ()),
    "1 week, two versions": ("2013-03-11", "keys", FORCED),
}


def project(root: Path, by: str) -> Path:
    """A copy of the example whose windows run over fewer entities."""
    copy = root / by.strip("[]:").replace("[", "").replace(":", "")
    if not copy.exists():
        shutil.copytree(FLIGHTS, copy, ignore=shutil.ignore_patterns(".trimtab", "data", "__pycache__", "report.html"))
        (copy / "data").symlink_to(FLIGHTS / "data")
        text = (copy / "project.py").read_text()
        changed = text.replace("    by=keys,", f"    by={by},")
        assert changed != text or by == "keys"
        (copy / "project.py").write_text(changed)
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not (FLIGHTS / "data" / "departures.parquet").exists():
        sys.path.insert(0, str(FLIGHTS))
        import prepare

        prepare.main()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(options.repeats):
            for name, (until, by, faults) in CASES.items():
                root = Path(scratch)
                out = root / "replay"
                request = ReplayRequest(project(root, by), start="2013-03-04", until=until, faults=faults, out=out)
                result = run_replay(request).result
                taken[name].append({**result["timings"], "requests": result["counts"]["requests answered"]})
                shutil.rmtree(out)
                print(f"… {repeat + 1}: {name}", file=sys.stderr, flush=True)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {options.repeats} repeats"
    )
    print("milliseconds per 1,000 requests, median\n")
    print(f"{'case':24}{'requests':>10}" + "".join(f"{stage:>19}" for stage in STAGES))
    for name, runs in taken.items():
        requests = runs[0]["requests"]
        cells = [statistics.median(run.get(stage, 0.0) for run in runs) * 1e6 / requests for stage in STAGES]
        print(f"{name:24}{requests:>10,.0f}" + "".join(f"{cell:>19.1f}" for cell in cells))
    print("\n'deliver events' holds the two months before the first request too, which are applied in bulk.")


if __name__ == "__main__":
    main()
