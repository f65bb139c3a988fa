"""The versions that lie in a home, by what the home itself holds; no project and no ledger is asked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from trimtab.app.home import Home
from trimtab.errors import UnknownName
from trimtab.registry.manifest import Manifest

SHORTEST = 8
"""Fewer digits are no name of a version: too many others could begin so."""
_DIGITS = 64
_MOST_BYTES = 4_000_000
_SHOWN = 12


class Held(NamedTuple):
    """A version in a home."""

    version: str
    model: str


def versions_in(home: Home, prefix: str = "") -> list[Held]:
    """Every version in a home that begins so, newest first: blobs that are manifests."""
    found: list[tuple[int, Held]] = []
    for path in (home.root / "blobs").glob(f"{prefix[:2] or '??'}/{prefix[2:]}*"):
        manifest = _manifest(path)
        if manifest is not None:
            found.append((path.stat().st_mtime_ns, Held(path.parent.name + path.name, manifest.model)))
    return [held for _, held in sorted(found, reverse=True)]


def _manifest(path: Path) -> Manifest | None:
    try:
        with path.open("rb") as file:
            start = file.read(2)
            if start != b'{"' or path.stat().st_size > _MOST_BYTES:
                return None
            return msgspec.json.decode(start + file.read(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None


def find_version(home: Home, given: str) -> str:
    """The digest of the version that begins with these digits.

    Raises
    ------
    UnknownName
        When there is none, or more than one; the message names those that there are.
    """
    wanted = given.strip().rstrip("…").lower()
    usable = len(wanted) >= SHORTEST and set(wanted) <= set("0123456789abcdef")
    if usable and len(wanted) == _DIGITS and home.blobs().exists(wanted):
        return wanted  # whatever it is: reading it says what is wrong with it
    found = versions_in(home, wanted) if usable else []
    if len(found) == 1:
        return found[0].version
    if found:
        raise UnknownName(
            "several versions begin so", got=repr(given), hint=f"give more digits: {_named(found, len(wanted) + 8)}"
        )
    known = versions_in(home)
    short = "" if usable else f"give its digits, {SHORTEST} at least; "
    hint = f"this home has {_named(known)}" if known else "this home has none: `trimtab register` makes one"
    raise UnknownName("no such version in this home", got=repr(given), hint=short + hint)


def _named(versions: list[Held], digits: int = 12) -> str:
    rest = len(versions) - _SHOWN
    told = ", ".join(f"{version[:digits]} ({model})" for version, model in versions[:_SHOWN])
    return told + (f" and {rest} more" if rest > 0 else "")
