"""``trimtab register``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trimtab.cli.answer import Result, actor, answer, command, lines, model


@command(
    "trimtab register buys model.onnx --kind onnx --trained-until 2024-05-01 --reason 'the search team made it'",
    "trimtab register buys model.onnx --kind onnx --columns basket,visits --task binary",
    "trimtab register buys model.onnx --kind onnx --columns basket,visits --task binary --preprocess scale.py",
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
    help="What it answers.  [default: what the project declares; an ONNX file without it and without columns is served "
    "by its tensors]",
)
@click.option(
    "--columns",
    default="",
    help="Its input columns in order, with commas.  [default: the project's features; pyfunc: as its signature says]",
)
@click.option("--outputs", default="", help="Names of its classes, or of several numbers, with commas.")
@click.option("--optional", default="", help="Columns that a request may leave out.")
@click.option("--preprocess", type=click.Path(), help="ONNX: file with preprocess(values), run before the model.")
@click.option("--postprocess", type=click.Path(), help="ONNX: file with postprocess(outputs), run after the model.")
@click.option("--entry", help="Handler: FILE or FILE:CLASS.  [default: handler.py]")
@click.option("--takes", type=click.Choice(["rows", "matrix"]), help="Handler: what it is given.  [default: rows]")
@click.option("--python", type=click.Path(dir_okay=False), help="Python that has its libraries.")
@click.option("--start-s", type=float, help="Longest time until it can answer.  [default: 120]")
@click.option("--call-s", type=float, help="Longest time for one batch.  [default: 10]")
@click.option("--memory-mb", type=int, help="Most address space of its process.  [default: no limit]")
@click.option("--trained-until", help="It learned from nothing later: then the floors are judged on later rows.")
@click.option("--reason", default="", help="In a project: why; it is kept in the ledger.  [default: the file's name]")
@actor
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

    In a project that declares MODEL, the columns are the features of the project or inputs of its requests. The version
    is put into the ledger and judged by the floors, and `trimtab deploy` rolls it out like one that was trained there.
    Elsewhere `trimtab serve` serves it.
    """

    def work() -> Result:
        from trimtab import app

        said = {name: options.pop(name) for name in ("reason", "actor", "trained_until")}
        said |= {"task": task, "options": options}
        return app.register(project, model, path, kind, home=home, said=said)

    answer(work, _text, as_json=as_json, good=lambda result: bool(result.get("registered", True)))


def _text(result: Result) -> str:
    if "registered" not in result:
        return "\n".join(lines(result))
    shown = {name: result[name] for name in ("model", "version", "kind", "home")}
    return "\n".join([str(result["sentence"]), *lines(shown)])
