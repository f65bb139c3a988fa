"""The main job, from one command: a year of flights through the whole loop, then the last days live over HTTP.

make demo                       everything below
make demo DEMO=--keep           leave the platform running at the end
make demo DEMO="--until 2013-04-01 --no-live --no-fault"
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import prepare

from trimtab import app
from trimtab.app.home import Home
from trimtab.core.clock import instant, iso
from trimtab.core.ids import rounded
from trimtab.core.ledger import Ledger, model_stream
from trimtab.errors import TrimtabError
from trimtab.loop.tick import Tick
from trimtab.web.report import render_report
from trimtab.web.report_data import MonthRow, ReplayReport
from trimtab.web.terminal import Progress, aligned, month_table

HERE = Path(__file__).parent
HOME = HERE / ".trimtab"
START, CHECKPOINT = "2013-03-04", "2013-12-29"
JSON = "-H 'Content-Type: application/json'"
BAD_CHALLENGER = "bad-challenger@2013-03-11"


def main() -> int:
    """Run the demo; 0 when everything agreed."""
    options = read_options()
    began = time.perf_counter()
    say("1  Data", "the flights that left New York in 2013, as three histories in known order")
    if not (HERE / "data" / "departures.parquet").exists():
        prepare.main()
    say("2  Replay", "every flight from 4 March on is predicted two hours before it leaves, as if it were then")
    replayed = replay(options)
    checks = show(replayed.result, options.report)
    if not options.no_fault:
        say("3  A fault on stage", "an operator forces a bad challenger past the gate")
        checks["the bad challenger is contained"] = show_fault()
    if replayed.staging.options.checkpoint and not options.no_live:
        say("4  Live", "the real processes take over on 29 December, over HTTP, under a clock that this script moves")
        checks |= live(replayed, keep=options.keep)
    return conclude(checks, seconds=time.perf_counter() - began)


def conclude(checks: dict[str, bool], *, seconds: float) -> int:
    """One line per check; 0 when all of them hold."""
    print()
    for name, held in checks.items():
        print(f"{'ok' if held else 'FAILED':8}{name}")
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    print(
        f"\nDone in {seconds:.0f} s; peak memory {own / unit:,.0f} MB, of the largest child {children / unit:,.0f} MB."
    )
    return 0 if all(checks.values()) else 1


def read_options() -> argparse.Namespace:
    """What was given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--until", default=None, help="stop the replay early, at this date")
    parser.add_argument("--keep", action="store_true", help="leave the platform running at the end")
    parser.add_argument("--no-live", action="store_true", help="leave out the live part")
    parser.add_argument("--no-fault", action="store_true", help="leave out the fault on stage")
    parser.add_argument("--report", type=Path, default=HERE / "report.html", help="where the report goes")
    return parser.parse_args()


def say(title: str, text: str) -> None:
    """A heading."""
    print(f"\n== {title}: {text}", flush=True)


def replay(options: argparse.Namespace) -> Any:
    """The year, with progress and a line per decision."""
    from trimtab.app.replaying import ReplayRequest, run_replay

    checkpoint = None if options.until or options.no_live else (CHECKPOINT, HOME / "live")
    request = ReplayRequest(HERE, start=START, until=options.until, checkpoint=checkpoint)
    progress = Progress(sys.stdout, timer=app.monotonic)
    try:
        return run_replay(request, progress)
    finally:
        progress.close()


def show(result: dict[str, Any], path: Path) -> dict[str, bool]:
    """The month table, counts, timings and the digest; the rest is in the report. What held."""
    months = msgspec.convert([*result["months"], result["total"]], list[MonthRow])
    print()
    print(month_table(months, outcome=result["outcome"], loss=result["loss"]))
    print()
    print(aligned([[name, f"{count:,}"] for name, count in result["counts"].items()]))
    print()
    print(aligned([[f"seconds: {name}", f"{seconds:.1f}"] for name, seconds in result["timings"].items()]))
    parity = result["parity"]
    print(
        f"\nparity: {parity['sampled']:,} served predictions computed again at their watermarks, "
        f"{parity['values']:,} values: {parity['mismatch']} mismatches, {parity['missing']} missing, "
        f"{parity['extra']} extra, largest relative difference {parity['largest']:.1e}"
    )
    print(f"decision digest: {result['digest']}")
    path.write_text(render_report(msgspec.convert(result, ReplayReport)), "utf-8")
    print(f"report: {path}")
    return checks_of(result)


