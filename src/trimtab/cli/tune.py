"""``trimtab tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trimtab.cli.answer import Result, answer, command, model


class _Whole(click.ParamType[Any]):
    """Whole numbers with commas between."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return tuple(int(one) for one in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers, as in 1,2", param, ctx)


@command(
    "trimtab tune buys --p99 20ms",
    "trimtab tune buys --p99 5ms --rate 500 --workers 1,2 --dry-run --json",
)
@model
@click.option("--p99", required=True, help="What 99 of 100 answers must keep to, as in 20ms.")
@click.option(
    "--rate", type=click.FloatRange(min=0.1), help="Requests a second to carry.  [default: as many as possible]"
)
@click.option(
    "--seconds", type=click.FloatRange(0.2, 600), default=2.0, show_default=True, help="Of load per combination."
)
@click.option("--workers", type=_Whole(), help="Numbers of workers to try.  [default: 1, 2, 4 ... cores]")
@click.option("--threads", type=_Whole(), help="Numbers of threads to try.  [default: 1, 2, 4 ... cores]")
@click.option("--batch", type=_Whole(), default="1,8,32,64,128", show_default=True, help="Batch sizes to try.")
@click.option(
    "--connections", type=click.IntRange(1, 1000), default=32, show_default=True, help="Requests under way at once."
)
@click.option(
    "--limit", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds; no more is begun later."
)
@click.option("--dry-run", is_flag=True, help="Write nothing.")
def tune(
    project: Path, *, home: Path | None, model: str, p99: str, rate: float | None, as_json: bool, **options: Any
) -> None:
    """Find batch size, threads and workers for a latency of MODEL by measuring, and write them down.

    Private workers of the champion are started on loopback, one combination after the other, and driven with recorded
    requests. The choice goes to serving.json of the home; `trimtab restart-workers` puts it in force,
    or another start of `trimtab serve`.

    Ends with 1 when nothing keeps the latency; nothing is written then.
    """
    from trimtab import app

    answer(
        lambda: app.tune(
            project,
            model,
            p99=p99,
            rate=rate,
            home=home,
            options=options,
            progress=lambda text: click.echo(text, err=True),
        ),
        _text,
        as_json=as_json,
        good=lambda result: result["chosen"] is not None,
    )


def _text(result: Result) -> str:
    from trimtab.web.terminal import aligned

    rows = [["", "workers", "threads", "batch", "rows in one", "rate/s", "p50 ms", "p99 ms", "errors"]]
    for one in result["measured"]:
        mark = "->" if one["chosen"] else "ok" if one["met"] else ""
        figures = [f"{one['rows']:.1f}", f"{one['rate']:,.0f}", f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}"]
        rows.append(
            [mark, *(str(one[name]) for name in ("workers", "threads", "batch")), *figures, f"{one['errors']:,}"]
        )
    parts = [aligned(rows, left=(0,)), *(f"not measured: {text}" for text in result["skipped"])]
    if result["chosen"] is None:
        return "\n".join([*parts, result["why"]])
    chosen = result["chosen"]
    sizes = f"workers {chosen['workers']}, threads {chosen['threads']}, batch {chosen['batch']}"
    ending = f"written to {result['file']}: {result['next']}" if result["written"] else "nothing written"
    return "\n".join([*parts, f"{sizes}: {result['why']}", ending])
