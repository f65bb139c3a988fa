"""How every command takes its options and gives its answer: text or JSON, and an exit code.

0: done, or the answer is yes. 1: the answer is no, or the work failed. 2: the input was bad.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from trimtab.errors import InputError, ProjectError, TrimtabError

OK, NO, BAD_INPUT = 0, 1, 2
Result = Mapping[str, Any]
Body = Callable[..., None]

_project = click.option(
    "--project",
    "-p",
    type=click.Path(file_okay=True, path_type=Path),
    default=".",
    show_default=True,
    help="Directory of the project, or its Python file.",
)
_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="State is kept here.  [default: setting home, or .trimtab/ in the project]",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
reason = click.option("--reason", required=True, help="Why, in at most 2,000 characters; it is kept in the ledger.")
actor = click.option("--actor", help="Who asks; by default the user of this machine.")
version = click.argument("version")
model = click.argument("model")
server = click.option(
    "--server", help="What carries HTTP: httptools, our own, or uvicorn.  [default: setting server, httptools]"
)


def command(*examples: str, home: bool = True) -> Callable[[Body], click.Command]:
    """A command with the options that every command has, and examples at the end of its help.

    Parameters
    ----------
    home
        Whether it works on a home of the project, and so takes ``--home``.
    """

    def wrap(body: Body) -> click.Command:
        epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
        return click.command(epilog=epilog)(_project(_home(_json(body)) if home else _json(body)))

    return wrap


def answer(
    work: Callable[[], Result],
    text: Callable[[Result], str],
    *,
    as_json: bool,
    good: Callable[[Result], bool] = lambda _: True,
) -> NoReturn:
    """Do the work, print what came of it, and end with the exit code that says so.

    Parameters
    ----------
    text
        Turns the result into what a person reads.
    good
        Whether the answer is yes; a no ends with exit code 1.
    """
    try:
        result = work()
    except TrimtabError as error:
        refuse(error, as_json=as_json)
    click.echo(as_text(result) if as_json else text(result))
    leave(OK if good(result) else NO)


def refuse(error: TrimtabError, *, as_json: bool) -> NoReturn:
    """Say what went wrong in one line (or as JSON on stdout), and end with the exit code for it."""
    if as_json:
        click.echo(as_text(error.to_json()))
    else:
        click.echo(f"trimtab: {' '.join(str(error).split())}", err=True)
    leave(BAD_INPUT if isinstance(error, InputError | ProjectError) else NO)


def writable(path: Path, *, what: str, folder: bool = False) -> None:
    """Make sure, before hours of work, that its outcome can be written.

    Raises
    ------
    InputError
        When it cannot.
    """
    if path.exists():
        problem = "" if path.is_dir() == folder and os.access(path, os.W_OK) else "it is there and cannot be written"
        if path.is_dir() != folder:
            problem = f"it is {'no ' if folder else 'a '}directory"
    else:
        parents = path.absolute().parents if folder else path.absolute().parents[:1]
        above = next((parent for parent in parents if parent.exists()), None)
        if above is None:
            problem = "its directory does not exist"
        else:
            problem = "" if above.is_dir() and os.access(above, os.W_OK) else f"{above} cannot be written to"
    if problem:
        raise InputError(f"{what} cannot be written: {problem}", got=str(path), hint="name another place")


def leave(code: int) -> NoReturn:
    """End the command with an exit code."""
    sys.stdout.flush()
    raise SystemExit(code)


def as_text(value: object) -> str:
    """A result as JSON text; what is not a finite number becomes null, because JSON has no word for it."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def lines(values: Mapping[str, Any], *, indent: int = 0) -> list[str]:
    """A mapping as ``name: value`` lines, nested ones indented.

    Examples
    --------
    >>> lines({"share": 0.25, "arm": {"rows": 3}})
    ['share: 0.25', 'arm:', '  rows: 3']
    """
    from trimtab.web.figures import plain

    found: list[str] = []
    space = " " * indent
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [f"{space}{name}:", *lines(value, indent=indent + 2)]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if value and all(isinstance(item, Mapping) for item in value):
                found.append(f"{space}{name}:")
                found += [f"{space}  {_in_one_line(item)}" for item in value]
                continue
            found.append(f"{space}{name}: {', '.join(plain(item) for item in value)}")
        else:
            found.append(f"{space}{name}: {plain(value)}")
    return found


def _in_one_line(item: Mapping[str, Any]) -> str:
    from trimtab.web.figures import plain

    return ", ".join(f"{name} {plain(value)}" for name, value in item.items())


def counted(number: int, noun: str) -> str:
    """A number of things.

    Examples
    --------
    >>> counted(1, "problem"), counted(2, "problem")
    ('1 problem', '2 problems')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def when(value: object) -> str:
    """ISO 8601 text to the minute, as the terminal shows it."""
    return str(value or "-")[:16].replace("T", " ")
