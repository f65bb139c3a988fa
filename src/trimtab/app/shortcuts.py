"""The settings of what spares a worker's models work, as its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.app.setting_values import one_of, read_setting, size
from trimtab.core.clock import duration
from trimtab.errors import InputError


def shortcut_options(given: Mapping[str, str | int | None] = {}) -> dict[str, Any]:
    """``cache_bytes``, ``cache_ttl_ms`` and ``precomputed`` of :class:`trimtab.app.worker.WorkerOptions`.

    Raises
    ------
    InputError
        When one of the settings ``cache_bytes``, ``cache_ttl`` and ``precomputed`` cannot be read.
    """
    return {
        "cache_bytes": size("cache_bytes", given.get("cache_bytes")),
        "cache_ttl_ms": read_setting("cache_ttl", _milliseconds, given.get("cache_ttl")),
        "precomputed": one_of("precomputed", ("on", "off"), given.get("precomputed")) == "on",
    }


def _milliseconds(text: str) -> int:
    kept = duration(text) // 1000
    if kept < 1:
        raise InputError("predictions must be kept for some time", got=repr(text), hint="cache_bytes=0 ends it")
    return kept
