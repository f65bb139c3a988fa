"""What the text of a query tells without the database that it is meant for."""

from __future__ import annotations

import re

_PARTS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_NESTED = re.compile(r"\([^()]*\)")


def names(query: str) -> set[str]:
    """Every word of a query in small letters, also between double quotes; not those of texts and comments.

    Examples
    --------
    >>> sorted(names("SELECT * FROM shop.\\"Visits\\" WHERE a = 'it''s b' -- not c"))
    ['a', 'from', 'select', 'shop', 'visits', 'where']
    """
    plain = _PARTS.sub(lambda part: f" {part[0]} " if part[0].startswith('"') else " ", query)
    return {word.lower() for word in re.findall(r"\w+", plain)}


def ordered(query: str) -> bool:
    """Whether a query as a whole says ORDER BY; that of a part of it, in brackets, orders nothing.

    Examples
    --------
    >>> ordered("SELECT * FROM visits ORDER BY id"), ordered("SELECT * FROM (SELECT * FROM visits ORDER BY id)")
    (True, False)
    """
    plain = _PARTS.sub(" ", query)
    while (less := _NESTED.sub(" ", plain)) != plain:
        plain = less
    return re.search(r"\border\s+by\b", plain, re.IGNORECASE) is not None
