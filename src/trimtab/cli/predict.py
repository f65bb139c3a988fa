"""``trimtab predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

import click

from trimtab.cli.answer import Result, answer, command, lines, model
from trimtab.errors import InputError


@command(
    "trimtab predict buys shop=ams basket=12.5",
    "trimtab predict buys shop=ams basket=12.5 --arm shadow",
    "trimtab predict buys --from request.json --url http://127.0.0.1:8080 --json",
)
@model
@click.argument("fields", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--from", "source", type=click.File(encoding="utf-8"), help="JSON object with the fields; - for standard input."
)
@click.option("--arm", help="Have this arm of the route answer, whatever its share; recorded as pinned.")
@click.option("--url", help="Ask this data plane.  [default: the one that `trimtab up` started]")
def predict(
    project: Path,
    *,
    home: Path | None,
    model: str,
    fields: tuple[str, ...],
    source: TextIO | None,
    arm: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Ask MODEL once, by entity keys and request inputs; features are looked up.

    With --url no project is needed: the server says which fields it takes.
    """
    from trimtab import app

    def work() -> Result:
        return app.predict(project, model, _fields(fields, source), home=home, url=url, arm=arm)

    answer(work, lambda result: "\n".join(lines(result)), as_json=as_json)


def _fields(pairs: tuple[str, ...], source: TextIO | None) -> dict[str, Any]:
    found: dict[str, Any] = _read(source) if source is not None else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError("a field is not NAME=VALUE", got=repr(pair), hint="write it as in basket=12.5")
        found[name] = value
    return found


def _read(source: TextIO) -> dict[str, Any]:
    hint = 'write a JSON object, as in {"shop": "ams"}'
    try:
        value = json.load(source)
    except ValueError as error:
        raise InputError("the fields are not JSON", got=str(error), hint=hint) from None
    if not isinstance(value, dict):
        raise InputError("the fields are not a JSON object", got=type(value).__name__, hint=hint)
    return value
