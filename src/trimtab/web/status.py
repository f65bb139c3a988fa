"""The status page: what is live, what is under way, what was decided last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.web.figures import MISSING, count, percent, plain, score
from trimtab.web.kinds import icon, kind_of
from trimtab.web.latency import latency_section
from trimtab.web.markup import Markup, element, joined
from trimtab.web.page import brand, facts, folded, page, section, table

_REFRESH_S = 15


def render_status(status: Mapping[str, Any]) -> str:
    """The status as one self-contained HTML page that asks again every few seconds.

    Parameters
    ----------
    status
        What ``trimtab status --json`` prints. Times are ISO 8601 text; a field that is missing or ``None`` is shown
        as not known. ::

            project    str
            now        str, the platform's own clock
            ledger     {events: int, head: str, epoch: int}
            control    {state: "running" | "gone", pid: int | None, since: str | None}
            models     list of
              name       str
              live       {version, since, actor, reason, approved_by} or None
              arms       list of {name, version, share}
              rollout    {id, challenger, step, share, since, rows, evidence: {...}} or None
              waiting    {what, version, since} or None: an approval that a person owes
              training   {job, since, trigger} or None
              quality    {week, loss, limit, coverage, labelled} or None
              latency    list of what `trimtab latency --json` has as ``arms``
              days       list of {day, version, answered, loss, coverage}, newest first
              drift      list of {feature, severity, psi, alarm, rows, week}
              decisions  list of {when, kind, sentence, evidence}, newest first
            batches    list of {model, in, out, every, next, last: {result, due, ...} or None}
            sources    list of {name, kind, rows, quarantined, watermark: {seq, known}, behind_s}
            workers    list of {name, pid, state, generation, answered, errors, p99_ms, since}
            records    {written, lost, refusing}

    Returns
    -------
    The document as text, to be served as UTF-8.
    """
    project = str(status.get("project", ""))
    models = status.get("models") or []
    body = element(
        "main",
        *(_model(model) for model in models),
        None if models else section("No model yet", words="Nothing is declared, or nothing has been trained."),
        _sources(status.get("sources") or []),
        _batches(status.get("batches") or []),
        _workers(status.get("workers") or []),
        _refusing(status.get("records") or {}),
        _lost(status.get("records") or {}),
        _records((status.get("records") or {}).get("tables") or {}),
        _ledger(status),
    )
    return page(
        f"{project} · status", _head(project, status), body, description=f"Status of {project}", refresh_s=_REFRESH_S
    )


def _head(project: str, status: Mapping[str, Any]) -> Markup:
    over = element(
        "div",
        brand(),
        element("span", project),
        element("span", _when(status.get("now")), " UTC"),
        class_="over",
    )
    gone = (status.get("control") or {}).get("state") == "gone"
    banner = element(
        "p",
        "The control process is not running. Workers go on answering from the last route; nothing is decided.",
        class_="banner",
        role="status",
    )
    return element("header", over, element("h1", _headline(status)), banner if gone else None, class_="top")


def _headline(status: Mapping[str, Any]) -> str:
    models = status.get("models") or []
    live = sum(bool(model.get("live")) for model in models)
    under_way = [str(model.get("name")) for model in models if model.get("rollout")]
    waiting = [str(model.get("name")) for model in models if model.get("waiting")]
    if waiting:
        return f"{', '.join(waiting)} is waiting for an approval."
    if under_way:
        return f"A rollout of {', '.join(under_way)} is under way."
    return f"{live} of {len(models)} models live, no rollout under way."


def _when(value: object) -> str:
    """ISO 8601 text to the minute."""
    return str(value)[:16].replace("T", " ") if value else MISSING


def _version(value: object) -> Markup:
    return element("span", str(value or MISSING)[:12], class_="mono", title=str(value or ""))


def _model(model: Mapping[str, Any]) -> Markup:
    return section(
        str(model.get("name")),
        _live(model),
        _waiting(model.get("waiting")),
        _rollout(model.get("rollout")),
        _quality(model.get("quality")),
        _days(model.get("days") or []),
        latency_section(model.get("latency") or []),
        element("h3", "Last decisions"),
        _decisions(model.get("decisions") or []),
        element("h3", "Drift"),
        _drift(model.get("drift") or []),
    )


def _live(model: Mapping[str, Any]) -> Markup:
    live = model.get("live")
    if not live:
        return element("p", "No version is live.")
    training = model.get("training")
    fields: dict[str, object] = {
        "live version": str(live.get("version")),
        "since": _when(live.get("since")),
        "put live by": live.get("actor"),
        "approved by": live.get("approved_by"),
        "because": live.get("reason"),
    }
    if training:
        fields["training now"] = f"{training.get('trigger')} since {_when(training.get('since'))}"
    return facts({name: value for name, value in fields.items() if value})


def _waiting(waiting: Mapping[str, Any] | None) -> Markup | None:
    if not waiting:
        return None
    words = f"{waiting.get('what')} since {_when(waiting.get('since'))}: "
    return element("p", words, _version(waiting.get("version")), class_="banner")


def _rollout(rollout: Mapping[str, Any] | None) -> Markup | None:
    if not rollout:
        return None
    share = rollout.get("share")
    fields = {
        "challenger": rollout.get("challenger"),
        "step": rollout.get("step"),
        "share of answers": percent(share, digits=0) if share else "none, shadow only",
        "since": _when(rollout.get("since")),
        "rows compared": rollout.get("rows"),
        **(rollout.get("evidence") or {}),
    }
    return joined((element("h3", "Rollout under way"), facts(fields)))


def _quality(quality: Mapping[str, Any] | None) -> Markup | None:
    if not quality:
        return None
    fields = {
        "week of": quality.get("week"),
        "loss": score(quality.get("loss"), digits=4),
        "limit": score(quality.get("limit"), digits=4),
        "labels arrived": percent(quality.get("coverage")),
    }
    return joined((element("h3", "Last matured week"), facts(fields)))


def _days(days: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not days:
        return None
    rows = (
        [
            str(day.get("day")),
            _version(day.get("version")),
            count(day.get("answered") or 0),
            score(day.get("loss"), digits=4),
            percent(day.get("coverage")),
        ]
        for day in days
    )
    heading = element("h3", "Matured days")
    return joined((heading, table(["Day", "Version", "Answered", "Mean loss", "Labels arrived"], rows, words=(1,))))


def _decisions(decisions: Sequence[Mapping[str, Any]]) -> Markup:
    if not decisions:
        return element("p", "None yet.")
    return element("ol", joined(_decision(item) for item in decisions), class_="log")


def _decision(item: Mapping[str, Any]) -> Markup:
    kind, sentence, evidence = str(item.get("kind")), str(item.get("sentence")), item.get("evidence")
    return element(
        "li",
        element("time", _when(item.get("when")), datetime=item.get("when")),
        element("span", icon(kind), kind_of(kind).label, class_="kind"),
        element("div", folded(sentence, facts(evidence)) if evidence else sentence, class_="what"),
    )


_TONES = {"ok": "tag good", "insufficient_data": "tag quiet"}


def _drift(rows: Sequence[Mapping[str, Any]]) -> Markup:
    if not rows:
        return element("p", "No window has been compared yet.")
    order = ["critical", "warning", "insufficient_data", "ok"]
    ranked = sorted(rows, key=lambda row: order.index(row["severity"]) if row["severity"] in order else 0)
    return table(
        ["Feature", "Severity", "PSI", "Alarm line", "Rows", "Week of"],
        (
            [
                str(row.get("feature")),
                element(
                    "span",
                    str(row.get("severity")).replace("_", " "),
                    class_=_TONES.get(str(row.get("severity")), "tag"),
                ),
                score(row.get("psi")),
                score(row.get("alarm")),
                count(row.get("rows") or 0),
                _when(row.get("week"))[:10],
            ]
            for row in ranked
        ),
        words=(1,),
    )


def _sources(sources: Sequence[Mapping[str, Any]]) -> Markup:
    rows = (
        [
            str(source.get("name")),
            str(source.get("kind") or ""),
            count(source.get("rows") or 0),
            count(source.get("quarantined") or 0),
            _when((source.get("watermark") or {}).get("known")),
            f"{source['behind_s']:,.0f} s" if source.get("behind_s") is not None else MISSING,
        ]
        for source in sources
    )
    heads = ["Source", "Kind", "Rows", "In quarantine", "Applied up to", "Behind"]
    return section("Sources", table(heads, rows, words=(1,)), anchor="sources")


def _batches(batches: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not batches:
        return None
    rows = (
        [
            str(batch.get("model")),
            str(batch.get("in")),
            str(batch.get("out")),
            str(batch.get("every")),
            _when(batch.get("next")),
            _last_batch(batch.get("last") or {}),
        ]
        for batch in batches
    )
    heads = ["Model", "Rows", "Answers", "Every", "Next", "Last"]
    return section("Scheduled batches", table(heads, rows, words=(1, 2, 5)), anchor="batches")


def _last_batch(last: Mapping[str, Any]) -> Markup | str:
    if not last:
        return "not yet"
    if last.get("result") == "failed":
        return element(
            "span", element("span", "failed", class_="tag"), f" {_when(last.get('due'))}: {last.get('error')}"
        )
    counts = [f"{count(last.get(name) or 0)} {name}" for name in ("rows", "failed", "quarantined")]
    return f"{_when(last.get('due'))}: {', '.join(counts)}"


def _workers(workers: Sequence[Mapping[str, Any]]) -> Markup:
    rows = (
        [
            str(worker.get("name")),
            str(worker.get("state")),
            plain(worker.get("generation")),
            count(worker.get("answered") or 0),
            count(worker.get("errors") or 0),
            score(worker.get("p99_ms"), digits=1),
            _when(worker.get("since")),
        ]
        for worker in workers
    )
    heads = ["Worker", "State", "Route", "Answered", "Errors", "p99 ms", "Since"]
    return section("Workers", table(heads, rows, words=(1,)), anchor="workers")


def _refusing(records: Mapping[str, Any]) -> Markup | None:
    if not (names := records.get("refusing")):
        return None
    what = f"Records cannot be written: {', '.join(names)} refuse every prediction until there is room on the disk."
    return element("p", what, class_="banner", role="status")


def _lost(records: Mapping[str, Any]) -> Markup | None:
    lost = records.get("lost")
    return element("p", count(lost), " predictions have no record.", class_="banner", role="status") if lost else None


def _records(tables: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    if not tables:
        return None
    rows = [
        (name, f"{use['spool_bytes'] / 1e6:,.1f}", f"{use['parquet_bytes'] / 1e6:,.1f}", count(use["files"]))
        for name, use in tables.items()
    ]
    return section("Records on disk", table(("table", "spools, MB", "Parquet, MB", "files"), rows), anchor="records")


def _ledger(status: Mapping[str, Any]) -> Markup:
    ledger = status.get("ledger") or {}
    return section(
        "Ledger", facts({"events": ledger.get("events"), "epoch": ledger.get("epoch"), "head": ledger.get("head")})
    )
