"""Versions that no training made: registered and judged, and rolled out only when asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.core.ids import Json
from trimtab.loop import events as e
from trimtab.loop.asking import actor_of, asker, refuse
from trimtab.loop.candidates import judge_version
from trimtab.loop.deliberation import Deliberation, finite, finite_all, plain
from trimtab.loop.observations import Asked


def add_variant(work: Deliberation, asked: Asked) -> None:
    """Record what was measured of a variant and judge its floors; deploying it is a request of its own.

    ``asked.data["facts"]`` holds ``parent``, ``variant``, ``metrics``, ``parent_metrics``, ``size_bytes``,
    ``parent_size_bytes``, ``largest_difference``, ``flipped``, ``rows``, ``p99_ms`` and ``latencies``.
    """
    facts: Mapping[str, Any] = asked.data.get("facts") or {}
    parent = work.version(str(facts.get("parent", "")))
    reason = ""
    if parent is None:
        reason = "its parent is no registered version"
    elif work.version(asked.version) is not None:
        reason = "it is registered already"
    if reason:
        refuse(work, asked, reason)
        return
    measured: dict[str, Json] = {
        "version": asked.version,
        "number": len(work.state.versions) + 1,
        "parent": str(facts["parent"]),
        "variant": str(facts.get("variant", "")),
        "metrics": _numbers(facts.get("metrics")),
        "parent_metrics": _numbers(facts.get("parent_metrics")),
        "size_bytes": int(facts.get("size_bytes") or 0),
        "parent_size_bytes": int(facts.get("parent_size_bytes") or 0),
        "largest_difference": finite(facts.get("largest_difference")),
        "flipped": int(facts.get("flipped") or 0),
        "rows": int(facts.get("rows") or 0),
        "p99_ms": finite(facts.get("p99_ms")),
        "latencies": plain(dict(facts.get("latencies") or {})),
    }
    cause = work.record(e.VARIANT_MEASURED, measured | {"asked": asked.id}, actor=actor_of(asked))
    judge_version(work, measured, cause=cause)


def add_brought(work: Deliberation, asked: Asked) -> None:
    """Record a version that was made elsewhere and judge its floors; deploying it is a request of its own.

    ``asked.data["facts"]`` holds ``metrics``, ``rows``, ``trained_until``, ``size_bytes``, ``reference_weeks``,
    ``reference_level`` and ``p99_ms``. Without rows that it cannot have learned from there are no metrics, and a floor
    on one is not passed. When it is not said until when it learned, it may have learned from everything until now.
    """
    facts: Mapping[str, Any] = asked.data.get("facts") or {}
    if work.version(asked.version) is not None:
        refuse(work, asked, "it is registered already")
        return
    until = facts.get("trained_until")
    measured: dict[str, Json] = {
        "version": asked.version,
        "number": len(work.state.versions) + 1,
        "by": asker(asked),
        "reason": asked.reason,
        "metrics": _numbers(facts.get("metrics")),
        "rows": int(facts.get("rows") or 0),
        "trained_until": work.now if until is None else int(until),
        "size_bytes": int(facts.get("size_bytes") or 0),
        "reference_weeks": finite_all(facts.get("reference_weeks")),
        "reference_level": finite(facts.get("reference_level")),
        "p99_ms": finite(facts.get("p99_ms")),
    }
    cause = work.record(e.VERSION_BROUGHT, measured | {"asked": asked.id}, actor=actor_of(asked))
    judge_version(work, measured, cause=cause)


def _numbers(found: object) -> dict[str, Json]:
    given = found if isinstance(found, Mapping) else {}
    return {str(name): finite(given[name]) for name in sorted(given)}
