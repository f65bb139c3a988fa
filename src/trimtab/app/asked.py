"""What an operator sends, read into what the loop takes in."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from trimtab.app.naming import is_digest, meant
from trimtab.core.clock import instant
from trimtab.core.ids import Json
from trimtab.errors import InputError
from trimtab.loop.observations import Asked
from trimtab.loop.state import Version

STRATEGIES = ("shadow", "canary", "blue-green", "ab")
_TEXTS = (
    "actor",
    "reason",
    "version",
    "id",
    "cutoff",
    "strategy",
    "share",
    "arms",
    "unit",
    "winner",
    "to",
    "value",
    "facts",
)
_LONGEST, _LONGEST_FACTS = 2000, 100_000
_ARM = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,31})=([0-9A-Za-z]+):([0-9.eE+-]+)")
_UNIT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def read_request(kind: str, fields: Mapping[str, Json], versions: Mapping[str, Version]) -> Asked:
    """Read what is asked for; a version may be named as :func:`trimtab.app.naming.meant` says.

    Raises
    ------
    InputError
        A field is unknown, missing or makes no sense.
    UnknownName
        No version is called so.
    """
    unknown = sorted(set(fields) - set(_TEXTS))
    if unknown:
        raise InputError("unknown fields", got=", ".join(unknown), hint=f"the fields are {', '.join(sorted(_TEXTS))}")
    for name, value in fields.items():
        most = _LONGEST_FACTS if name == "facts" else _LONGEST
        if value is not None and (not isinstance(value, str) or len(value) > most):
            got = f"{len(value):,} characters" if isinstance(value, str) else type(value).__name__
            raise InputError(f"{name} must be a text of at most {most:,} characters", got=got)
    given = {name: str(value) for name, value in fields.items() if value is not None}
    reason = given.get("reason", "").strip()
    if not reason:
        raise InputError("a reason is needed", hint="it is kept in the ledger with your name")
    # Whoever holds the token is an operator, whatever else the name says.
    actor = "operator:" + (given.get("actor", "").strip().removeprefix("operator:") or "api")
    data: dict[str, Any] = {"cutoff": instant(given["cutoff"])} if "cutoff" in given else {}
    if kind in ("deploy", "force"):
        data |= _strategy(given, versions)
    elif kind == "kill":
        data |= {"constant": list(constant)} if (constant := read_constant(given)) else {}
    if "facts" in given:
        data["facts"] = _facts(given["facts"])
    version = named_version(given.get("version", ""), versions)
    asked_id = given.get("id") or secrets.token_hex(10)
    return Asked(asked_id, kind, actor, reason, version, data)  # type: ignore[arg-type]


def _facts(text: str) -> Json:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InputError("the facts are not JSON", got=str(error)) from None
    if not isinstance(found, dict):
        raise InputError("the facts are not a JSON object", got=type(found).__name__)
    return found


def named_version(named: str, versions: Mapping[str, Version]) -> str:
    """The digest of the version that is meant; a whole digest is taken as it is, for it may be new.

    Raises
    ------
    UnknownName
        When there is no such version, or several begin so.
    """
    if not named or is_digest(named):
        return named
    return meant(named, {digest: version.number for digest, version in versions.items()})


def read_constant(given: Mapping[str, str]) -> tuple[float, ...]:
    """The outputs that a kill switch answers with; none when it goes back to the previous version.

    Raises
    ------
    InputError
        When it is not clear which of the two is meant, or a value is no finite number.

    Examples
    --------
    >>> read_constant({"to": "constant", "value": "0.2"})
    (0.2,)
    """
    to, text = given.get("to", ""), given.get("value", "")
    if to not in ("previous", "constant"):
        raise InputError("say what answers instead", got=repr(to), hint="previous, or constant with a value")
    if (to == "constant") != bool(text):
        wanted = "a constant needs a value" if to == "constant" else "a value belongs to a constant"
        raise InputError(wanted, got=repr(text), hint="--to constant --value 0.2")
    return tuple(_number(part, what="the constant answer") for part in text.split(",")) if text else ()


def _strategy(given: Mapping[str, str], versions: Mapping[str, Version]) -> dict[str, Any]:
    """How a version is to be deployed; empty for the policy's own way."""
    strategy, winner = given.get("strategy", ""), given.get("winner", "")
    if winner:
        return {"winner": winner}
    for name, needed_by in (("share", "canary"), ("arms", "ab"), ("unit", "ab")):
        if given.get(name) and strategy != needed_by:
            raise InputError(f"{name} belongs to the strategy {needed_by}", got=strategy or "none")
    if not strategy:
        return {}
    if strategy not in STRATEGIES:
        raise InputError("no such strategy", got=repr(strategy), hint=f"one of {', '.join(STRATEGIES)}")
    data: dict[str, Any] = {"strategy": strategy}
    if strategy == "canary":
        share = _number(given.get("share", ""), what="the share of a canary")
        if not 0 < share < 1:
            raise InputError("a canary's share must be between 0 and 1", got=str(share), hint="0.1 for 10 %")
        data["share"] = share
    if strategy == "ab":
        data["arms"] = read_arms(given.get("arms", ""), versions)
        data["unit"] = unit = given.get("unit", "") or "request"
        if not _UNIT.fullmatch(unit):
            raise InputError("the unit must be a field of the request", got=repr(unit), hint="--unit user")
    return data


def read_arms(text: str, versions: Mapping[str, Version]) -> list[dict[str, Json]]:
    """The arms of an A/B test.

    Raises
    ------
    InputError
        When the text is none.
    UnknownName
        When no version is called so.

    Examples
    --------
    >>> two = {"4f" * 32: Version("4f" * 32, 1, 0, (), None, ()), "77" * 32: Version("77" * 32, 2, 0, (), None, ())}
    >>> [(arm["name"], arm["version"][:4], arm["share"]) for arm in read_arms("a=1:0.5,b=77777777:0.5", two)]
    [('a', '4f4f', 0.5), ('b', '7777', 0.5)]
    """
    found: list[dict[str, Json]] = []
    for part in text.split(","):
        match = _ARM.fullmatch(part.strip())
        if match is None:
            raise InputError("not an arm", got=repr(part), hint="write a=VERSION:SHARE,b=VERSION:SHARE")
        version = named_version(match[2], versions)
        found.append({"name": match[1], "version": version, "share": _number(match[3], what="a share")})
    return found


def _number(text: str, *, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{what} must be a number", got=repr(text), hint="write 0.1")
    return value
