"""``trimtab export``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command, lines, version


@command(
    "trimtab export 4f9c2a7be1d0 --triton repository --home served",
    "trimtab export 3 --model buys --triton repository --json",
)
@version
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    required=True,
    help="Model repository of NVIDIA Triton to write: a directory that does not exist yet, or is empty.",
)
@click.option("--model", help="Whose version, where several models have one of that number.")
def export(project: Path, *, version: str, triton: Path, model: str | None, home: Path | None, as_json: bool) -> None:
    """Write VERSION, by its number or first digits, so that another server can load it.

    A version that is an ONNX model becomes one model; one with --preprocess or --postprocess code an ensemble of the
    code before it, the model, and the code after it. Rows of a batch, the time that one waits, and threads are those of
    the home's deployment profile. What is there already is never overwritten; the same export again does nothing.

    Ends with 2 for what cannot go: features of the online store or computed on request, handlers and pyfunc models.
    """
    from trimtab import app

    answer(lambda: app.export(project, version, triton=triton, model=model, home=home), _text, as_json=as_json)


def _text(result: Result) -> str:
    return "\n".join(lines({**result, "number": result["number"] or "-"}))
