"""What plots are made of: scales, ticks, paths and axes. No library, no network, no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from trimtab.core.clock import Micros
from trimtab.web.figures import moment
from trimtab.web.markup import Markup, element, short

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight line from values to coordinates.

    Examples
    --------
    >>> Scale((0.0, 10.0), (100.0, 0.0))(2.5)
    75.0
    """

    domain: tuple[float, float]
    extent: tuple[float, float]

    def __call__(self, value: float) -> float:
        low, high = self.domain
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.extent[0] + share * (self.extent[1] - self.extent[0])


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and the rectangle inside it that holds the plot."""

    width: float
    height: float
    left: float = 46.0
    right: float = 16.0
    top: float = 16.0
    bottom: float = 30.0

    @property
    def x(self) -> tuple[float, float]:
        return self.left, self.width - self.right

    @property
    def y(self) -> tuple[float, float]:
        """Bottom first, so that larger values stand higher."""
        return self.height - self.bottom, self.top


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers inside ``[low, high]``, about as many as asked for.

    Examples
    --------
    >>> ticks(0.41, 0.58)
    [0.45, 0.5, 0.55]
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(unit for unit in (1.0, 2.0, 5.0, 10.0) if unit * power >= 0.75 * rough) * power
    first = math.ceil(low / step - 1e-9)
    return [round(first * step + index * step, 10) for index in range(int((high - first * step) / step + 1e-9) + 1)]


def padded(values: Sequence[float], *, share: float = 0.08) -> tuple[float, float]:
    """The range of the values with room around it; ``(0, 1)`` when there are none."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * 0.05 or 0.5
    return low - room, high + room


def month_starts(start: Micros, end: Micros) -> list[Micros]:
    """The first instants of the months inside ``[start, end]``."""
    found: list[Micros] = []
    at = moment(start)
    year, month = at.year, at.month
    while True:
        when = int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1_000_000
        if when > end:
            return found
        if when >= start:
            found.append(when)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


def line_path(points: Sequence[Point | None]) -> str:
    """A line through the points that breaks where a point is missing.

    Examples
    --------
    >>> line_path([(0, 0), (1, 2), None, (3, 3), (4, 4)])
    'M0 0L1 2M3 3L4 4'
    """
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{short(point[0])} {short(point[1])}")
        pen = "L"
    return "".join(parts)


def between_paths(upper: Sequence[Point | None], lower: Sequence[Point | None]) -> tuple[str, str]:
    """The area between two lines over the same x: where the first lies above the second, and where below.

    Above means nearer to the top of the picture. Segments that cross are cut where they cross.
    """
    above: list[str] = []
    below: list[str] = []
    for (a, b), (c, d) in zip(_pairs(upper), _pairs(lower), strict=True):
        if a is None or b is None or c is None or d is None:
            continue
        before, after = c[1] - a[1], d[1] - b[1]
        if before * after >= 0:
            (above if before + after >= 0 else below).append(_polygon(a, b, d, c))
            continue
        share = before / (before - after)
        cross = (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))
        (above if before > 0 else below).append(_polygon(a, cross, c))
        (above if after > 0 else below).append(_polygon(cross, b, d))
    return "".join(above), "".join(below)


def _pairs(points: Sequence[Point | None]) -> list[tuple[Point | None, Point | None]]:
    return list(pairwise(points))


def _polygon(*points: Point) -> str:
    return line_path(points) + "Z"


def picture(*content: object, frame: Frame, title: str, description: str, class_: str = "") -> Markup:
    """An SVG that scales with the page and says what it shows."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *content,
        class_=f"plot {class_}".strip(),
        viewBox=f"0 0 {short(frame.width)} {short(frame.height)}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def text(x: float, y: float, words: str, *, class_: str = "", anchor: str = "start") -> Markup:
    """Words at a place; the class sets size and colour."""
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def value_axis(
    frame: Frame, scale: Scale, *, label: str = "", about: int = 5, digits: int | None = None
) -> list[Markup]:
    """Grid lines and figures for the upright axis."""
    at = ticks(*scale.domain, about=about)
    step = at[1] - at[0] if len(at) > 1 else 1.0
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if digits is None else digits
    marks = [line(*_across(frame, scale(value)), class_="grid") for value in at]
    figures = [
        text(frame.left - 8, scale(value) + 4, f"{value:.{places}f}", class_="tick", anchor="end") for value in at
    ]
    name = [text(0, frame.top - 14, label, class_="axis")] if label else []
    return [*marks, *figures, *name]


def _across(frame: Frame, y: float) -> tuple[float, float, float, float]:
    return frame.x[0], y, frame.x[1], y


def month_axis(frame: Frame, scale: Scale) -> list[Markup]:
    """Months along the bottom, named where there is room for the name."""
    starts = month_starts(int(scale.domain[0]), int(scale.domain[1]))
    room = (frame.x[1] - frame.x[0]) / max(len(starts), 1)
    every = 1 if room >= 34 else 2 if room >= 17 else 3
    bottom = frame.y[0]
    parts: list[Markup] = [line(*_across(frame, bottom), class_="base")]
    for index, when in enumerate(starts):
        x = scale(when)
        parts.append(line(x, bottom, x, bottom + 5, class_="base"))
        if index % every == 0:
            at = moment(when)
            name = f"{at:%b %Y}" if at.month == 1 and index else f"{at:%b}"
            parts.append(text(x, bottom + 19, name, class_="tick", anchor="middle"))
    return parts
