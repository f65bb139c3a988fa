"""Which version a person means: by its number, its digest, or the first digits of its digest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from trimtab.core.ledger import Event
from trimtab.errors import UnknownName
from trimtab.loop import events as e

SHORTEST = 8
"""Characters of a digest that name a version; fewer are as likely a number that was mistyped."""
_SHOWN = 10
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]+")
_REGISTERED = (e.VERSION_REGISTERED, e.VARIANT_MEASURED, e.VERSION_BROUGHT)


def registered(events: Iterable[Event]) -> dict[str, int]:
    """The versions of a model with their numbers, from its part of the ledger; 0 where an old event has none."""
    found = [event.data for event in events if event.type in _REGISTERED]
    return {str(data["version"]): int(data.get("number") or 0) for data in found}


def is_digest(named: str) -> bool:
    """Whether this is a whole digest."""
    return _DIGEST.fullmatch(named) is not None


def meant(named: str, versions: Mapping[str, int]) -> str:
    """The digest of the version that is meant.

    A number means the version of that number and no other. Otherwise the first digits of a digest do, at least 8.

    Parameters
    ----------
    versions
        The number of each digest.

    Raises
    ------
    UnknownName
        When there is none, or there are several.

    Examples
    --------
    >>> meant("2", {"3e" * 32: 1, "1f" * 32: 2})[:8]
    '1f1f1f1f'
    >>> meant("3e3e3e3e", {"3e" * 32: 1, "1f" * 32: 2})[:8]
    '3e3e3e3e'
    """
    by_number = [digest for digest, number in versions.items() if number and str(number) == named]
    if by_number:
        return by_number[0]
    if len(named) < SHORTEST:
        what = "no version has that number" if _NUMBER.fullmatch(named) else "that is too short to name a version"
        raise UnknownName(what, got=repr(named), hint=_choice(versions))
    found = [digest for digest in versions if digest.startswith(named.lower())]
    if not found:
        raise UnknownName("no such version", got=repr(named), hint=_choice(versions))
    if len(found) > 1:
        hint = f"it may be {', '.join(_told(digest, versions[digest]) for digest in found)}: name its number"
        raise UnknownName("that begins several versions", got=repr(named), hint=hint)
    return found[0]


def _choice(versions: Mapping[str, int]) -> str:
    if not versions:
        return "no version is registered yet"
    told = [_told(digest, number) for digest, number in versions.items()]
    earlier = f"{len(told) - _SHOWN} earlier ones, " if len(told) > _SHOWN else ""
    return (
        f"name its number, or at least {SHORTEST} digits of its digest: there are {earlier}{', '.join(told[-_SHOWN:])}"
    )


def _told(digest: str, number: int) -> str:
    return f"{number} ({digest[:12]})" if number else digest[:12]
