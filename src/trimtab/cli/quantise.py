"""``trimtab quantise``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command, model


@command("trimtab quantise buys", "trimtab quantise buys --version 3 --mode static --json")
@model
@click.option("--version", help="Which version: its number or first digits.  [default: the champion]")
@click.option(
    "--mode",
    type=click.Choice(["dynamic", "static"]),
    default="dynamic",
    show_default=True,
    help="Where the ranges of activations come from: each row answered, by itself, or training rows beforehand.",
)
def quantise(project: Path, *, home: Path | None, model: str, version: str | None, mode: str, as_json: bool) -> None:
    """Make an int8 variant of a version of MODEL and register it as a candidate.

    Quality is measured on the rows that the version was judged on, speed and size on this machine. Nothing is deployed:
    `trimtab deploy` starts its rollout, and it must pass the same floors and the same gate as any version. Rows of a
    dynamic variant are answered one by one, so that none changes the answer of another: for batches take static.

    Ends with 1 when it fails its floors, 2 when there is nothing to quantise, as in trees.
    """
    from trimtab import app

    answer(
        lambda: app.quantise(project, model, version=version, mode=mode, home=home),
        _text,
        as_json=as_json,
        good=lambda result: bool(result["passed"]),
    )


def _text(result: Result) -> str:
    from trimtab.web.figures import plain
    from trimtab.web.terminal import aligned

    before, after = result["before"], result["after"]
    rows = [["", "before", "after", "after / before"]]
    measures = [(name, before["metrics"][name], value) for name, value in after["metrics"].items()]
    others = ("one_row_p50_ms", "one_row_p99_ms", "batch_p50_ms", "model_bytes", "size_bytes")
    measures += [(name, before[name], after[name]) for name in others]
    for name, old, new in measures:
        rows.append([name.replace("_", " "), plain(old), plain(new), f"{new / old:.3f}" if old else "-"])
    verdict = "passes its floors" if result["passed"] else "fails its floors"
    digests = f"{result['version'][:12]}, {result['variant']} of {result['parent'][:12]}"
    ending = f"version {result['number']} ({digests}) {verdict}"
    if not result["registered"]:
        ending = result["sentence"]
    measured = f"on {result['rows']} held-out rows"
    if result["variant"] == "int8-dynamic":
        measured += "; answered row by row, in a batch too: --mode static answers a batch at once"
    return f"{aligned(rows, left=(0,))}\n{measured}\n{ending}"
