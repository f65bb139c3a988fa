"""The page of a replay: what retraining under the policy would have brought, and how it was decided."""

from __future__ import annotations

from calendar import month_name
from collections.abc import Iterable, Sequence
from itertools import groupby

from trimtab.core.clock import iso
from trimtab.web.charts import Measure, quality_chart
from trimtab.web.evidence import calibration, champions, drift, run
from trimtab.web.figures import MISSING, count, day, known, minute, moment, percent, period, score, signed
from trimtab.web.kinds import icon, kind_of
from trimtab.web.markup import Markup, element, joined
from trimtab.web.page import brand, facts, folded, legend, page, section, swatch, table, tiles
from trimtab.web.report_data import Decision, Gain, MonthRow, ReplayReport, Score

LOSSES = {"log_loss": "Log loss", "squared_error": "Squared error"}


def render_report(report: ReplayReport) -> str:
    """One self-contained HTML file.

    It needs no script to be read, fetches nothing, follows the reader's light or dark setting, and has a table under
    every plot. Equal reports give equal bytes.

    Parameters
    ----------
    report
        What happened; nothing is computed here but shares and differences of its figures.

    Returns
    -------
    The document as text, to be written as UTF-8.
    """
    first = (_quality(report), _months(report), _decisions(report))
    body = element("main", *first, champions(report), drift(report), calibration(report), run(report))
    foot = element(
        "footer", f"A replay by Trimtab, {period(report.start, report.end - 1, year=True)}. All times are UTC."
    )
    title = f"{report.project} · {report.model} · replay"
    return page(title, _head(report), body, foot, description=headline(report))


def headline(report: ReplayReport) -> str:
    """What came of it, in one sentence, whichever way it went.

    Examples
    --------
    >>> from trimtab.web.report_data import MonthRow, ReplayReport, Score
    >>> row = MonthRow("total", 10, 10, 0.2, Score(0.5), Score(0.46))
    >>> headline(ReplayReport("p", "m", "binary", "late", 0, 1, (), row, (), (), (), "d"))
    'Retraining under this policy lowered log loss by 8.0 % against the model that was never touched.'
    """
    name = LOSSES.get(report.loss, report.loss).lower()
    before, after = report.total.frozen.loss, report.total.trimtab.loss
    if before is None or after is None or not before or not known(after / before):
        return "No labels matured, so the two policies cannot be compared."
    if len(report.champions) == 1:
        rest = "retraining made no difference" if before == after else "only canaries answered otherwise for a while"
        return f"No version took the place of the first: {rest}."
    share = (before - after) / before
    if report.gain is not None and report.gain.low <= 0 <= report.gain.high:
        return f"No difference in {name} between retraining and leaving the model alone can be told from chance."
    verb = "lowered" if share > 0 else "raised"
    return (
        f"Retraining under this policy {verb} {name} by {percent(abs(share))} against the model that was never touched."
    )


def _head(report: ReplayReport) -> Markup:
    over = element(
        "div",
        brand(),
        element("span", report.project),
        element("span", report.model),
        element("span", period(report.start, report.end - 1, year=True)),
        class_="over",
    )
    return element(
        "header",
        over,
        element("h1", headline(report)),
        element("p", *_lead(report), class_="lead"),
        tiles(_figures(report)),
        class_="top",
    )


def _lead(report: ReplayReport) -> Iterable[object]:
    kinds = [decision.kind for decision in report.decisions]
    lost = [month for month in report.months if month.lost]
    yield element("b", f"{count(report.total.requests)} requests")
    yield ", each answered through the serving pipeline with only what was known at the time. "
    yield f"{kinds.count('train')} models were trained, the first included: {kinds.count('promote')} promoted, "
    yield f"{kinds.count('reject')} rejected and {kinds.count('rollback')} rolled back. "
    if lost:
        months = ", ".join(_month_name(month.month) for month in lost)
        yield f"Retraining lost in {len(lost)} of {len(report.months)} months ({months}); they are marked below."
    elif report.months:
        yield f"It lost in none of {len(report.months)} months."


def _figures(report: ReplayReport) -> Iterable[tuple[str, object, object]]:
    frozen, trimtab = report.total.frozen, report.total.trimtab
    name = LOSSES.get(report.loss, report.loss)
    yield name, score(trimtab.loss), f"frozen {score(frozen.loss)}"
    if report.gain is not None:
        yield "Saved per request", signed(report.gain.mean), _interval(report.gain)
    if known(trimtab.auc):
        yield "AUC", score(trimtab.auc), f"frozen {score(frozen.auc)}"
    if known(trimtab.ece):
        yield "Calibration error", score(trimtab.ece), f"frozen {score(frozen.ece)}"
    changes = max(len(report.champions) - 1, 0)
    yield "Champion changes", str(changes), f"in {len(report.weeks)} weeks"
    if report.parity is not None:
        wrong = report.parity.mismatch + report.parity.missing + report.parity.extra
        yield "Feature mismatches", count(wrong), f"{count(report.parity.values)} values recomputed"


def _interval(gain: Gain) -> str:
    return f"95 %: {signed(gain.low)} to {signed(gain.high)}"


