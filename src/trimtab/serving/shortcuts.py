"""What spares the model work: answers computed ahead, and a cache of predictions; both counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trimtab.serving.ahead import Ahead
from trimtab.serving.cache import CachedInfer, PredictionCache
from trimtab.serving.engine import Engine
from trimtab.serving.meter import Counter, Meter
from trimtab.serving.ports import Precomputed

CACHE_COUNTER, AHEAD_COUNTER = "trimtab_cache_requests_total", "trimtab_precomputed_requests_total"


def take_shortcuts(
    engine: Engine,
    meter: Meter,
    *,
    cache_bytes: int,
    cache_ttl_ms: int,
    ahead: Callable[[], Precomputed | None] | None,
) -> None:
    """Put them before the stages of an engine; with no bytes and nothing ahead it stays as it is.

    Parameters
    ----------
    cache_bytes, cache_ttl_ms
        Bounds of the cache; 0 bytes for none.
    ahead
        Finds the answers that were computed ahead; None never looks for any.
    """
    timer = engine.pipeline.timer

    def counts(name: str) -> Callable[[str, str], Counter]:
        return lambda model, result: meter.counter(name, {"model": model, "result": result})

    if cache_bytes:
        cache = PredictionCache(cache_bytes, ttl_ns=cache_ttl_ms * 1_000_000, timer=timer)
        cached = CachedInfer(cache, count=counts(CACHE_COUNTER), stage=engine.pipeline.infer)
        engine.pipeline = replace(engine.pipeline, infer=cached)
    if ahead is not None:
        engine.ahead = Ahead(ahead, count=counts(AHEAD_COUNTER), timer=timer)
