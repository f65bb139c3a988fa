"""``trimtab replay``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command, counted, writable


@command(
    "trimtab replay",
    "trimtab replay --start 2013-03-04 --until 2013-06-01 --report report.html",
    "trimtab replay --fault bad-challenger@2013-03-11 --json",
    "trimtab replay --fault 'unit:visits.basket*100@2026-08-05'",
    home=False,
)
@click.option("--model", help="Which model; needed when there are several.")
@click.option(
    "--start",
    help="First day to answer; before it, history only trains.  [default: after 60 days or a third of the history]",
)
@click.option("--until", help="Stop before this time.  [default: the end of the history]")
@click.option(
    "--fault",
    multiple=True,
    help="A fault to put on stage: unit:SOURCE.COLUMN*FACTOR@TIME or bad-challenger@TIME; may be given several times.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to keep the replay's own ledger and stores.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this HTML file.")
def replay(  # each parameter is an option of the command
    project: Path,
    *,
    model: str | None,
    start: str | None,
    until: str | None,
    fault: tuple[str, ...],
    seed: int,
    out: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Run history through the whole loop under a virtual clock.

    Every request of the history is answered through the serving pipeline with only what was known at the time;
    labels arrive when they did; the policy retrains, judges and promotes. Equal input and seed give an equal
    decision digest.
    """
    import msgspec

    from trimtab import app
    from trimtab.web.report import render_report
    from trimtab.web.report_data import ReplayReport
    from trimtab.web.terminal import Progress

    def work() -> Result:
        if report is not None:
            writable(report, what="the report")
        if out is not None:
            writable(out, what="the replay's own directory", folder=True)
        progress = Progress(sys.stderr if as_json else sys.stdout, timer=app.monotonic)
        try:
            result = app.replay(
                project,
                model=model,
                until=until,
                start=start,
                fault=list(fault),
                seed=seed,
                out=out,
                progress=progress,
            )
        finally:
            progress.close()
        if report is not None:
            report.write_text(render_report(msgspec.convert(result, ReplayReport)), "utf-8")
        return result

    def text(result: Result) -> str:
        return _text(result, report)

    answer(work, text, as_json=as_json)


def _text(result: Result, report: Path | None) -> str:
    import msgspec

    from trimtab.web.figures import count, plain, seconds
    from trimtab.web.report_data import MonthRow
    from trimtab.web.terminal import aligned, month_table

    months = msgspec.convert([*result["months"], result["total"]], list[MonthRow])
    parts = ["", month_table(months, outcome=result["outcome"], loss=result["loss"])]
    parts += ["", aligned([[name, count(value)] for name, value in result["counts"].items()])]
    parts += ["", aligned([[name, seconds(value)] for name, value in result["timings"].items()])]
    if result.get("parity"):
        said = ", ".join(f"{name} {plain(value)}" for name, value in result["parity"].items())
        parts += ["", f"served against recomputed features: {said}"]
    parts += ["", f"{counted(len(result['decisions']), 'decision')}, digest {result['digest']}"]
    if report is not None:
        parts.append(f"report: {report}")
    return "\n".join(parts)
