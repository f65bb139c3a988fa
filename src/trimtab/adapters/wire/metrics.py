"""What workers counted, as Prometheus reads it.

Workers share a port, so a scrape reaches any one of them, and that one answers for all: every number is the sum over
all workers that live or have ever lived in this home (see :mod:`trimtab.adapters.wire.cells`). Counters never fall,
also when a worker is killed or the platform is started again. Gauges say how each living worker stands.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trimtab.adapters.wire.cells import CellFile, read_counts, rename_silent
from trimtab.core.clock import Clock
from trimtab.errors import Unavailable
from trimtab.serving.counted import OTHER, Arm, Counted, Stage, WorkerNow, counted, named, nameless
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.latency import SHOWN, shown_counts
from trimtab.serving.meter import BATCH_BOUNDS, STAGES, UNWRITABLE, Cells, LocalCells, Meter
from trimtab.serving.record import CONSTANT

_log = logging.getLogger("trimtab.serving")
_OF_STAGES = (100, 250, 1_000, 2_500, 10_000, 25_000, 100_000, 250_000, 1_000_000)
_OF_HTTP = (
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
)  # fmt: skip
"""Bounds that are enough to see which stage, or which path, is slow: there are many of both, and every bound is a line
of text for each. :data:`SHOWN` is for what callers waited for."""
_ROWS = [*map(str, BATCH_BOUNDS), "+Inf"]

_COUNTERS = {
    "trimtab_prediction_failures_by_kind_total": "Rows that a version could not answer, by kind of error.",
    "trimtab_stale_predictions_total": "Rows answered from features that were past their freshness.",
    "trimtab_requests_refused_total": "Requests that were not answered, by kind of error.",
    "trimtab_shadow_dropped_total": "Rows that were not scored in the shadow, so as not to slow the answers.",
    "trimtab_shadow_failures_total": "Batches of shadow scores lost to an error.",
    "trimtab_records_written_total": "Prediction records written.",
    "trimtab_records_lost_total": "Prediction records that could not be written.",
    "trimtab_cache_requests_total": "Rows that were looked for in the cache of predictions, by result.",
    "trimtab_precomputed_requests_total": "Rows that were looked for among the answers computed ahead, by result.",
    "trimtab_grpc_calls_total": "Calls over gRPC, by method and status code.",
    "trimtab_access_log_dropped_total": "Lines that were not written to the access log, so as not to slow the answers.",
}
_GAUGES = {
    "waiting": ("trimtab_queue_requests", "Requests that wait."),
    "in_flight": ("trimtab_requests_in_flight", "Requests that were read and not yet answered, a scrape among them."),
    "shadow_waiting": ("trimtab_shadow_queue_rows", "Rows that wait for a shadow."),
    UNWRITABLE: ("trimtab_records_unwritable", "1 while nothing is answered, for it cannot be recorded; else 0."),
    "generation": ("trimtab_route_generation", "Generation of the route table in force."),
}


class WorkerMetrics:
    """The metrics of a worker: what it counts, and what it tells of all workers.

    Parameters
    ----------
    folder
        Of all workers of the home: ``run/metrics``; None for a worker that stands alone.
    name
        Of this worker and no other: ``worker-1-<pid>-<started>``.
    clock
        Tells when an arm answered; without one every arm is told by name, however many there are.
    """

    def __init__(self, folder: Path | None, name: str, *, clock: Clock | None = None) -> None:
        self._folder, self._name, self._clock = folder, name, clock
        self._own = LocalCells()
        cells: Cells = self._own
        if folder is not None:
            try:
                cells = CellFile(folder, name)
            except Unavailable as error:  # serving goes on, and what it counts is told by this worker alone
                _log.error("metrics are not shared with other workers: %s", error)
                self._folder = None
        self.meter = Meter(cells)
        self._routed: frozenset[str] | None = None
        """Versions in the route table; None before the first look."""
        self._named: frozenset[tuple[str, str, str]] | None = None
        """Arms in the route table; None before the first look."""

    def look(self, dispatcher: Dispatcher, *, shadow_failures: int = 0) -> None:
        """Take over what is counted elsewhere and how things stand; about once a second, and before a scrape."""
        engine, meter = dispatcher.engine, self.meter
        meter.gauge("waiting", dispatcher.waiting)
        meter.gauge("in_flight", meter.in_flight)
        meter.gauge("shadow_waiting", engine.shadow_rows)
        table = engine.live.table
        meter.gauge("generation", table.generation)
        first = self._named is None and table.generation > 0
        if table.generation:
            self._routed, self._named = frozenset((*table.versions(), *table.held())), named(table)
        if self._clock is not None:
            meter.heard(self._clock.now())
        for (what, model, version, arm), rows in engine.counts.items():
            if what == "dropped":
                labels = {"model": model, "version": version[:12], "arm": arm}
                meter.counter("trimtab_shadow_dropped_total", labels).reach(rows)
        meter.counter("trimtab_shadow_failures_total").reach(shadow_failures)
        if first:  # a home that nobody scrapes is tidied too
            with contextlib.suppress(Unavailable, OSError):
                self._counted()

    def exposition(self) -> bytes:
        """Every metric of all workers in the Prometheus text format.

        Raises
        ------
        Unavailable
            When the files change too fast to be read.
        """
        return exposed(self._counted(), routed=self._routed)

    def _counted(self) -> Counted:
        if self._folder is None:
            return counted(self._own.blocks, {self._name: self._own.blocks})
        found = read_counts(self._folder)
        if self._clock is not None and self._named is not None:
            now = self._clock.now()
            if nameless(found.arms, now=now, keep=self._named):
                rename_silent(self._folder, now=now, keep=self._named)
                found = read_counts(self._folder)
        return found


def exposed(found: Counted, *, routed: Collection[str] | None = None) -> bytes:
    """What was counted in the Prometheus text format.

    Parameters
    ----------
    routed
        Versions whose histograms are told; None for all. Counters are told of every arm: they may not fall.

    Examples
    --------
    >>> print(exposed(counted({("count", ("trimtab_records_lost_total", "why", "full")): [2]})).decode().strip())
    # HELP trimtab_workers Workers that live.
    # TYPE trimtab_workers gauge
    trimtab_workers 0
    # HELP trimtab_records_lost_total Prediction records that could not be written.
    # TYPE trimtab_records_lost_total counter
    trimtab_records_lost_total{why="full"} 2
    """
    lines = [*_arms(found.arms, routed), *_http(found.replies), *_workers(found.workers)]
    for name, samples in sorted(found.counters.items()):
        text = _COUNTERS.get(name, "See the documentation.")
        lines += _family(name, "counter", text, [(_labels(pairs), value) for pairs, value in sorted(samples.items())])
    return ("\n".join(lines) + "\n").encode()


def _arms(arms: Sequence[Arm], routed: Collection[str] | None) -> Iterator[str]:
    other = [arm for arm in arms if arm.version == OTHER]
    arms = [arm for arm in arms if arm.version != OTHER]
    labels = {id(arm): _labels((("model", arm.model), ("version", arm.version[:12]), ("arm", arm.arm))) for arm in arms}
    yield from _family("trimtab_predictions_total", "counter", "Rows answered or scored, by arm.",
                       [(labels[id(arm)], arm.answered) for arm in arms])  # fmt: skip
    yield from _family("trimtab_prediction_failures_total", "counter", "Rows that a version could not answer, by arm.",
                       [(labels[id(arm)], arm.failed) for arm in arms])  # fmt: skip
    # Not among those above: what moves here at once would look like answers of now to whoever asks for a rate.
    yield from _family("trimtab_other_predictions_total", "counter", "Rows answered or scored by arms without a name.",
                       [(_labels((("model", arm.model),)), arm.answered) for arm in other])  # fmt: skip
    yield from _family("trimtab_other_prediction_failures_total", "counter", "Rows that arms without a name failed.",
                       [(_labels((("model", arm.model),)), arm.failed) for arm in other])  # fmt: skip
    told = [arm for arm in arms if arm.answered + arm.failed and (routed is None or _told(arm, routed))]
    sizes = [(labels[id(arm)], _running(arm.batch_sizes), arm.answered + arm.failed) for arm in told]
    yield from _histogram("trimtab_batch_rows", "Rows in a batch.", _ROWS, sizes)
    timed = [(f'{labels[id(arm)]},stage="{name}"', arm.stage(name)) for arm in told for name in STAGES[:-1]]
    spent = [
        (pairs, stage) for pairs, stage in timed if stage.sum_us
    ]  # what never took a microsecond is no stage of it
    yield from _durations(
        "trimtab_stage_duration_seconds", "How long a request spent in each stage.", spent, _OF_STAGES
    )
    whole = [(labels[id(arm)], arm.stage("total")) for arm in told]
    yield from _durations("trimtab_request_duration_seconds", "From the first look at a request to its answer.", whole)


def _told(arm: Arm, routed: Collection[str]) -> bool:
    return arm.arm == CONSTANT or arm.version in routed


def _http(replies: Mapping[tuple[str, str, int], Stage]) -> Iterator[str]:
    codes: dict[int, int] = {}
    timed = []
    for (method, route, status), stage in sorted(replies.items()):
        codes[status] = codes.get(status, 0) + stage.count
        pairs = [("http_request_method", method), ("http_route", route), ("http_response_status_code", str(status))]
        timed.append((_labels([*pairs, ("url_scheme", "http")]), stage))
    yield from _family("trimtab_http_responses_total", "counter", "Answers by HTTP status.",
                       [(f'code="{status}"', number) for status, number in sorted(codes.items())])  # fmt: skip
    yield from _durations("http_server_request_duration_seconds", "Duration of HTTP server requests.", timed, _OF_HTTP)


def _workers(workers: Sequence[WorkerNow]) -> Iterator[str]:
    yield from _family("trimtab_workers", "gauge", "Workers that live.", [("", len(workers))])
    for gauge, (name, text) in _GAUGES.items():
        samples = [(_labels((("worker", one.name),)), one.gauges.get(gauge, 0)) for one in workers]
        yield from _family(name, "gauge", text, samples)


def _durations(name: str, text: str, stages: Iterable[tuple[str, Stage]], bounds: Sequence[int] = SHOWN) -> list[str]:
    places = [SHOWN.index(bound) for bound in bounds] + [len(SHOWN)]
    samples = []
    for labels, stage in stages:
        if stage.count:
            cumulative = shown_counts(stage.counts)
            samples.append((labels, [cumulative[place] for place in places], stage.sum_us / 1e6))
    return _histogram(name, text, [f"{bound / 1e6:g}" for bound in bounds] + ["+Inf"], samples)


def _histogram(
    name: str, text: str, bounds: Sequence[str], samples: Iterable[tuple[str, Sequence[int], float]]
) -> list[str]:
    lines = []
    for labels, cumulative, total in samples:
        lines += [f'{name}_bucket{{{labels},le="{le}"}} {below}' for le, below in zip(bounds, cumulative, strict=True)]
        lines += [
            f"{name}_sum{{{labels}}} {total:.6f}".rstrip("0").rstrip("."),
            f"{name}_count{{{labels}}} {cumulative[-1]}",
        ]
    return [f"# HELP {name} {text}", f"# TYPE {name} histogram", *lines] if lines else []


def _running(counts: Sequence[int]) -> list[int]:
    cumulative, running = [], 0
    for count in counts:
        running += count
        cumulative.append(running)
    return cumulative


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, int]]) -> list[str]:
    head = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines = [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples]
    return head + lines if lines else []


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
