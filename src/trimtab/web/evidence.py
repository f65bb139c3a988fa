"""The later sections of a report: drift, calibration, champions, and how the run itself went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trimtab.web.charts import calibration_chart, champion_chart
from trimtab.web.figures import MISSING, count, day, minute, percent, plain, score, seconds, signed
from trimtab.web.heatmap import PREDICTION, excess, heat_table, peak, ranked
from trimtab.web.kinds import icon
from trimtab.web.markup import Markup, element, joined
from trimtab.web.page import folded, legend, section, swatch, table
from trimtab.web.report_data import CalibrationBin, Champion, DriftMap, DriftRow, Fault, Gain, ReplayReport

_SHOWN = 20
"""Features on the map before the rest is folded away."""


def drift(report: ReplayReport) -> Markup | None:
    """Features by weeks against their alarm lines."""
    if report.drift is None:
        return None
    rows = ranked(report.drift.features)
    first, rest = rows[:_SHOWN], rows[_SHOWN:]
    prediction = DriftRow(PREDICTION, report.drift.prediction.cells)
    return section(
        "Drift",
        legend((_scale(), "PSI below and beyond the alarm line"), (_step(0), "not enough data"), (_dot(), "critical")),
        heat_table(report.drift, [prediction, *first], caption=f"The prediction and {len(first)} features by week"),
        folded(
            f"The other {len(rest)} features",
            heat_table(report.drift, rest, caption="The other features by week"),
        )
        if rest
        else None,
        folded("Drift as a table", _drift_table(report.drift, [prediction, *rows])),
        words=(
            "Distance of each week from the champion's training data, as PSI. Every feature has a line of its own: "
            "what ordinary weeks of the training data show. Drift of a feature informs; only drift of the prediction "
            "or a loss of quality leads to retraining."
        ),
        anchor="drift",
    )


def _scale() -> Markup:
    steps = [element("i", class_=f"h{number}") for number in (1, 2, 3)]
    beyond = [element("i", class_=f"h{number}") for number in (4, 5, 6)]
    return element("span", *steps, element("b"), *beyond, class_="scale", aria_hidden="true")


def _step(number: int) -> Markup:
    return element("span", element("i", class_=f"h{number}"), class_="scale", aria_hidden="true")


def _dot() -> Markup:
    return element("span", element("i", class_="h5 x"), class_="scale", aria_hidden="true")


def _drift_table(drift: DriftMap, rows: Sequence[DriftRow]) -> Markup:
    return table(
        ["Feature", "Weeks with data", "Weeks beyond the line", "Highest PSI", "Alarm line then", "Week of"],
        (_drift_line(drift, row) for row in rows),
    )


def _drift_line(drift: DriftMap, row: DriftRow) -> list[str]:
    ratios = [excess(cell) for cell in row.cells]
    beyond = sum(ratio is not None and ratio > 1 for ratio in ratios)
    measured = sum(cell.psi is not None for cell in row.cells)
    top = peak(row)
    at = next((index for index, ratio in enumerate(ratios) if ratio == top), None)
    if at is None:
        return [row.feature, "0", "0", MISSING, MISSING, MISSING]
    cell = row.cells[at]
    when = day(drift.weeks[at], year=True)
    return [row.feature, str(measured), str(beyond), score(cell.psi, digits=2), score(cell.alarm, digits=2), when]


def calibration(report: ReplayReport) -> Markup | None:
    """Predicted against observed share."""
    frozen, trimtab = report.calibration_frozen, report.calibration_trimtab
    if not (frozen and trimtab):
        return None
    chart = calibration_chart(frozen, trimtab, outcome=report.outcome, width=520)
    narrow = calibration_chart(frozen, trimtab, outcome=report.outcome, width=380)
    figure = element("figure", element("div", chart, class_="wide"), element("div", narrow, class_="narrow"))
    tables = [element("h3", "Trimtab"), _bins_table(trimtab), element("h3", "Frozen first model"), _bins_table(frozen)]
    return section(
        "Calibration",
        legend((swatch("trimtab"), "Trimtab"), (swatch("frozen"), "Frozen first model")),
        element("div", figure, element("div", *_calibration_words(report)), class_="pair"),
        folded("Calibration as a table", *tables),
        words="When it says 30 %, does it happen three times in ten? On the diagonal it does.",
        anchor="calibration",
    )


def _calibration_words(report: ReplayReport) -> Iterable[Markup]:
    yield element("h3", "Largest differences")
    rows = []
    for name, bins in (("Trimtab", report.calibration_trimtab), ("Frozen", report.calibration_frozen)):
        worst = sorted(bins, key=lambda b: -abs(b.observed - b.predicted) * b.rows)[:3]
        rows += [[name, percent(b.predicted), percent(b.observed), count(b.rows)] for b in worst]
    yield table(["Model", "Predicted", "Observed", "Requests"], rows)
    yield element("p", "Weighted by the number of requests in the bin.", class_="lead", style="font-size:.88rem")


def _bins_table(bins: Sequence[CalibrationBin]) -> Markup:
    return table(
        ["Predicted", "Observed", "Difference", "Requests"],
        (
            [percent(b.predicted), percent(b.observed), signed(b.observed - b.predicted, digits=3), count(b.rows)]
            for b in bins
        ),
    )


def champions(report: ReplayReport) -> Markup | None:
    """What each version cost and gained."""
    later = [item for item in report.champions if item.versus_frozen or item.versus_previous]
    grid = folded("Champions as a table", _champions_table(report.champions), opened=not later)
    if not report.champions:
        return None
    figure = (
        element(
            "figure",
            element("div", champion_chart(report.champions, width=1064), class_="wide"),
            element("div", champion_chart(report.champions, width=380), class_="narrow"),
        )
        if later
        else None
    )
    return section(
        "What each champion cost and gained",
        legend((_mark("trimtab"), "against the frozen model"), (_mark("previous"), "against its predecessor"))
        if later
        else None,
        figure,
        grid,
        words=(
            "Measured while it was live, on requests that both models scored; whole days are resampled, because "
            "requests of one day depend on each other."
        ),
        anchor="champions",
    )


def _mark(who: str) -> Markup:
    return element(
        "svg", element("circle", r=4.6, class_=f"dot {who}"), viewBox="-8 -8 16 16", class_="icon", aria_hidden="true"
    )


def _champions_table(items: Sequence[Champion]) -> Markup:
    return table(
        ["Version", "Live from", "Until", "Trained until", "Rows", "Training", "Against frozen", "Against predecessor"],
        (
            [
                element("span", item.version[:12], class_="mono"),
                day(item.since, year=True),
                day(item.until, year=True) if item.until is not None else "end",
                day(item.trained_until, year=True),
                count(item.rows),
                seconds(item.train_seconds),
                _gain(item.versus_frozen),
                _gain(item.versus_previous),
            ]
            for item in items
        ),
    )


def _gain(gain: Gain | None) -> Markup | str:
    if gain is None:
        return MISSING
    tone = "up" if gain.low > 0 else "down" if gain.high < 0 else None
    return element("span", f"{signed(gain.mean)} ({signed(gain.low)} to {signed(gain.high)})", class_=tone)


def run(report: ReplayReport) -> Markup:
    """How the run itself went: faults, data kept out, parity, counts and time."""
    return section(
        "How the run went",
        _faults(report.faults),
        element("div", _counts(report), _timings(report), class_="pair"),
        element("div", _quarantine(report), _parity(report), class_="pair"),
        element("h3", "Decision digest"),
        element("p", element("span", report.digest, class_="mono digest")),
        words="Equal input, policy and seed give an equal decision digest. Times are measured and not part of it.",
        anchor="run",
    )


def _faults(faults: Sequence[Fault]) -> Markup | None:
    if not faults:
        return None
    rows = (
        [
            element("span", icon("fault"), " ", fault.name, class_="kind"),
            joined((element("b", minute(fault.started)), " ", fault.what)),
            _met(fault.detected, fault.detection, missing="not detected"),
            _met(fault.contained, fault.containment, missing="not contained"),
        ]
        for fault in faults
    )
    grid = table(["Fault on stage", "What was broken", "Detected", "Contained"], rows, words=(1, 2, 3))
    return joined((element("h3", "Faults on stage"), grid))


def _met(when: int | None, words: str, *, missing: str) -> Markup:
    if when is None:
        return element("span", missing, class_="tag")
    return joined((element("b", minute(when)), " ", words))


def _counts(report: ReplayReport) -> Markup | None:
    if not report.counts:
        return None
    rows = ([name, count(value)] for name, value in report.counts.items())
    return element("div", element("h3", "Counts"), table(["What", "How many"], rows))


def _timings(report: ReplayReport) -> Markup | None:
    if not report.timings:
        return None
    longest = max(report.timings.values()) or 1.0
    body = joined(
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", seconds(value)),
            element("td", element("span", class_="meter", style=f"width:{100 * value / longest:.1f}%"), class_="gauge"),
        )
        for name, value in report.timings.items()
    )
    head = element(
        "thead", element("tr", element("th", "Stage", scope="col"), element("th", "Time", scope="col"), element("th"))
    )
    return element(
        "div",
        element("h3", "Time by stage"),
        element("div", element("table", head, element("tbody", body)), class_="scroll"),
    )


def _quarantine(report: ReplayReport) -> Markup:
    rows = [
        [source, reason, count(value)]
        for source, reasons in report.quarantine.items()
        for reason, value in reasons.items()
    ]
    content = table(["Source", "Reason", "Rows"], rows, words=(1,)) if rows else element("p", "No row was kept out.")
    return element("div", element("h3", "Rows in quarantine"), content)


def _parity(report: ReplayReport) -> Markup | None:
    if report.parity is None:
        return None
    parity = report.parity
    rows = [
        ["Predictions sampled", count(parity.sampled)],
        ["Values compared", count(parity.values)],
        ["Mismatch", count(parity.mismatch)],
        ["Missing", count(parity.missing)],
        ["Extra", count(parity.extra)],
        ["Largest relative difference", plain(parity.largest)],
    ]
    return element("div", element("h3", "Served against recomputed features"), table(["What", "How many"], rows))
