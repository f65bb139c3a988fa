"""Markup that cannot be broken by what it shows: text is escaped unless it was made by :func:`element`."""

from __future__ import annotations

from collections.abc import Iterable

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_TABLE = str.maketrans(_ESCAPES)
_VOID = frozenset({"meta", "link", "br", "hr", "col"})


class Markup(str):
    """Text that is safe to stand in a page as it is."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """The value as markup; escaped unless it is markup already.

    Examples
    --------
    >>> escape("a < b")
    'a &lt; b'
    """
    return value if isinstance(value, Markup) else Markup(str(value).translate(_TABLE))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One HTML or SVG element.

    Attribute names lose a trailing underscore and turn the others into hyphens; floats are cut to two decimals;
    an attribute that is ``None`` or ``False`` is left out, one that is ``True`` stands without a value.

    Examples
    --------
    >>> element("p", "a < b", class_="note", hidden=False)
    '<p class="note">a &lt; b</p>'
    """
    inside = "".join(escape(child) for child in children if child is not None)
    opening = tag + "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{inside}</{tag}>")


def joined(parts: Iterable[object]) -> Markup:
    """Markup one after the other."""
    return Markup("".join(escape(part) for part in parts))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = short(value) if isinstance(value, float) else escape(value)
    return f' {name}="{text}"'


def short(value: float) -> str:
    """A coordinate with at most two decimals.

    Examples
    --------
    >>> short(3.0), short(3.14159), short(-0.001)
    ('3', '3.14', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
