"""``trimtab batch``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from trimtab.cli.answer import Result, answer, command, model
from trimtab.core.clock import duration
from trimtab.errors import InputError

_FIRST = 10


@command(
    "trimtab batch buys --in rows.parquet --out scored.parquet",
    "trimtab batch buys --in 'data/2026-*.csv' --out scored/ --as-of 2026-11-01",
    "trimtab batch buys --in sqlite:///shop.db --query 'SELECT * FROM visits ORDER BY id' --out sqlite:///s.db#scored",
    "trimtab batch buys --in tomorrow.parquet --out tomorrow/ --as-of now --precompute 24h",
    "trimtab batch buys --in rows.parquet --out 'scores/{time}.parquet' --every 24h",
    "trimtab batch buys --home served --version 4f9c2a7be1d0 --in rows.parquet --out scored.parquet",
)
@model
@click.option("--in", "rows", required=True, help="Parquet or CSV: a file, a directory or a glob; or a database URL.")
@click.option("--out", required=True, help="A .parquet or .csv file, a directory/, or a database URL#table.")
@click.option("--query", default="", help="With a database: a SELECT that ends with ORDER BY and a unique column.")
@click.option("--id", "id_column", default="", help="Column that names the rows.  [default: the model's id, or id]")
@click.option("--as-of", default="", help="Answer every row as of this time; now: from the online rows.")
@click.option("--version", default="", help="Its number, digest or first digits.  [default: the champion]")
@click.option("--record", is_flag=True, help="Write prediction records, arm batch, apart from those of live traffic.")
@click.option("--precompute", default="", metavar="TIME", help="Keep answers as of now for workers, good for e.g. 24h.")
@click.option("--every", default="", metavar="TIME", help="Let `trimtab up` run it every 24h, say; off ends that.")
@click.option("--anew", is_flag=True, help="Start again, and replace what is there.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Of the model.  [default: one per processor]")
@click.option(
    "--on", type=click.Choice(["here", "ray"]), help="Score in this process, or on a Ray cluster.  [default: here]"
)
@click.option("--chunk", type=click.IntRange(min=1), help="Rows of a chunk.  [default: 65536]")
def batch(
    project: Path,
    *,
    home: Path | None,
    model: str,
    rows: str,
    out: str,
    every: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score a table with MODEL, through the pipeline that serves HTTP.

    A model with features takes entity keys and inputs as columns. Rows with the model's column of time are answered as
    of that time, from history; rows without it as of now, from the online rows. A model without features takes its
    columns as they are. Further columns are not read.

    The answers hold every row once, in order: id, prediction, version, status. A row that cannot be believed has no
    prediction and a status that says why. After a kill or a full disk the same command goes on where it ended; when it
    is done already, it says so. Ends with 1 when rows were quarantined or failed.
    """
    from trimtab import app
    from trimtab.web.terminal import Progress

    if options["query"]:
        _warn(options["query"])

    def work() -> Result:
        options["precompute"] = _good_for(options["precompute"])
        options["id"] = options.pop("id_column")
        given = {name: value for name, value in options.items() if value}
        if every:
            length = 0 if every == "off" else duration(every)
            return app.schedule_batch(project, model, rows, out=out, every=length, options=given, home=home)
        progress = Progress(sys.stderr, timer=app.monotonic)
        shows = not as_json and sys.stderr.isatty()
        try:
            shown = {"progress": progress} if shows else {}
            return app.batch(project, model, rows, out=out, options=given, home=home, **shown)
        finally:
            progress.close()

    answer(
        work,
        lambda result: "\n".join(_text(result)),
        as_json=as_json,
        good=lambda result: not result.get("quarantined", 0) + result.get("failed", 0),
    )


def _good_for(text: str) -> int:
    if not text:
        return 0
    if length := duration(text):
        return length
    raise InputError("answers that are kept for workers are good for some time", got=text, hint="--precompute 24h")


def _warn(query: str) -> None:
    """Say it on stderr, so that what is read from stdout stays what it is."""
    from trimtab.app.batches import caution

    if said := caution(query):
        click.echo(f"trimtab: {said}", err=True)


def _text(result: Result) -> Iterator[str]:
    if "scheduled" in result:
        said = "scheduled; `trimtab up` runs it" if result["scheduled"] else "ended"
        yield f"{result['model']} to {result['out']}: {said}"
        return
    if result["already"]:
        yield f"{result['out']}: done already; --anew scores it again"
    resumed = f", {result['resumed_chunks']} of {result['chunks']} chunks were done" if result["resumed_chunks"] else ""
    yield (
        f"{result['out']}: {result['rows']:,} rows, {result['answered']:,} answered, {result['failed']:,} failed, "
        f"{result['quarantined']:,} quarantined{resumed}"
    )
    yield f"{result['model']} {result['version'][:12]}, features from {result['features']}"
    for reason in result["reasons"]:
        yield f"  {reason['rows']:,} x {reason['column'] or 'the row'}: {reason['reason']}"
    for row in result["bad_rows"][:_FIRST]:
        yield f"  row {row['row']}: {row['column'] or 'the row'} = {row['value']}: {row['reason']}"
    if result["scored"]:
        yield f"{result['scored']:,} rows in {result['seconds']:.1f} s, {result['rows_per_second']:,.0f} rows/s"
