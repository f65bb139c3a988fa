"""Canonical JSON, content digests and ids derived from content.

Nothing here is random: the same inputs give the same id, on every machine, so that a repeated command,
a resumed replay and a retried request all find what they already did.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Json = Any
"""A value made of dict, list, str, int, float, bool and None."""


def canonical(value: Json) -> bytes:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal bytes.

    Raises
    ------
    ValueError
        When the value holds NaN or an infinity, which JSON cannot carry.

    Examples
    --------
    >>> canonical({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """The SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Json) -> str:
    """The SHA-256 of the canonical JSON of ``value``."""
    return sha256(canonical(value))


def derived_id(*parts: str | int) -> str:
    """A short id that is a function of its parts (80 bits: 20 hexadecimal digits).

    Examples
    --------
    >>> derived_id("late", 1) == derived_id("late", 1) != derived_id("late", 2)
    True
    """
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:20]


def rounded(value: Json, digits: int = 6) -> Json:
    """A copy with every float cut to ``digits`` significant digits; used for the decision digest.

    Examples
    --------
    >>> rounded({"loss": 0.123456789})
    {'loss': 0.123457}
    """
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [rounded(item, digits) for item in value]
    raise TypeError(f"not JSON: {type(value).__name__}")
