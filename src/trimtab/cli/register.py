"""``trimtab register``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import answer, command, lines


@command(
    "trimtab register embed.onnx --name embed",
    "trimtab register buys.onnx --name buys --columns basket,visits --binary bought --json",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="What the model is called.")
@click.option("--columns", help="Names of the columns of its one matrix; without them it is served by its tensors.")
@click.option("--binary", help="It gives the probability of this outcome.")
@click.option("--classes", help="It gives the probability of each of these.")
@click.option("--regression", help="It gives this number, or these.")
def register(
    project: Path,
    *,
    file: Path,
    name: str,
    columns: str | None,
    binary: str | None,
    classes: str | None,
    regression: str | None,
    as_json: bool,
) -> None:
    """Register the ONNX FILE as a version in the home below the project's directory, which need hold no project.

    `trimtab.app.alone.serve_model` serves it; the same file gives the same version again.
    """
    from trimtab import app

    kinds = {"binary": binary, "multiclass": classes, "regression": regression}
    answer(
        lambda: app.register(
            project, file, name=name, columns=_names(columns), task={k: _names(v) for k, v in kinds.items() if v}
        ),
        lambda result: "\n".join(lines(result)),
        as_json=as_json,
    )


def _names(text: str | None) -> list[str]:
    return [one.strip() for one in (text or "").split(",") if one.strip()]
