"""The settings of what spares a worker's models work, as its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.app.home import setting
from trimtab.core.clock import duration
from trimtab.errors import InputError
from trimtab.gates.declare import size_below


def shortcut_options(given: Mapping[str, str | int | None] = {}) -> dict[str, Any]:
    """``cache_bytes``, ``cache_ttl_ms`` and ``precomputed`` of :class:`trimtab.app.worker.WorkerOptions`.

    Raises
    ------
    InputError
        When one of the settings ``cache_bytes``, ``cache_ttl`` and ``precomputed`` cannot be read.
    """
    size, ahead = (setting(name, given.get(name)) for name in ("cache_bytes", "precomputed"))
    kept = setting("cache_ttl", given.get("cache_ttl"))
    ttl_ms = duration(kept) // 1000
    if ttl_ms < 1:
        raise InputError("predictions must be kept for some time", got=kept, hint="cache_bytes=0 ends it")
    if ahead not in ("on", "off"):
        raise InputError("the setting precomputed must be on or off", got=repr(ahead))
    return {
        "cache_bytes": int(size) if size.isdigit() else int(size_below(size).bound),
        "cache_ttl_ms": ttl_ms,
        "precomputed": ahead == "on",
    }