def checks_of(result: dict[str, Any]) -> dict[str, bool]:
    """What must hold of a replay."""
    counts, parity = result["counts"], result["parity"]
    same = parity["sampled"] > 0 and not (parity["mismatch"] or parity["missing"] or parity["extra"])
    return {
        "every request was answered": counts["requests answered"] == counts["requests asked"] > 0,
        "served features are what training computes": same,
    }


def show_fault() -> bool:
    """A short replay in which an operator pushes a model with swapped labels past the gate."""

    def decided(tick: Tick) -> None:
        if tick.decision:
            progress(tick)

    progress = Progress(sys.stdout, timer=app.monotonic)
    result = app.replay(HERE, start=START, until="2013-03-25", fault=[BAD_CHALLENGER], progress=decided)
    contained = all(fault["contained"] is not None for fault in result["faults"])
    print("contained: the bad canary was rolled back by evidence" if contained else "NOT contained")
    return contained


def live(replayed: Any, *, keep: bool) -> dict[str, bool]:
    """Restore the checkpoint, start the platform, push the last days over HTTP and compare with the replay."""
    from trimtab.app.rehearsal import rehearse, start_platform

    staging, home = replayed.staging, HOME / "live"
    os.environ["TRIMTAB_TOKEN"] = token = secrets.token_urlsafe(24)
    progress = Progress(sys.stdout, timer=app.monotonic)
    start, until = instant(CHECKPOINT), int(staging.known.requests.at[-1])
    platform = start_platform(HERE, home, now=start, log=HOME / "live.log", token=token)
    try:
        found = rehearse(
            platform,
            model=staging.spec.name,
            sources=dict(staging.project.sources),
            timeline=staging.replay.timeline,
            served=staging.replay.served,
            start=start,
            until=until,
            progress=lambda when, done: progress(Tick(when, start, until, done)),
        )
        progress.close()
        answers = found.largest_difference <= 1e-6 and found.other_version == 0
        print(
            f"{found.requests:,} requests and {found.events:,} events over HTTP in {found.seconds:.1f} s; "
            f"largest difference from the replay {found.largest_difference:.1e}, "
            f"{found.other_version} answers by another version: {'agreed' if answers else 'NOT agreed'}"
        )
        decisions = same_decisions(replayed, home)
        body = msgspec.json.encode(found.example).decode()
        print(f"\ntry it:   curl -s {found.predict}/predict/{staging.spec.name} {JSON} -d '{body}'")
        print(f"console:  {found.console}/?token={token}")
        if keep:
            print("left running; stop it with Ctrl-C", flush=True)
            platform.process.wait()
        else:
            print("it stops now; with --keep it is left running")
    except KeyboardInterrupt:
        pass
    finally:
        platform.stop()
        shutil.rmtree(home, ignore_errors=True)
    return {"live answers are the replay's": answers, "live decisions are the replay's": decisions}


def same_decisions(replayed: Any, home: Path) -> bool:
    """Whether the live loop decided after the checkpoint what the replay decided in the same days; says so."""
    stream, until = model_stream(replayed.staging.spec.name), int(replayed.staging.known.requests.at[-1])
    first = instant(CHECKPOINT)

    def decided(ledger: Ledger) -> list[tuple[str, str, Any]]:
        events = [one for one in ledger.read(stream=stream) if first < one.known <= until]
        return [
            (
                one.type,
                one.id,
                iso(one.known),
                rounded({k: v for k, v in one.data.items() if k not in one.draft.measured}),
            )
            for one in events
        ]

    replay, live = decided(replayed.staging.home.ledger()), decided(Home(home).ledger())
    same = replay == live
    print(f"{len(live)} events of the loop since the checkpoint, {len(replay)} in the replay: ", end="")
    print("equal in type, id, time and content" if same else "NOT equal")
    for theirs, ours in itertools.zip_longest(replay, live):
        if theirs != ours:
            print(f"first difference:\n  replay {theirs}\n  live   {ours}")
            break
    return same


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrimtabError as error:
        sys.exit(f"demo: {error}")
