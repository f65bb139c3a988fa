"""A data plane that is watched: replies are counted and timed, and where it is asked for, logged and traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from trimtab.adapters.wire.accesslog import Finished
from trimtab.adapters.wire.exchange import Incoming, Respond
from trimtab.adapters.wire.reply import Reply
from trimtab.core.clock import Clock
from trimtab.serving.ask import Ask
from trimtab.serving.meter import Meter
from trimtab.serving.pipeline import Timer
from trimtab.serving.record import STAGES

REQUEST_ID = b"x-request-id"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
_PATTERNS = frozenset(
    {
        *(f"{head}{last}" for head in (_MODEL, _VERSION) for last in ("", "/infer", "/ready")),
        *(
            "/predict/{model}",
            "/predict/{model}/versions/{version}",
            "/health",
            "/metrics",
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
        ),
        *("/openapi.json", "/docs"),
    }
)
_REMEMBERED = 1000
_ID_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/=+")
_MOST_ID = 128


class Plane(Protocol):
    """What answers requests; see :class:`trimtab.adapters.wire.http.DataPlane`."""

    def take(self, incoming: Incoming, respond: Respond) -> None:
        """Answer one request, now or later; never raises."""
        ...

    def counted(self, reply: Reply, method: str = "", path: str = "") -> Reply:
        """Count an answer that was made before the request came this far; what is not known of it is empty."""
        ...


class Sink(Protocol):
    """Takes finished requests; never raises, never blocks."""

    def add(self, done: Finished) -> None:
        """Take one."""
        ...


class Handing(Protocol):
    """Says which answer is handed over; see :class:`trimtab.serving.settling.Settling`."""

    letting_go: Ask | None
    """None between answers."""
    took: tuple[int, int, int]
    """Of its batch: when it left the queue, by the timer; microseconds of encode and record."""


class ObservedPlane:
    """Answers as the plane that it holds, and tells what it saw. Without sinks it costs a timer and a count.

    Parameters
    ----------
    handing
        Says which answer is handed over at this moment.
    new_id
        Ids for requests that come without ``X-Request-Id``, where they are logged or traced.
    """

    def __init__(
        self,
        plane: Plane,
        meter: Meter,
        *,
        handing: Handing,
        timer: Timer,
        clock: Clock,
        new_id: Callable[[], str],
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._plane, self._meter, self._replied, self._handing = plane, meter, meter.replied, handing
        self._timer, self._clock, self._new_id, self._sinks = timer, clock, new_id, sinks
        self._routes: dict[str, str] = {}

    def take(self, incoming: Incoming, respond: Respond) -> None:
        """Answer one request; the caller's ``X-Request-Id`` is sent back."""
        meter = self._meter
        meter.in_flight += 1
        given = incoming.headers.get(REQUEST_ID)
        if self._sinks or given is not None:
            self._take_known(incoming, respond, given)
            return
        timer, replied = self._timer, self._replied
        method, path, start = incoming.method, incoming.path, timer()

        def answered(reply: Reply) -> None:
            meter.in_flight -= 1
            known = method if method in _METHODS else "_OTHER"
            replied(known, self._routes.get(path) or self._route(path), reply.status, timer() - start)
            respond(reply)

        self._plane.take(incoming, answered)

    def counted(self, reply: Reply, method: str = "", path: str = "") -> Reply:
        """Count an answer that was made before the request came this far; what is not known of it is empty."""
        self._replied("_OTHER", "", reply.status, 0)
        if self._sinks:
            done = Finished(self._clock.now(), 0, self._new_id(), method, path, "", reply.status)
            for sink in self._sinks:
                sink.add(done)
        return self._plane.counted(reply)

    def _take_known(self, incoming: Incoming, respond: Respond, given: bytes | None) -> None:
        request_id = known_id(given) or self._new_id()
        echo = (REQUEST_ID, request_id.encode())
        start = self._timer()
        when = self._clock.now() if self._sinks else 0
        method, path, asked = incoming.method, incoming.path, incoming._replace(body=b"")  # a body may be large

        def answered(reply: Reply) -> None:
            self._meter.in_flight -= 1
            took = self._timer() - start
            route = self._routes.get(path) or self._route(path)
            self._replied(_method(method), route, reply.status, took)
            if self._sinks:
                done = self._finished(asked, reply, request_id, when, took)
                for sink in self._sinks:
                    sink.add(done)
            respond(reply._replace(headers=(*reply.headers, echo)))

        self._plane.take(incoming, answered)

    def _finished(self, incoming: Incoming, reply: Reply, request_id: str, when: int, took: int) -> Finished:
        parent = incoming.headers.get(b"traceparent", b"").decode("latin-1")
        return Finished(
            when, took // 1000, request_id, incoming.method, incoming.path, self._route(incoming.path), reply.status,
            *answer_of(self._handing), parent,
        )  # fmt: skip

    def _route(self, path: str) -> str:
        """The pattern of a path, never what a caller made up."""
        found = route_of(path)
        if found and len(self._routes) < _REMEMBERED:
            self._routes[path] = found
        return found


def route_of(path: str) -> str:
    """The pattern of a path; empty for a path that there is not.

    Examples
    --------
    >>> route_of("/predict/m"), route_of("/v2/models/m/versions/4/infer"), route_of("/etc/passwd")
    ('/predict/{model}', '/v2/models/{model}/versions/{version}/infer', '')
    """
    parts = path.strip("/").split("/")
    if parts[0] == "predict" and len(parts) > 1:
        parts[1] = "{model}"
        if parts[2:3] == ["versions"] and len(parts) > 3:
            parts[3] = "{version}"
    elif parts[:2] == ["v2", "models"] and len(parts) > 2:
        parts[2] = "{model}"
        if parts[3:4] == ["versions"] and len(parts) > 4:
            parts[4] = "{version}"
    pattern = "/" + "/".join(parts)
    return pattern if pattern in _PATTERNS else ""


def _method(method: str) -> str:
    return method if method in _METHODS else "_OTHER"


def answer_of(handing: Handing) -> tuple[str, str, str, int, dict[str, int]]:
    """Model, version, arm, rows and µs by stage of the answer that is handed over; nothing between answers."""
    ask = handing.letting_go
    if ask is None:
        return "", "", "", 0, {}
    answers = ask.told[0].answers
    return ask.lane.model, answers.version, answers.arm, ask.size, _stages(ask, handing.took)


def known_id(given: bytes | None) -> str:
    """The caller's id where it can stand in a header and a log; else empty."""
    if given is None or not 0 < len(given) <= _MOST_ID or not _ID_CHARACTERS.issuperset(given):
        return ""
    return given.decode("ascii")


def _stages(ask: Ask, took: tuple[int, int, int]) -> dict[str, int]:
    """Microseconds by stage, in their order; decoding is the body's own, what follows that of its batch."""
    began, encode_us, record_us = took
    timings = dict(zip(STAGES, ask.told[0].answers.timings, strict=True))
    before = {"decode": ask.decode_ns // 1000, "queue": (began - ask.came) // 1000}
    inside = {stage: timings[stage] for stage in STAGES[1:-1]}
    return before | inside | {"encode": encode_us, "record": record_us}
