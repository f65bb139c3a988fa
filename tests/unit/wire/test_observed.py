"""A watched plane answers as the plane does, whatever the caller sends."""

import itertools
import re
import sys
from types import SimpleNamespace

import pytest

from trimtab.adapters.wire.exchange import Incoming
from trimtab.adapters.wire.observed import ObservedPlane, route_of
from trimtab.adapters.wire.reply import Reply
from trimtab.core.clock import VirtualClock
from trimtab.serving.counted import counted
from trimtab.serving.meter import LocalCells, Meter


class Plane:
    def take(self, incoming, respond):
        respond(Reply(404 if incoming.path == "/none" else 200, b"{}"))

    def counted(self, reply, _method="", _path=""):
        return reply


class Sink(list):
    def add(self, done):
        self.append(done)


def observed(*sinks):
    cells = LocalCells()
    ticks = itertools.count(step=5_000_000)
    plane = ObservedPlane(
        Plane(), Meter(cells), handing=SimpleNamespace(letting_go=None, took=(0, 0, 0)), timer=lambda: next(ticks), clock=VirtualClock(7),
        new_id=lambda: "made", sinks=sinks,
    )  # fmt: skip
    return plane, cells


def ask(plane, path="/health", method="GET", **headers):
    replies = []
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    plane.take(Incoming(method, path, named, b""), replies.append)
    return replies[0]


def replies(cells):
    return {key: stage.count for key, stage in counted(cells.blocks).replies.items()}


def test_replies_are_counted_by_route_and_never_by_what_callers_make_up():
    plane, cells = observed()
    for path in ("/predict/a", "/predict/b", "/none", "/predict/a/x", "/health"):
        ask(plane, path)
    ask(plane, "/health", "BREW")
    plane.counted(Reply(431, b""))
    assert replies(cells) == {
        ("GET", "/predict/{model}", 200): 2, ("GET", "", 404): 1, ("GET", "", 200): 1, ("GET", "/health", 200): 1,
        ("_OTHER", "/health", 200): 1, ("_OTHER", "", 431): 1,
    }  # fmt: skip
    assert plane._meter.in_flight == 0
    total = counted(cells.blocks).replies["GET", "/predict/{model}", 200]
    assert total.sum_us == 10_000


@pytest.mark.parametrize("known", [True, False])
def test_who_waits_for_an_answer_does_not_hold_the_body(known):
    """Refusals wait for their turn: thousands of large bodies would wait with them."""
    plane, _ = observed(*([Sink()] if known else []))
    waiting = []
    plane._plane.take = lambda _, respond: waiting.append(respond)
    body = b"x" * 1000
    before = sys.getrefcount(body)
    plane.take(Incoming("POST", "/predict/m", {}, body), lambda _: None)
    assert (len(waiting), sys.getrefcount(body)) == (1, before)


def test_what_the_server_refused_is_told_too():
    sink = Sink()
    plane, _ = observed(sink)
    plane.counted(Reply(413, b""), "POST", "/predict/m")
    plane.counted(Reply(431, b""))
    told = [(done.status, done.method, done.path, done.route, done.request_id, done.when) for done in sink]
    assert told == [(413, "POST", "/predict/m", "", "made", 7), (431, "", "", "", "made", 7)]


def test_an_id_is_sent_back_and_made_only_where_it_is_used():
    plane, _ = observed()
    assert ask(plane).headers == ()
    assert ask(plane, x_request_id=b"abc-1").headers == ((b"x-request-id", b"abc-1"),)
    sink = Sink()
    plane, _ = observed(sink)
    assert ask(plane).headers == ((b"x-request-id", b"made"),)
    assert ask(plane, traceparent=b"00-aa", x_request_id=b"abc-2").headers == ((b"x-request-id", b"abc-2"),)
    assert [(done.request_id, done.when, done.took_us, done.traceparent) for done in sink] == [
        ("made", 7, 5000, ""), ("abc-2", 7, 5000, "00-aa"),
    ]  # fmt: skip


@pytest.mark.parametrize("given", [b"", b"a b", b"a\r\nset-cookie: x", b"x" * 129, b"\xff", b'"'])
def test_an_id_that_could_forge_a_header_or_a_line_is_not_taken(given):
    plane, _ = observed(Sink())
    assert ask(plane, x_request_id=given).headers == ((b"x-request-id", b"made"),)


def test_every_path_of_the_plane_has_a_pattern():
    from trimtab.adapters.wire import http

    for path in re.findall(r"(/[\w<>/.\[\]]+)", http.__doc__.split("::", 1)[1]):
        options = re.split(r"(\[[^\]]*\])", path.replace("<model>", "m").replace("<v>", "1"))
        choices = [("", part[1:-1]) if part.startswith("[") else (part,) for part in options]
        for chosen in itertools.product(*choices):
            assert route_of("".join(chosen)), chosen
