"""``trimtab register``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trimtab.cli.answer import Result, answer, command, lines, model


@command(
    "trimtab register buys model.onnx --kind onnx --columns basket,visits --task binary",
    "trimtab register embed embed.onnx --kind onnx",
    "trimtab register buys handler/ --kind handler --columns basket,visits --task binary",
    "trimtab register price mlruns/model --kind pyfunc --task regression --python venv/bin/python",
)
@model
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--kind", type=click.Choice(["onnx", "handler", "pyfunc"]), required=True, help="What it is.")
@click.option(
    "--task",
    type=click.Choice(["binary", "regression", "multiclass"]),
    help="What it answers. An ONNX file without it and without columns is served by its tensors.",
)
@click.option("--columns", default="", help="Its input columns in order, with commas; pyfunc: as its signature says.")
@click.option("--outputs", default="", help="Names of its classes, or of several numbers, with commas.")
@click.option("--optional", default="", help="Columns that a request may leave out.")
@click.option("--entry", help="Handler: FILE or FILE:CLASS.  [default: handler.py]")
@click.option("--takes", type=click.Choice(["rows", "matrix"]), help="Handler: what it is given.  [default: rows]")
@click.option("--python", type=click.Path(dir_okay=False), help="Python that has its libraries.")
@click.option("--start-s", type=float, help="Longest time until it can answer.  [default: 120]")
@click.option("--call-s", type=float, help="Longest time for one batch.  [default: 10]")
@click.option("--memory-mb", type=int, help="Most address space of its process.  [default: no limit]")
def register(
    project: Path,
    *,
    model: str,
    path: Path,
    kind: str,
    task: str | None,
    home: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Register what was made elsewhere as a version of MODEL: an ONNX file, a handler or a pyfunc directory.

    Handlers (as TorchServe knows them) and MLflow's pyfunc models run in a process of their own, never in the serving
    worker. The model is loaded and asked once; one that cannot answer is not registered.
    """

    def work() -> Result:
        from trimtab.app.home import Home, named_home
        from trimtab.app.registering import register_kind

        place = named_home(home) or Home.of(project)
        return register_kind(place.root, path, kind, name=model, task=task, options=options)

    answer(work, lambda result: "\n".join(lines(result)), as_json=as_json)
