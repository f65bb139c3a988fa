"""Types of what a project file hands to a declaration, checked when it is called.

A wrong type that is let through shows much later, far from its line, or removes a gate without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from trimtab.core.clock import Micros, duration
from trimtab.errors import InputError, ProjectError

Types = type | tuple[type, ...]


def a(kind: Types, value: Any, *, what: str, hint: str, where: str) -> Any:
    """The value, when it is of that kind.

    Raises
    ------
    ProjectError
        When it is something else.

    Examples
    --------
    >>> a(str, "basket", what="column", hint="", where="")
    'basket'
    """
    if not isinstance(value, kind):
        raise ProjectError(f"{what} is of the wrong type", got=_shown(value), hint=hint, where=where)
    return value


def text(value: Any, *, what: str, where: str) -> str:
    """The value, when it is text that is not empty."""
    found: str = a(str, value, what=what, hint="write it in quotes", where=where)
    if not found:
        raise ProjectError(f"{what} is empty", hint="give it a name", where=where)
    return found


def every_one(kind: Types, values: Any, *, what: str, hint: str, where: str) -> tuple[Any, ...]:
    """The values, when they are a collection (no text, no single value) of that kind.

    Examples
    --------
    >>> every_one(str, ["basket", "shop"], what="columns", hint="", where="")
    ('basket', 'shop')
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ProjectError(f"{what} is not a list", got=_shown(values), hint=hint, where=where)
    found = tuple(values)
    for value in found:
        a(kind, value, what=f"an item of {what}", hint=hint, where=where)
    return found


def number(
    value: Any, *, what: str, where: str, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> float:
    """The value, when it is a finite number within its limits.

    Examples
    --------
    >>> number(0.1, what="alpha", where="", above=0)
    0.1
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProjectError(f"{what} is not a number", got=_shown(value), hint="write it without quotes", where=where)
    if not (math.isfinite(value) and above < value and least <= value <= most):
        said = [f"above {above:g}" * (above > -math.inf), f"at least {least:g}" * (least > -math.inf)]
        said.append(f"at most {most:g}" * (most < math.inf))
        hint = f"give a number {' and '.join(filter(None, said))}" if any(said) else "give a finite number"
        raise ProjectError(f"{what} is out of its range", got=repr(value), hint=hint, where=where)
    return value


def whole(value: Any, *, what: str, where: str, least: int = 0) -> int:
    """The value, when it is a whole number that is not below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProjectError(f"{what} is not a whole number", got=_shown(value), hint="write it as in 500", where=where)
    return int(number(value, what=what, where=where, least=least))


def length(value: Any, *, what: str, where: str, zero: bool = False) -> Micros:
    """A duration in microseconds, from text such as ``"28d"``; ``zero``: whether it may be nothing.

    Examples
    --------
    >>> length("1d", what="least", where="")
    86400000000
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ProjectError(f"{what} is not a duration", got=_shown(value), hint='write it as in "28d"', where=where)
    try:
        found = duration(value)
    except InputError as error:
        raise ProjectError(f"{what} is {error.what}", got=error.got, hint=error.hint, where=where) from None
    if found < 0 or (found == 0 and not zero):
        raise ProjectError(
            f"{what} must be longer than nothing", got=repr(value), hint='write it as in "28d"', where=where
        )
    return found


def _shown(value: object) -> str:
    said = repr(value)
    return f"{said if len(said) <= 60 else said[:57] + '...'} of type {type(value).__name__}"
