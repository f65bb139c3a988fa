"""The worker's counters as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trimtab.serving.dispatch import Dispatcher

_PREDICTIONS = {
    "answered": ("trimtab_predictions_total", "Rows answered or scored, by arm."),
    "failed": ("trimtab_prediction_failures_total", "Rows that a version could not answer, by arm."),
    "dropped": (
        "trimtab_shadow_dropped_total",
        "Rows that were not scored in the shadow, so as not to slow the answers.",
    ),
}


def exposition(dispatcher: Dispatcher, replies: Mapping[int, int], shadow_failures: int) -> bytes:
    """Every metric of this worker in the Prometheus text format."""
    engine = dispatcher.engine
    lines: list[str] = []
    for what, (name, text) in _PREDICTIONS.items():
        samples = [
            (f'model="{_escaped(model)}",version="{version[:12]}",arm="{arm}"', rows)
            for (kind, model, version, arm), rows in sorted(engine.counts.items())
            if kind == what
        ]
        lines += _family(name, "counter", text, samples)
    http = [(f'code="{status}"', number) for status, number in sorted(replies.items())]
    lines += _family("trimtab_http_responses_total", "counter", "Answers by HTTP status.", http)
    lines += _family(
        "trimtab_shadow_failures_total", "counter", "Batches of shadow scores lost to an error.",
        [("", shadow_failures)],
    )  # fmt: skip
    lines += _family("trimtab_queue_requests", "gauge", "Requests that wait.", [("", len(dispatcher.queue))])
    lines += _family("trimtab_shadow_queue_rows", "gauge", "Rows that wait for a shadow.", [("", engine.shadow_rows)])
    lines += _family(
        "trimtab_route_generation", "gauge", "Generation of the route table.", [("", engine.live.table.generation)]
    )
    return ("\n".join(lines) + "\n").encode()


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, int]]) -> list[str]:
    head = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples]


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
