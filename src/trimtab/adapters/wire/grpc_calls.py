"""Calls over gRPC are counted, and where it is asked for, logged and traced, as requests over HTTP are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trimtab.adapters.wire.accesslog import Finished
from trimtab.adapters.wire.grpc_messages import METHODS, SERVICE
from trimtab.adapters.wire.observed import Handing, Sink, answer_of, known_id
from trimtab.adapters.wire.reply import status_of
from trimtab.core.clock import Clock
from trimtab.errors import InputError, Overloaded, TooLarge, TooLate, TrimtabError, Unavailable, UnknownName
from trimtab.serving.meter import Counter, Meter
from trimtab.serving.pipeline import Timer

REQUEST_ID, PARENT = "x-request-id", "traceparent"
CANCELLED = "CANCELLED"
_GIVEN_UP = 499
"""What is usually written down for a caller who left."""
_PATHS = {name: f"/{SERVICE}/{name}" for name in METHODS}


class Call:
    """A call under way."""

    __slots__ = ("answer", "method", "parent", "request_id", "start", "when")

    def __init__(self, method: str, *, request_id: str, parent: str, when: int, start: int) -> None:
        self.method, self.request_id, self.parent, self.when, self.start = method, request_id, parent, when, start
        self.answer: tuple[str, str, str, int, Mapping[str, int]] = ("", "", "", 0, {})
        """Model, version, arm, rows and stages, once there is an answer."""


class CallWatch:
    """Counts calls and tells sinks of them.

    Parameters
    ----------
    handing
        Says which answer is handed over at this moment.
    new_id
        Ids for predictions that come without one, and for calls without ``x-request-id`` that are logged or traced.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        handing: Handing,
        timer: Timer,
        clock: Clock,
        new_id: Callable[[], str],
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._meter, self._handing, self._timer, self._clock = meter, handing, timer, clock
        self.new_id, self._sinks = new_id, sinks
        self._counters: dict[tuple[str, str], Counter] = {}

    def begin(self, method: str, said: Mapping[str, str]) -> Call:
        """A call has come.

        Parameters
        ----------
        said
            Its metadata.
        """
        self._meter.in_flight += 1
        given = said.get(REQUEST_ID)
        name = "" if given is None else known_id(given.encode())
        sinks = self._sinks
        if sinks and not name:
            name = self.new_id()
        when = self._clock.now() if sinks else 0
        return Call(method, request_id=name, parent=said.get(PARENT, ""), when=when, start=self._timer())

    def handed(self, call: Call) -> None:
        """Its answer is handed over at this moment."""
        if self._sinks:
            call.answer = answer_of(self._handing)

    def refused(self, model: str, error: Exception) -> None:
        """It was refused; ``model`` is empty for one that there is not."""
        self._meter.refused(model, type(error).__name__)

    def ended(self, call: Call, code: str, error: Exception | None = None) -> None:
        """It has ended.

        Parameters
        ----------
        code
            The name of its status.
        """
        self._meter.in_flight -= 1
        counter = self._counters.get((call.method, code))
        if counter is None:
            labels = {"method": call.method, "code": code}
            counter = self._counters[call.method, code] = self._meter.counter("trimtab_grpc_calls_total", labels)
        counter.add()
        if not self._sinks:
            return
        took = (self._timer() - call.start) // 1000
        path, status = _PATHS[call.method], 200
        if error is not None:
            status = status_of(error) if isinstance(error, TrimtabError) else 500
        elif code != "OK":
            status = _GIVEN_UP
        done = Finished(
            call.when, took, call.request_id, "POST", path, path, status, *call.answer, call.parent, code
        )  # fmt: skip
        for sink in self._sinks:
            sink.add(done)


def code_of(error: Exception) -> str:
    """The name of the gRPC status that says whose fault it was.

    Examples
    --------
    >>> code_of(UnknownName("no such model")), code_of(Unavailable("full")), code_of(ZeroDivisionError())
    ('NOT_FOUND', 'UNAVAILABLE', 'INTERNAL')
    """
    match error:
        case UnknownName():
            return "NOT_FOUND"
        case TooLarge() | Overloaded():
            return "RESOURCE_EXHAUSTED"
        case InputError():
            return "INVALID_ARGUMENT"
        case TooLate():
            return "DEADLINE_EXCEEDED"
        case Unavailable():
            return "UNAVAILABLE"
        case _:
            return "INTERNAL"
