"""The drift map: a table of cells, so that it can be read aloud, scrolled on a phone and kept small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from trimtab.core.clock import Micros
from trimtab.web.figures import day, moment, score
from trimtab.web.markup import Markup, element, joined
from trimtab.web.report_data import DriftCell, DriftMap, DriftRow

PREDICTION = "prediction"
"""The row of what the champion said; it stands apart from the features."""
_STEPS = ((0.35, 1), (0.7, 2), (1.0, 3), (1.5, 4), (2.5, 5))
"""PSI over its alarm line, and the step of the colour scale up to there; the steps from 4 on lie beyond the line."""


def step(cell: DriftCell) -> int:
    """The step of the colour scale: 0 no data, 1 to 3 below the alarm line, 4 to 6 beyond it.

    Examples
    --------
    >>> step(DriftCell(0.2, 0.25)), step(DriftCell(0.3, 0.25)), step(DriftCell(None, 0.25))
    (3, 4, 0)
    """
    ratio = excess(cell)
    if ratio is None:
        return 0
    return next((number for bound, number in _STEPS if ratio <= bound), 6)


def excess(cell: DriftCell) -> float | None:
    """PSI over its alarm line; ``None`` without data or without a line."""
    if cell.psi is None or not cell.alarm or not math.isfinite(cell.psi / cell.alarm):
        return None
    return cell.psi / cell.alarm


def peak(row: DriftRow) -> float:
    """The largest PSI over its alarm line; 0 without data."""
    return max((ratio for cell in row.cells if (ratio := excess(cell)) is not None), default=0.0)


def ranked(rows: Sequence[DriftRow]) -> list[DriftRow]:
    """Rows by how far they went beyond their line, furthest first."""
    return sorted(rows, key=lambda row: (-peak(row), row.feature))


def heat_table(drift: DriftMap, rows: Sequence[DriftRow], *, caption: str) -> Markup:
    """A map of the given rows over all weeks; the figures are in the cells, hidden from the eye only."""
    return element(
        "div",
        element(
            "table",
            element("caption", caption, class_="unseen"),
            element("thead", _months(drift.weeks)),
            element("tbody", joined(_row(row, drift.weeks) for row in rows)),
            class_="heat",
            data_weeks="|".join(day(week, year=True) for week in drift.weeks),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def _months(weeks: Sequence[Micros]) -> Markup:
    spans = [(name, len(list(group))) for name, group in groupby(f"{moment(week):%b}" for week in weeks)]
    cells = (element("th", name if width > 1 else "", colspan=width, scope="colgroup") for name, width in spans)
    return element("tr", element("td"), joined(cells))


def _row(row: DriftRow, weeks: Sequence[Micros]) -> Markup:
    lines = [cell.alarm for cell in row.cells]
    same = len(set(lines)) == 1
    cells = joined(_cell(cell, first=_opens_month(weeks, at), own_line=not same) for at, cell in enumerate(row.cells))
    return element(
        "tr",
        element("th", element("bdi", row.feature), scope="row", title=row.feature),
        cells,
        class_="first" if row.feature == PREDICTION else None,
        data_alarm=score(lines[0], digits=2) if same and lines else None,
    )


def _opens_month(weeks: Sequence[Micros], at: int) -> bool:
    return at > 0 and moment(weeks[at]).month != moment(weeks[at - 1]).month


def _cell(cell: DriftCell, *, first: bool, own_line: bool) -> Markup:
    """One cell; short, because a year of a wide model has thousands of them."""
    classes = f"h{step(cell)}{' m' if first else ''}{' x' if cell.severity == 'critical' else ''}"
    words = score(cell.psi, digits=2) if cell.psi is not None else "no data"
    line = f' data-alarm="{score(cell.alarm, digits=2)}"' if own_line and cell.alarm is not None else ""
    return Markup(f'<td class="{classes}"{line}>{words}</td>')
