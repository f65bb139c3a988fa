"""The page around the content: one file, nothing fetched, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trimtab.core.ids import Json
from trimtab.web.figures import plain
from trimtab.web.markup import Markup, element, joined
from trimtab.web.style import SCRIPT, STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""Even a sentence with markup in it could not make the page fetch anything."""
_WAVE = "M2 15c3.2-3.4 6.4-3.4 9.6 0s6.4 3.4 9.6 0M12 11V3l6 6"


def page(title: str, *body: object, description: str, refresh_s: int = 0) -> str:
    """A whole HTML document with style and script inside.

    Parameters
    ----------
    refresh_s
        Seconds after which the browser asks again; 0 for a page that stays as it is.

    Examples
    --------
    >>> page("A < B", element("main"), description="d").startswith("<!doctype html>")
    True
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="description", content=description),
        element("meta", http_equiv="refresh", content=refresh_s) if refresh_s else None,
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(STYLE)),
    )
    script = element("script", Markup(SCRIPT))
    return f"<!doctype html>\n{element('html', head, element('body', *body, script), lang='en')}\n"


def brand() -> Markup:
    """The name with its mark."""
    mark = element("svg", element("path", d=_WAVE), viewBox="0 0 24 24", aria_hidden="true")
    return element("span", mark, "Trimtab", class_="brand")


def section(title: str, *content: object, words: object = None, anchor: str = "") -> Markup:
    """A part of the page with its heading and a sentence or two."""
    lead = element("p", words) if words else None
    return element("section", element("h2", title), lead, *content, id=anchor or None)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, words: Sequence[int] = ()) -> Markup:
    """A table with a header row; the first column and those in ``words`` are left-aligned text."""
    top = (element("th", name, scope="col", class_="words" if at in words else None) for at, name in enumerate(head))
    body = (element("tr", joined(_cells(row, words))) for row in rows)
    grid = element("table", element("thead", element("tr", joined(top))), element("tbody", joined(body)))
    return element("div", grid, class_="scroll")


def _cells(row: Sequence[object], words: Sequence[int]) -> Iterable[Markup]:
    for at, value in enumerate(row):
        if at == 0:
            yield element("th", value, scope="row")
        else:
            yield element("td", value, class_="words" if at in words else None)


def folded(summary: object, *content: object, opened: bool = False) -> Markup:
    """Content that unfolds on demand."""
    return element("details", element("summary", summary), *content, open=opened)


def facts(values: Mapping[str, Json]) -> Markup:
    """A mapping as names and values, nested ones indented."""
    return element("dl", joined(_fact(name, value) for name, value in values.items()), class_="facts")


def _fact(name: str, value: Json) -> Markup:
    if isinstance(value, Mapping):
        shown: object = facts(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        nested = value and all(isinstance(item, Mapping) for item in value)
        shown = joined(facts(item) for item in value) if nested else ", ".join(plain(item) for item in value)
    else:
        shown = plain(value)
    return joined((element("dt", name.replace("_", " ")), element("dd", shown)))


def tiles(values: Iterable[tuple[str, object, object]]) -> Markup:
    """Figures in a row: name, value and what to compare it with."""
    return element(
        "dl",
        joined(
            element("div", element("dt", name), element("dd", value, element("small", beside) if beside else None))
            for name, value, beside in values
        ),
        class_="tiles",
    )


def legend(*entries: tuple[object, str]) -> Markup:
    """What the lines and signs of a plot stand for."""
    return element("ul", joined(element("li", mark, words) for mark, words in entries), class_="legend")


def swatch(kind: str) -> Markup:
    """A short piece of a line for a legend: ``frozen``, ``trimtab``, ``better`` or ``worse``."""
    if kind in ("better", "worse"):
        drawn = element("rect", x=-12, y=-6, width=24, height=12, class_=kind)
    else:
        drawn = element("path", d="M-12 0H12", class_=f"line {kind}")
    return element("svg", drawn, viewBox="-13 -8 26 16", class_="icon", style="width:26px", aria_hidden="true")
