"""The plots of the report: quality over time, calibration, and what each champion cost and gained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from trimtab.core.clock import WEEK, Micros
from trimtab.web.figures import count, day, known, period, score, seconds, signed
from trimtab.web.kinds import KINDS, kind_of, sign
from trimtab.web.markup import Markup, element
from trimtab.web.report_data import CalibrationBin, Champion, Decision, Gain, Score, WeekPoint
from trimtab.web.svg import (
    Frame,
    Point,
    Scale,
    between_paths,
    line,
    line_path,
    month_axis,
    padded,
    picture,
    text,
    ticks,
    value_axis,
)

Measure = Literal["loss", "auc", "ece"]
_HIGHER_IS_BETTER = {"auc"}
_LANE = 34.0
"""Height of the strip above a plot that carries the signs of decisions."""
_APART = 12.0
"""Least distance between two signs."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """Two lines over the same weeks."""

    middles: tuple[float, ...]
    frozen: tuple[Point | None, ...]
    trimtab: tuple[Point | None, ...]


def quality_chart(
    weeks: Sequence[WeekPoint],
    decisions: Sequence[Decision],
    *,
    measure: Measure,
    label: str,
    width: float,
    height: float,
) -> Markup:
    """A measure by week, frozen against Trimtab, the area between them tinted by who is better.

    Parameters
    ----------
    decisions
        Those whose kind is marked stand as signs above the plot; empty for a plot without them.
    width, height
        Of the picture; text keeps its size, so a narrow picture suits a phone.
    """
    marked = [(at, item) for at, item in enumerate(decisions) if kind_of(item.kind).marked]
    frame = Frame(width, height, top=26 + (_LANE if marked else 0), right=12)
    x = Scale((weeks[0].week, weeks[-1].week + WEEK), frame.x)
    read = _reader(measure)
    values = [v for w in weeks for v in (read(w.frozen), read(w.trimtab)) if v is not None and known(v)]
    y = Scale(padded(values), frame.y)
    lines = _Lines(
        tuple(x(week.week + WEEK / 2) for week in weeks),
        tuple(_point(x, y, week.week, read(week.frozen)) for week in weeks),
        tuple(_point(x, y, week.week, read(week.trimtab)) for week in weeks),
    )
    first, second = (lines.trimtab, lines.frozen) if measure in _HIGHER_IS_BETTER else (lines.frozen, lines.trimtab)
    better, worse = between_paths(first, second)
    return picture(
        *value_axis(frame, y, label=label),
        *month_axis(frame, x),
        element("path", class_="better", d=better),
        element("path", class_="worse", d=worse),
        *_rules(frame, x, marked),
        element("path", class_="line frozen", d=line_path(lines.frozen)),
        element("path", class_="line trimtab", d=line_path(lines.trimtab)),
        *_signs(frame, x, marked),
        *_hits(frame, x, weeks, measure=measure, label=label),
        frame=frame,
        title=f"{label} by week, frozen model against Trimtab",
        description=_quality_words(weeks, read, label, higher=measure in _HIGHER_IS_BETTER),
    )


def _reader(measure: Measure) -> Callable[[Score], float | None]:
    readers: dict[Measure, Callable[[Score], float | None]] = {
        "loss": lambda s: s.loss,
        "auc": lambda s: s.auc,
        "ece": lambda s: s.ece,
    }
    return readers[measure]


def _point(x: Scale, y: Scale, week: Micros, value: float | None) -> Point | None:
    return (x(week + WEEK / 2), y(value)) if value is not None and known(value) else None


def _rules(frame: Frame, x: Scale, marked: Sequence[tuple[int, Decision]]) -> list[Markup]:
    """A hair line down through the plot for each decision that changed what answers."""
    through = {"promote", "rollback", "fault", "force"}
    return [
        line(x(item.when), frame.top - 12, x(item.when), frame.y[0], class_=f"rule {kind_of(item.kind).tone}")
        for _, item in marked
        if item.kind in through
    ]


def _signs(frame: Frame, x: Scale, marked: Sequence[tuple[int, Decision]]) -> list[Markup]:
    """Signs in two strips, outcomes above and retraining below; each leads to its decision in the list."""
    outcome, retraining = frame.top - _LANE + 4, frame.top - 12
    parts = []
    last = {outcome: 0.0, retraining: 0.0}
    for index, item in marked:
        height = retraining if KINDS[item.kind].tone == "quiet" else outcome
        # Decisions of one day stand beside each other rather than on top of each other.
        at = last[height] = max(x(item.when), last[height] + _APART)
        tip = f"{day(item.when, year=True)} · {kind_of(item.kind).label}\n{item.sentence}"
        hit = element("circle", cx=at, cy=height, r=9, class_="hit", data_tip=tip)
        parts.append(element("a", sign(item.kind, x=at, y=height), hit, href=f"#decision-{index}", aria_label=tip))
    return parts


def _hits(frame: Frame, x: Scale, weeks: Sequence[WeekPoint], *, measure: Measure, label: str) -> list[Markup]:
    """One unseen column per week that carries the figures as a tooltip."""
    read = _reader(measure)
    parts = []
    for week in weeks:
        left, right = x(week.week), x(week.week + WEEK)
        tip = (
            f"Week of {day(week.week, year=True)}\nTrimtab {label.lower()} {score(read(week.trimtab), digits=4)}\n"
            f"Frozen {label.lower()} {score(read(week.frozen), digits=4)}\n{count(week.labelled)} labelled"
        )
        parts.append(
            element(
                "rect",
                x=left,
                y=frame.top,
                width=right - left,
                height=frame.y[0] - frame.top,
                class_="hit column",
                data_tip=tip,
            )
        )
    return parts


def _quality_words(
    weeks: Sequence[WeekPoint], read: Callable[[Score], float | None], label: str, *, higher: bool
) -> str:
    pairs = [(read(week.frozen), read(week.trimtab)) for week in weeks]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    better = sum((b > a) if higher else (b < a) for a, b in both)
    return f"Trimtab's {label.lower()} is better than the frozen model's in {better} of {len(both)} weeks."


def calibration_chart(
    frozen: Sequence[CalibrationBin], trimtab: Sequence[CalibrationBin], *, outcome: str, width: float
) -> Markup:
    """Predicted against observed share, with the number of requests per bin below."""
    bars, gap = 46.0, 34.0
    frame = Frame(width, width * 0.78 + bars + gap, top=22, bottom=bars + gap + 18)
    highest = max([b.predicted for b in (*frozen, *trimtab)] + [b.observed for b in (*frozen, *trimtab)] + [0.1])
    top = min(1.0, highest * 1.06)
    x, y = Scale((0.0, top), frame.x), Scale((0.0, top), frame.y)
    floor = frame.height - 18
    return picture(
        *value_axis(frame, y, label=f"Observed share {outcome}"),
        line(x(0), y(0), x(top), y(top), class_="ideal"),
        *_figures_below(frame, x),
        element("path", class_="line frozen", d=line_path([(x(b.predicted), y(b.observed)) for b in frozen])),
        element("path", class_="line trimtab", d=line_path([(x(b.predicted), y(b.observed)) for b in trimtab])),
        *_dots(frozen, x, y, who="frozen"),
        *_dots(trimtab, x, y, who="trimtab"),
        *_population(trimtab, x, floor=floor, tallest=bars - 8),
        text(frame.x[1], frame.height - 3, "requests by predicted share (Trimtab)", class_="tick", anchor="end"),
        frame=frame,
        title="Calibration, frozen model against Trimtab",
        description="On the diagonal, the predicted share is what was observed.",
    )


def _figures_below(frame: Frame, x: Scale) -> list[Markup]:
    step = 0.2 if x.domain[1] > 0.5 else 0.1
    at = [step * index for index in range(int(x.domain[1] / step + 1e-9) + 1)]
    bottom = frame.y[0]
    return [
        line(frame.x[0], bottom, frame.x[1], bottom, class_="base"),
        *(text(x(value), bottom + 17, f"{value:.1f}", class_="tick", anchor="middle") for value in at),
    ]


def _dots(bins: Sequence[CalibrationBin], x: Scale, y: Scale, *, who: str) -> list[Markup]:
    name = "Trimtab" if who == "trimtab" else "Frozen"
    return [
        element(
            "circle",
            cx=x(b.predicted),
            cy=y(b.observed),
            r=3.6,
            class_=f"dot {who}",
            data_tip=f"{name}\npredicted {b.predicted:.3f}\nobserved {b.observed:.3f}\n{count(b.rows)} requests",
        )
        for b in bins
    ]


def _population(bins: Sequence[CalibrationBin], x: Scale, *, floor: float, tallest: float) -> list[Markup]:
    most = max((b.rows for b in bins), default=1)
    return [
        element(
            "rect",
            x=x(b.predicted) - 5,
            y=floor - tallest * b.rows / most,
            width=10,
            height=tallest * b.rows / most,
            class_="bar",
            data_tip=f"{count(b.rows)} requests around {b.predicted:.2f}",
        )
        for b in bins
    ]


def champion_chart(champions: Sequence[Champion], *, width: float) -> Markup:
    """What each champion gained, as means with their intervals, and what its training cost."""
    later = [item for item in champions if item.versus_frozen or item.versus_previous]
    narrow = width < 600
    row, left = 54.0, 92.0 if narrow else 168.0
    cost = 0.0 if narrow else 190.0
    frame = Frame(width, 40 + row * len(later) + 30, left=left, right=cost + 14, top=40, bottom=30)
    gains = [g for item in later for g in (item.versus_frozen, item.versus_previous) if g is not None]
    edges = [0.0, *(g.low for g in gains), *(g.high for g in gains)]
    x = Scale(padded(edges, share=0.06), frame.x)
    longest = max((item.train_seconds for item in later), default=1.0) or 1.0
    bars = Scale((0.0, longest), (frame.x[1] + 36, width - 64))
    parts: list[Markup] = [*_gain_axis(frame, x)]
    if cost:
        parts.append(text(bars.extent[0], frame.top - 24, "Training time", class_="axis"))
    for index, item in enumerate(later):
        parts.extend(_champion_row(item, frame.top + row * index + row / 2, frame=frame, x=x))
        if cost:
            parts.extend(_cost_bar(item, frame.top + row * index + row / 2, bars=bars))
    return picture(
        *parts,
        frame=frame,
        title="What each champion gained and cost",
        description="Mean loss saved per request with its 95 % interval; right of zero, the newer model is better.",
    )


def _gain_axis(frame: Frame, x: Scale) -> list[Markup]:
    at = ticks(*x.domain, about=4)
    parts = [line(x(v), frame.top - 6, x(v), frame.y[0], class_="grid" if v else "zero") for v in at]
    parts += [
        text(x(v), frame.y[0] + 18, signed(v, digits=3) if v else "0", class_="tick", anchor="middle") for v in at
    ]
    parts.append(text(0, frame.top - 24, "Loss saved per request", class_="axis"))
    return parts


def _champion_row(item: Champion, y: float, *, frame: Frame, x: Scale) -> list[Markup]:
    parts = [
        text(0, y - 2, item.version[:8], class_="name mono"),
        text(0, y + 14, period(item.since, item.until), class_="tick"),
        line(0, y + 27, frame.width, y + 27, class_="grid"),
    ]
    pairs: list[tuple[Gain | None, str, float, str]] = [
        (item.versus_frozen, "trimtab", -8, "against the frozen model"),
        (item.versus_previous, "previous", 8, "against its predecessor"),
    ]
    for gain, who, shift, words in pairs:
        if gain is None:
            continue
        interval = f"95 %: {signed(gain.low)} to {signed(gain.high)}"
        tip = f"{item.version[:8]} {words}\n{signed(gain.mean)} per request\n{interval}"
        parts.append(line(x(gain.low), y + shift, x(gain.high), y + shift, class_=f"whisker {who}"))
        parts.append(element("circle", cx=x(gain.mean), cy=y + shift, r=4.6, class_=f"dot {who}", data_tip=tip))
    return parts


def _cost_bar(item: Champion, y: float, *, bars: Scale) -> list[Markup]:
    end = bars(item.train_seconds)
    tip = f"{seconds(item.train_seconds)} for {count(item.rows)} rows"
    start = bars.extent[0]
    return [
        element("rect", x=start, y=y - 7, width=max(end - start, 1.0), height=14, class_="bar", data_tip=tip, rx=2),
        text(end + 7, y + 4, seconds(item.train_seconds), class_="tick"),
    ]