def _quality(report: ReplayReport) -> Markup | None:
    if not report.weeks:
        return None
    name = LOSSES.get(report.loss, report.loss)
    marked = sorted({d.kind for d in report.decisions if kind_of(d.kind).marked}, key=lambda k: kind_of(k).label)
    lines = ((swatch("trimtab"), "Trimtab"), (swatch("frozen"), "Frozen first model"))
    tints = ((swatch("better"), "Trimtab better"), (swatch("worse"), "Trimtab worse"))
    signs = ((icon(kind), kind_of(kind).label) for kind in marked)
    others: tuple[tuple[Measure, str], ...] = (("auc", "AUC"), ("ece", "Calibration error"))
    small = [
        (measure, label)
        for measure, label in others
        if any(known(getattr(week.trimtab, measure)) for week in report.weeks)
    ]
    return section(
        "Quality over time",
        legend(*lines, *tints, *signs),
        _two_sizes(report, "loss", name, decisions=report.decisions),
        element(
            "div",
            *(_two_sizes(report, measure, label, decisions=(), wide=520, height=230) for measure, label in small),
            class_="pair",
        ),
        folded("The weeks as a table", _weeks_table(report)),
        words="By week of asking, on requests whose labels matured. Lower is better"
        + (", except for the AUC." if small else ".")
        + " Select a sign to read its decision.",
        anchor="quality",
    )


def _two_sizes(
    report: ReplayReport,
    measure: Measure,
    label: str,
    *,
    decisions: Sequence[Decision],
    wide: float = 1064,
    height: float = 400,
) -> Markup:
    """The plot drawn twice, because text that shrinks with the picture cannot be read on a phone."""
    sizes = (("wide", wide, height), ("narrow", 380.0, height * 0.8 if decisions else 210.0))
    return element(
        "figure",
        *(
            element(
                "div",
                quality_chart(report.weeks, decisions, measure=measure, label=label, width=width, height=tall),
                class_=name,
            )
            for name, width, tall in sizes
        ),
    )


def _scores(frozen: Score, trimtab: Score, *, binary: bool) -> list[object]:
    better = frozen.loss is not None and trimtab.loss is not None and trimtab.loss <= frozen.loss
    loss = element("span", score(trimtab.loss), class_="up" if better else "down")
    if not binary:
        return [score(frozen.loss), loss]
    return [score(frozen.auc), score(trimtab.auc), score(frozen.loss), loss, score(frozen.ece), score(trimtab.ece)]


def _score_heads(report: ReplayReport) -> list[str]:
    name = LOSSES.get(report.loss, report.loss)
    names = ["AUC", name, "ECE"] if report.task == "binary" else [name]
    return [f"{measure} {who}" for measure in names for who in ("frozen", "Trimtab")]


def _weeks_table(report: ReplayReport) -> Markup:
    binary = report.task == "binary"
    rows = (
        [day(week.week, year=True), count(week.labelled), *_scores(week.frozen, week.trimtab, binary=binary)]
        for week in report.weeks
    )
    return table(["Week of", "Labelled", *_score_heads(report)], rows)


def _month_name(month: str) -> str:
    return month_name[int(month[5:7])] if len(month) == len("2013-03") else month


def _months(report: ReplayReport) -> Markup | None:
    if not report.months:
        return None
    rate = f"Share {report.outcome}" if report.task == "binary" else f"Mean {report.outcome}"
    name = LOSSES.get(report.loss, report.loss)
    measures = ["AUC", name, "ECE"] if report.task == "binary" else [name]
    top = element(
        "tr",
        joined(element("th", head, scope="col", rowspan=2) for head in ("Month", "Requests", "Labelled", rate)),
        joined(element("th", measure, scope="colgroup", colspan=2, class_="group") for measure in measures),
    )
    below = element("tr", joined(element("th", who, scope="col") for _ in measures for who in ("frozen", "Trimtab")))
    rows = joined(_month_row(row, report) for row in (*report.months, report.total))
    grid = element("table", element("thead", top, below), element("tbody", rows), class_="months")
    return section(
        "Month by month",
        element("div", grid, class_="scroll", tabindex="0", role="region", aria_label="Months"),
        words="Both policies on the same requests. A month that retraining lost is marked.",
        anchor="months",
    )


def _month_row(row: MonthRow, report: ReplayReport) -> Markup:
    binary = report.task == "binary"
    coverage = percent(row.labelled / row.requests) if row.requests else MISSING
    base = percent(row.base_rate) if binary else score(row.base_rate)
    cells = [count(row.requests), coverage, base, *_scores(row.frozen, row.trimtab, binary=binary)]
    total = row.month == "total"
    mark = element("span", "lost", class_="tag", title="Retraining lost") if row.lost else None
    return element(
        "tr",
        element("th", "Total" if total else f"{_month_name(row.month)} {row.month[:4]}", mark, scope="row"),
        joined(element("td", cell) for cell in cells),
        class_="total" if total else "lost" if row.lost else None,
    )


def _decisions(report: ReplayReport) -> Markup | None:
    if not report.decisions:
        return None
    numbered = list(enumerate(report.decisions))
    groups = [
        (name, list(group)) for name, group in groupby(numbered, key=lambda pair: f"{moment(pair[1].when):%B %Y}")
    ]
    lists = joined(_decision_month(name, group) for name, group in groups)
    return section(
        f"{count(len(numbered))} decisions",
        lists,
        words="In the order they were taken, each with the evidence it was taken on.",
        anchor="decisions",
    )


def _decision_month(name: str, group: Sequence[tuple[int, Decision]]) -> Markup:
    items = element("ol", joined(_decision(index, item) for index, item in group), class_="log")
    return joined((element("p", name, class_="month"), items))


def _decision(index: int, item: Decision) -> Markup:
    kind = kind_of(item.kind)
    return element(
        "li",
        element("time", minute(item.when), datetime=iso(item.when)),
        element("span", icon(item.kind), kind.label, class_="kind"),
        element(
            "div",
            folded(item.sentence, facts(item.evidence)) if item.evidence else item.sentence,
            class_="what",
        ),
        id=f"decision-{index}",
    )
