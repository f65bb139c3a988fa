"""Our own HTTP server without sockets: the same bytes in every cut, with and without remembered heads, and noise."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.soak import long

from trimtab.adapters.wire.connection import TOLD, Connection
from trimtab.adapters.wire.exchange import Incoming
from trimtab.adapters.wire.heads import KnownHeads
from trimtab.adapters.wire.limits import Limits
from trimtab.adapters.wire.reply import Reply, reply_json
from trimtab.adapters.wire.server import HttpServer

LIMITS = Limits(body=300, head=600, headers=10, pipelined=3)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written, self.paused, self.closed = b"", False, False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Plane:
    """Answers at once, or when it is told to, in an order of its own."""

    def __init__(self, seed: int, *, later: bool) -> None:
        self.seen: list[Incoming] = []
        self.refusals = 0
        self._order, self._later, self._open = random.Random(seed), later, []

    def counted(self, reply: Reply, _method: str = "", _path: str = "") -> Reply:
        self.refusals += 1
        return reply

    def take(self, incoming: Incoming, respond) -> None:
        self.seen.append(incoming)
        assert len(self._open) < LIMITS.pipelined + 1
        reply = reply_json({"number": len(self.seen)})
        if not self._later:
            respond(reply)
        else:
            self._open.append((respond, reply))

    def answer(self) -> None:
        while self._open:
            respond, reply = self._open.pop(self._order.randrange(len(self._open)))
            respond(reply)


class Forgetful(KnownHeads):
    """Parses every head."""

    def remember(self, *_: object) -> None:
        return


def played(pieces: list[bytes], *, remember: bool, later: bool, seed: int = 0, rounds: int = 1):
    """What the plane saw and what was written, for each of some connections that say the same to one server."""
    plane = Plane(seed, later=later)
    server = HttpServer(plane, LIMITS)
    server._tell_time(5.0)
    server.date, server.json_head = b"", b"HTTP/1.1 200 OK\r\ncontent-length: "
    server.heads = KnownHeads() if remember else Forgetful()
    written = []
    for _ in range(rounds):
        plane.seen.clear()
        plane.refusals = 0
        connection, wire = Connection(server), Wire()
        connection.connection_made(wire)
        for piece in pieces:
            while wire.paused and not wire.closed:
                plane.answer()
            if wire.closed:
                break
            connection.data_received(piece)
            if later and seed % 2:
                plane.answer()
        plane.answer()
        written.append((list(plane.seen), wire.written, plane.refusals, wire.closed, connection))
    return written, server


HEADERS = [
    b"host: x", b"Content-Type: application/json", b"X-Trimtab-Unit: u1", b"X-Request-Id: a", b"connection: close",
    b"connection: keep-alive", b"expect: 100-continue", b"upgrade: h2c\r\nconnection: upgrade", b"x-a:b", b"x-a: \t b ",
    b"content-encoding: identity", b"content-encoding: gzip", b"content-length: 4", b"transfer-encoding: chunked",
]  # fmt: skip
BODIES = [
    b"",
    b"abc",
    b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    b"x" * 301,
    b"3\r\nabc\r\n0\r\n\r\n",
]


@st.composite
def requests(draw) -> bytes:
    """Mostly ordinary ones, so that heads repeat."""
    if draw(st.integers(0, 3)):
        body = draw(st.sampled_from([b"abc", b"abd", b"\r\n\r\n"]))
        more = draw(st.sampled_from([b"", b"", b"x-trimtab-unit: u\r\n"]))
        return b"POST /echo HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (more, len(body), body)
    method = draw(st.sampled_from([b"POST", b"GET", b"HEAD", b"CONNECT", b"\r\nPOST", b"PUT"]))
    target = draw(st.sampled_from([b"/echo", b"/e%20a?b", b"http://x/echo", b"*"]))
    version = draw(st.sampled_from([b"1.1"] * 4 + [b"1.0", b"0.9", b"2.0"]))
    headers = draw(st.lists(st.sampled_from(HEADERS[1:12]), max_size=4))
    for _ in range(draw(st.sampled_from([1] * 8 + [0, 2]))):
        headers.insert(draw(st.integers(0, len(headers))), HEADERS[0])
    body = draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        headers.append(b"content-length: %d" % len(body))
    elif body == BODIES[-1]:
        headers.append(HEADERS[-1])
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, target, version), *headers, b"", body])


@st.composite
def streams(draw, *, noise: bool) -> list[bytes]:
    """Requests one after the other, cut anywhere: often between two."""
    asked = draw(st.lists(requests(), min_size=1, max_size=8))
    data = bytearray(b"".join(asked))
    ends, at = [], 0
    for request in asked:
        at += len(request)
        ends.append(at)
    for _ in range(draw(st.integers(1, 4)) if noise else 0):
        place = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"\xff", b"0", b"9", HEADERS[-1], b""]))
        data[place : place + draw(st.integers(0, 3))] = what
    cuts = {end for end in ends if draw(st.integers(0, 4))} | set(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    places = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    return [bytes(data[a:b]) for a, b in itertools.pairwise(places) if a < b]


OFFER_AND_EXPECT = (
    b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    b"content-length: 0\r\n\r\n"
)


@settings(deadline=None, max_examples=300)
@example(pieces=[OFFER_AND_EXPECT], later=False, seed=0)
@given(pieces=streams(noise=False), later=st.booleans(), seed=st.integers(0, 9))
def test_remembered_heads_change_nothing(pieces, later, seed):
    with_memory, _ = played(pieces, remember=True, later=later, seed=seed, rounds=3)
    without, _ = played(pieces, remember=False, later=later, seed=seed, rounds=3)
    assert [found[:4] for found in with_memory] == [found[:4] for found in without]


@settings(deadline=None, max_examples=300)
@given(pieces=streams(noise=False), seed=st.integers(0, 9))
def test_cuts_change_nothing(pieces, seed):
    in_pieces, _ = played(pieces, remember=True, later=True, seed=seed, rounds=2)
    whole, _ = played([b"".join(pieces)], remember=True, later=False, rounds=2)
    assert [found[0] for found in in_pieces] == [found[0] for found in whole]


def never_too_much(pieces: list[bytes], *, later: bool, seed: int) -> None:
    found, server = played(pieces, remember=True, later=later, seed=seed, rounds=2)
    for seen, written, refusals, closed, connection in found:
        assert refusals <= 1
        finals = written.count(b"HTTP/1.1 ") - written.count(b"HTTP/1.1 100 ")
        assert finals == len(seen) + refusals
        if refusals:
            assert closed
        # Whatever state that left it in, time ends it.
        for second in range(400):
            connection.check_time(float(second))
        assert connection._transport.closed
        connection.connection_lost(None)
    assert server.connections == set()
    assert server.budget.bodies == 0


@settings(deadline=None, max_examples=300)
@given(pieces=streams(noise=True), later=st.booleans(), seed=st.integers(0, 9))
def test_noise_gives_one_answer_to_each_request(pieces, later, seed):
    never_too_much(pieces, later=later, seed=seed)


@long
@settings(deadline=None, max_examples=20_000)
@given(pieces=streams(noise=True), later=st.booleans(), seed=st.integers(0, 9))
def test_soak_much_noise_gives_one_answer_to_each_request(pieces, later, seed):
    never_too_much(pieces, later=later, seed=seed)


def test_heads_are_remembered():
    request = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    _, server = played([request, request], remember=True, later=False)
    assert Counter(head.length for head in server.heads.values()) == {3: 1}


def test_no_more_heads_are_remembered_than_agreed():
    asked = [b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % number for number in range(1000)]
    _, server = played(asked, remember=True, later=False)
    assert 0 < len(server.heads) <= 256


def test_what_the_server_refuses_is_told_with_what_is_known_of_it():
    told = []

    class Told(Plane):
        def counted(self, reply, method="", path=""):
            told.append((reply.status, method, path))
            return reply

    head = b" HTTP/1.1\r\nhost: x\r\n"
    for data in (
        b"GET /before" + head + b"\r\nno HTTP \r\n\r\n",
        b"CONNECT x:80" + head + b"\r\n",
        b"GET /" + b"a" * 700 + head,
        b"POST /predict/m?token=t" + head + b"content-length: 301\r\n\r\n",
        b"POST /predict/m" + head + b"content-encoding: gzip\r\ncontent-length: 1\r\n\r\nx",
        b"POST /%22%0a" + head + b"expect: more\r\n\r\n",
        b"POST /echo" + head + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
    ):
        server = HttpServer(Told(0, later=False), LIMITS)
        server._tell_time(5.0)
        connection = Connection(server)
        connection.connection_made(Wire())
        connection.data_received(data)
    assert told == [
        (400, "", ""), (405, "CONNECT", "x:80"), (431, "", ""), (413, "POST", "/predict/m"), (415, "POST", "/predict/m"),
        (417, "POST", '/"\n'), (400, "POST", "/echo"), (400, "GET", "/v2"),
    ]  # fmt: skip


def test_a_head_is_not_charged_for_what_came_with_it():
    """A read that ends in the middle of a head may hold many whole requests before it."""
    one = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"
    data = one * 200
    for size in (601, 1000, 4321):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        ((seen, _, refusals, closed, _),), _ = played(pieces, remember=False, later=False)
        assert (len(seen), refusals, closed) == (200, 0, False)


def test_a_head_that_goes_on_and_on_behind_a_request_is_refused():
    one = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"
    pieces = [one + b"GET /" + b"a" * 300, b"a" * 500, b"a" * 500]
    ((seen, written, refusals, closed, _),), _ = played(pieces, remember=False, later=False)
    assert (len(seen), refusals, closed, written.count(b" 431 ")) == (1, 1, True, 1)


def test_a_head_is_judged_alike_in_every_cut():
    """Names and values count, not what separates them."""
    for size in range(90, 125):
        lines = b"".join(b"x-%d: %s\r\n" % (number, b"y" * size) for number in range(5))
        head = b"GET /g HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n"
        said = set()
        for cut in (len(head) - 4, len(head) - 1, len(head)):
            ((_, written, refusals, *_),), _ = played([head[:cut], head[cut:]], remember=False, later=False)
            said.add((written.split(b"\r\n")[0], refusals))
        assert len(said) == 1, (size, said)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_what_was_read_before_a_drain_is_answered_and_nothing_after(count):
    plane = Plane(0, later=True)
    server = HttpServer(plane, LIMITS)
    server._tell_time(5.0)
    connection, wire = Connection(server), Wire()
    connection.connection_made(wire)
    one = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    connection.data_received(one * count)
    server.draining = True
    plane.answer()
    connection.data_received(one)
    plane.answer()
    assert (len(plane.seen), wire.written.count(b"HTTP/1.1 200"), wire.closed) == (count, count, True)
    assert wire.written.count(b"connection: close") == 1
    assert wire.written.rindex(b"connection: close") > wire.written.rindex(b"HTTP/1.1 200")


class Slow(Wire):
    """A caller who has not read everything."""

    unread = 0

    def get_write_buffer_size(self) -> int:
        return self.unread


@pytest.mark.parametrize(("a_second", "closed_after"), [(0, 5), (1, 5), (20_000, 0)])
def test_who_reads_a_long_answer_slowly_is_not_cut_off_and_who_hardly_reads_is(a_second, closed_after):
    server = HttpServer(Plane(0, later=False), LIMITS)  # `write_s` is 30
    server._tell_time(100.0)
    connection, wire = Connection(server), Slow()
    connection.connection_made(wire)
    wire.unread = 4_000_000
    connection.pause_writing()
    for second in range(1, 180):
        wire.unread -= a_second
        server._tell_time(100.0 + second)
        connection.check_time(100.0 + second)
        if wire.closed:
            assert 30 <= second <= 30 + closed_after
            break
    assert wire.closed == (a_second < 20_000)


def test_callers_far_past_the_limit_of_connections_take_no_files():
    server = HttpServer(Plane(0, later=False), Limits(connections=5))
    server._tell_time(5.0)
    wires = []
    for _ in range(5 + 2 * TOLD):
        wires.append(Wire())
        connection = Connection(server)
        connection.connection_made(wires[-1])
        if wires[-1].closed and not wires[-1].written:  # as the event loop does after an abort
            connection.connection_lost(None)
    assert sum(wire.written.startswith(b"HTTP/1.1 503") for wire in wires) == TOLD
    assert len(server.connections) == 5 + TOLD
    assert server.refused_connections == 2 * TOLD
