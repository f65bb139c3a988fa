"""Latency as a table and as a distribution, in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trimtab.web.figures import MINUS, MISSING, count
from trimtab.web.markup import Markup, element, joined
from trimtab.web.page import table
from trimtab.web.svg import Frame, Scale, line, picture, text
from trimtab.web.terminal import aligned

_BAR = 40
_HEADS = ("Stage", "Budget", "p{percentile:g}", "Variance", "Mean", "p50", "p95", "p99")


def latency_text(arm: Mapping[str, Any]) -> Iterator[str]:
    """An arm as lines: what was measured, the table, and how the times are distributed.

    Parameters
    ----------
    arm
        One of ``arms`` of what ``trimtab latency --json`` prints.
    """
    budget = arm["budget"]
    yield (
        f"{arm['model']} {str(arm['version'])[:12]} {arm['arm']}: {count(arm['requests'])} requests, "
        f"budget {budget['total_ms']:g} ms at p{budget['percentile']:g}"
    )
    rows = [[*_cells(stage), "over" if stage["broken"] else ""] for stage in [*arm["stages"], arm["total"]]]
    heads = [head.format(**budget).lower() for head in _HEADS]
    yield aligned([[*heads, ""], *rows], left=(0, len(heads))).replace(MISSING, "-").replace(MINUS, "-")
    yield f"over budget: {', '.join(arm['broken'])}" if arm["broken"] else "within budget"
    for name, bars in arm["distribution"].items():
        if bars:
            yield ""
            yield f"{name}, requests by time:"
            yield from bar_lines(bars)


def bar_lines(bars: Sequence[Mapping[str, Any]]) -> list[str]:
    """A distribution as bars of text.

    Examples
    --------
    >>> print("\\n".join(bar_lines([{"upto_ms": 1.0, "count": 20}, {"upto_ms": None, "count": 1}])))
    <= 1 ms  20  ########################################
    above     1  ##
    """
    most = max(bar["count"] for bar in bars)
    lines = [[_upto(bar["upto_ms"]), count(bar["count"]), "#" * -(-_BAR * bar["count"] // most)] for bar in bars]
    return aligned(lines, left=(0, 2)).split("\n")


def latency_section(arms: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Every arm of a model on the status page; None when nothing was answered."""
    if not arms:
        return None
    return joined([element("h3", "Latency"), *(_arm(arm) for arm in arms)])


def _arm(arm: Mapping[str, Any]) -> Markup:
    budget = arm["budget"]
    words = (
        f"{str(arm['arm']).capitalize()} {str(arm['version'])[:12]}, {count(arm['requests'])} requests, milliseconds; "
        f"the budget is {budget['total_ms']:g} ms at p{budget['percentile']:g}."
    )
    heads = [head.format(**budget) for head in _HEADS]
    rows = [
        [element("strong", cell) if stage["broken"] and at in (2, 3) else cell for at, cell in enumerate(_cells(stage))]
        for stage in [*arm["stages"], arm["total"]]
    ]
    plots = [latency_plot(name, bars) for name, bars in arm["distribution"].items() if bars]
    return joined((element("p", words), table(heads, rows), *plots))


def latency_plot(name: str, bars: Sequence[Mapping[str, Any]], *, width: float = 560, height: float = 180) -> Markup:
    """The distribution of a duration as columns between round bounds, higher for more requests."""
    frame = Frame(width, height, left=8, bottom=36, top=30)
    most = max(bar["count"] for bar in bars)
    y = Scale((0, most), frame.y)
    room = (frame.x[1] - frame.x[0]) / len(bars)
    parts = [line(frame.x[0], frame.y[0], frame.x[1], frame.y[0], class_="base")]
    for at, bar in enumerate(bars):
        left, top = frame.x[0] + at * room, y(bar["count"])
        tip = f"{_upto(bar['upto_ms'])}: {count(bar['count'])} requests"
        parts.append(
            element(
                "rect",
                element("title", tip),
                x=left + 1,
                y=top,
                width=room - 2,
                height=frame.y[0] - top,
                class_="trimtab bar",
                fill="currentColor",
                fill_opacity=0.55,
                data_tip=tip,
            )
        )
        edge = "" if bar["upto_ms"] is None else f"{bar['upto_ms']:g}"
        parts.append(text(left + room, frame.y[0] + 16, edge, class_="tick", anchor="middle"))
    parts.append(text(frame.x[0], frame.top - 14, f"{name}: requests by milliseconds", class_="axis"))
    said = "; ".join(f"{_upto(bar['upto_ms'])} {count(bar['count'])}" for bar in bars)
    return picture(*parts, frame=frame, title=f"Distribution of {name}", description=said)


def _cells(stage: Mapping[str, Any]) -> list[str]:
    return [
        str(stage["part"]),
        _ms(stage["budget_ms"]),
        _ms(stage["actual_ms"]),
        _variance(stage["variance"]),
        *(_ms(stage[name]) for name in ("mean_ms", "p50_ms", "p95_ms", "p99_ms")),
    ]


def _ms(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _variance(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:+.0f} %".replace("-", MINUS)


def _upto(upto_ms: float | None) -> str:
    return "above" if upto_ms is None else f"<= {upto_ms:g} ms"
