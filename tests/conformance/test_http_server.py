"""What every server of the data plane must do with HTTP/1.1, whoever wrote it, over real sockets.

Where uvicorn differs, the test says so and why: :func:`only_ours`.
"""

import contextlib
import hashlib
import signal
import socket
import struct
import time
from email.utils import parsedate_to_datetime

import pytest
from tests.conformance.http_server import Caller, Served, post

BODY = 200_000
LIMITS = {"body": BODY, "bodies": 2_000_000, "head_s": 1.0, "body_s": 1.0, "idle_s": 2.0, "write_s": 1.5}
GET = b"GET /after/0 HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"


@pytest.fixture(scope="module", params=["httptools", "uvicorn"])
def server(request):
    served = Served(request.param, **LIMITS)
    yield served
    assert served.well(), "the server did not survive the tests"
    served.stop()


@pytest.fixture(params=["httptools", "uvicorn"])
def patient(request):
    """With the limits of time that it has by itself: under load a test may take long over what it sends."""
    served = Served(request.param, body=BODY)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def ours():
    """Our own server alone: uvicorn bounds neither heads nor times nor connections, nor looks at the order of answers.

    Behind it there must be a proxy that does.
    """
    served = Served("httptools", **LIMITS)
    yield served
    assert served.well(), "the server did not survive the tests"
    served.stop()


def reset(caller: Caller) -> None:
    """Hang up rudely."""
    caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.socket.close()


def cut_off(caller: Caller) -> bool:
    """Whether the connection ends in the middle of an answer."""
    with caller:
        try:
            caller.answers()
        except (ConnectionError, AssertionError):
            return True
    return False


# -- what is said right


def test_a_connection_is_kept(server):
    with server.caller() as caller:
        for body in (b"one", b"", b"three", b"three"):
            assert caller.send(post(body)).answer().json()["size"] == len(body)


def test_http_1_0_is_answered_and_closed(server):
    with server.caller() as caller:
        assert caller.send(b"GET /after/0 HTTP/1.0\r\n\r\n").answer().status == 200
        assert caller.ended()


def test_close_is_obeyed_and_said(server):
    with server.caller() as caller:
        found = caller.send(post(b"x", b"connection: close") + post(b"never answered")).answer()
        assert (found.status, found.headers["connection"]) == (200, "close")
        assert caller.ended()


def test_head_has_the_headers_and_no_body(server):
    with server.caller() as caller:
        found = caller.send(b"HEAD /large/9 HTTP/1.1\r\nhost: x\r\n\r\n").answer(head_only=True)
        assert (found.status, found.headers["content-length"]) == (200, "9")
        assert caller.send(GET).answer().status == 200


def test_date_is_now(server):
    found = parsedate_to_datetime(server.one(GET).headers["date"])
    assert abs(found.timestamp() - time.time()) < 3


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"bc", b"d" * 5000], []], ids=len)
def test_chunks_and_trailers(server, pieces):
    chunks = b"".join(b"%x;extension=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    trailers = b"x-request-id: a trailer\r\ncontent-type: image/png\r\n"
    with server.caller() as caller:
        found = caller.send(CHUNKED + b"\r\n" + chunks + b"0\r\n" + trailers + b"\r\n").answer().json()
        assert found["sha"] == hashlib.sha256(b"".join(pieces)).hexdigest()
        assert caller.send(GET).answer().status == 200
    if server.kind == "httptools":  # uvicorn adds trailers to the headers; the application lets real ones win
        assert found["headers"] == {}


def test_a_large_body_in_many_pieces(server):
    body = bytes(range(256)) * (BODY // 256)
    data = post(body)
    with server.caller() as caller:
        for start in range(0, len(data), 777):
            caller.send(data[start : start + 777])
        assert caller.answer().json()["sha"] == hashlib.sha256(body).hexdigest()


def test_a_request_byte_by_byte(server):
    with server.caller() as caller:
        for _ in range(2):
            for byte in post(b"abc", b"X-Trimtab-Unit: u7"):
                caller.send(bytes([byte]))
            assert caller.answer().json()["headers"] == {"x-trimtab-unit": "u7"}


def test_the_body_is_asked_for(server):
    with server.caller() as caller:
        assert caller.send(post(b"abc", b"expect: 100-continue")[:-3]).answer().status == 100
        assert caller.send(b"abc").answer().json()["size"] == 3


@pytest.mark.parametrize("target", [b"/echo?a=1", b"http://other/echo", b"http://other/echo?a=/b", b"/%65ch%6F"])
def test_targets(server, target):
    if server.kind == "uvicorn" and target.startswith(b"http"):
        pytest.skip("uvicorn passes an absolute target on as a path")
    assert server.one(post(b"", path=target)).json()["path"] == "/echo"


def test_a_target_is_decoded_once(server):
    assert server.one(post(b"", path=b"/echo/a%252Fb%20c%C3%BC%00%ff")).status == 200
    if server.kind == "httptools":  # uvicorn takes the path for ASCII and says 400 or 500 to some of these
        assert server.one(post(b"", path=b"/echo/a%252Fb%20c")).json()["path"] == "/echo/a%2Fb c"


def test_answers_come_in_the_order_of_requests(server):
    delays = [80, 0, 40, 0, 20, 0]
    with server.caller() as caller:
        caller.send(b"".join(b"GET /after/%d HTTP/1.1\r\nhost: x\r\n\r\n" % delay for delay in delays))
        assert [caller.answer().json()["after"] for _ in delays] == [str(delay) for delay in delays]


@pytest.mark.parametrize("count", [17, 3000])
def test_many_requests_at_once_are_all_answered(patient, count):
    with patient.caller() as caller:
        caller.send(b"".join(post(b"%d" % number) for number in range(count)))
        for number in range(count):
            assert caller.answer().json()["sha"] == hashlib.sha256(b"%d" % number).hexdigest()


@pytest.mark.parametrize("offer", [b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA",
                                   b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x"])  # fmt: skip
def test_an_offered_upgrade_is_passed_over(server, offer):
    with server.caller() as caller:
        assert caller.send(GET[:-2] + offer + b"\r\n\r\n").answer().json() == {"after": "0"}
    if server.kind == "uvicorn":
        pytest.skip("uvicorn drops the body of such a request, and whatever comes after it")
    with server.caller() as caller:
        assert caller.send(post(b"abc", offer) + post(b"abcd")).answer().json()["size"] == 3
        assert caller.answer().json()["size"] == 4
        chunked = CHUNKED + offer + b"\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n"
        assert [found.json()["size"] for found in caller.send(chunked + GET).answers()] == [1]


# -- what is refused


@pytest.mark.parametrize(("data", "status"), [
    (b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    (b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    (post(b"x", b"content-encoding: gzip"), 415),
    (post(b"x" * (BODY + 1)), 413),
])  # fmt: skip
def test_refusals_are_json(server, data, status):
    found = server.one(data)
    assert found.status == status
    assert found.json()["error"]


def test_too_large_is_said_before_the_body_is_sent(server):
    for declared in (BODY + 1, 10**18):
        head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nexpect: 100-continue\r\n\r\n" % declared
        assert server.one(head).status == 413


def test_too_large_is_said_when_it_becomes_so(server):
    with server.caller() as caller:
        caller.send(CHUNKED + b"\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(BODY // 1000 + 2):
                caller.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        assert caller.answer().status == 413


AMBIGUOUS = {
    "length and chunks": CHUNKED + b"content-length: 3\r\n\r\n0\r\n\r\n",
    "chunks and length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": post(b"abc", b"content-length: 5"),
    "two equal lengths": post(b"abc", b"content-length: 3"),
    "a list of lengths": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3, 3\r\n\r\nabc",
    "a signed length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc",
    "a negative length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: -3\r\n\r\nabc",
    "a hexadecimal length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 0x3\r\n\r\nabc",
    "an empty length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length:\r\n\r\nabc",
    "an endless length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\nabc",
    "chunks not last": b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": post(b"abc", b"x-a : b"),
    "a space in the length": b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length : 3\r\n\r\nabc",
    "a folded header": post(b"abc", b"x-a: b\r\n c"),
    "a folded first header": b"POST /echo HTTP/1.1\r\n x: y\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
    "bare line feeds": post(b"abc").replace(b"\r\n", b"\n"),
    "a bare line feed": post(b"abc", b"x-a: b\nx-b: c"),
    "a bare carriage return": post(b"abc", b"x-a: b\rx-b: c"),
    "a zero in a value": post(b"abc", b"x-a: b\0c"),
    "a zero in a name": post(b"abc", b"x\0a: b"),
    "no name": post(b"abc", b": b"),
    "no colon": post(b"abc", b"abc"),
    "a bad chunk size": CHUNKED + b"\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "a signed chunk size": CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a prefixed chunk size": CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "an endless chunk size": CHUNKED + b"\r\n" + b"f" * 20 + b"\r\nabc\r\n0\r\n\r\n",
    "a chunk too long": CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n",
    "a chunk with a line feed": CHUNKED + b"\r\n3\nabc\n0\n\n",
    "a method of ours": b"HACK /echo HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method in small letters": b"post /echo HTTP/1.1\r\nhost: x\r\n\r\n",
    "a space too many": b"POST  /echo HTTP/1.1 \r\nhost: x\r\n\r\n",
    "a target with a space": b"POST /ec ho HTTP/1.1\r\nhost: x\r\n\r\n",
    "no version": b"GET /count\r\n\r\n",
    "another version": b"GET /count HTTP/3.7\r\nhost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "noise": bytes(range(255, 0, -1)) * 5,
    "no host": b"GET /count HTTP/1.1\r\n\r\n",
    "two hosts": post(b"abc", b"host: y"),
    "the same host twice": post(b"abc", b"Host: x"),
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused(server, shape):
    if server.kind == "uvicorn" and shape == "no version":
        pytest.skip("uvicorn answers HTTP/0.9")
    data = AMBIGUOUS[shape]
    before = server.taken()
    with server.caller() as caller:
        # What would be smuggled in behind it must not be seen.
        found = caller.send(data + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n").answers()
    assert [answer.status for answer in found] == [400]
    assert server.taken() - before == 1
    if server.kind == "httptools":  # uvicorn says it in plain text
        assert found[0].json()["error"]


def test_connect_is_refused(server):
    if server.kind == "uvicorn":
        pytest.skip("uvicorn hands CONNECT to the application, which has no path for it")
    with server.caller() as caller:
        found = caller.send(b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n" + GET).answers()
    assert [answer.status for answer in found] == [405]


def test_an_unknown_expectation_is_refused(ours):
    assert ours.one(post(b"x", b"expect: a miracle")).status == 417


# -- limits


@pytest.mark.parametrize("data", [
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /" + b"a" * 3_000_000,
    post(b"", b"x-a: " + b"b" * 40_000),
    b"GET / HTTP/1.1\r\nx-a: " + b"b" * 3_000_000,
    b"GET / HTTP/1.1\r\n" + b"a" * 3_000_000,
    post(b"", *[b"x-%d: 1" % number for number in range(101)]),
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000,
    CHUNKED + b"\r\n0\r\n" + b"a: b\r\n" * 100_000,
])  # fmt: skip
def test_a_large_head_is_refused(ours, data):
    with ours.caller() as caller:
        with contextlib.suppress(ConnectionError):
            caller.send(data)
        assert caller.answer().status == 431
        assert caller.ended()


def test_a_body_in_crumbs_is_refused(ours):
    with ours.caller() as caller:
        caller.send(CHUNKED + b"\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                caller.send((b"1;" + b"x" * 1000 + b"\r\na\r\n") * 100)
        assert caller.answer().status == 413


def test_time_in_which_we_could_not_run_is_nobodys_slowness(ours):
    """The rest of a request lies in the socket when the server goes on, after many times what a head may take."""
    for begun, rest in (
        (b"POST /ec", b"ho HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"),
        (post(b"abc")[:-2], b"bc"),
    ):
        with ours.caller() as caller:
            caller.send(begun)
            time.sleep(0.1)  # it has read that much
            ours.process.send_signal(signal.SIGSTOP)
            try:
                caller.send(rest)
                time.sleep(2.5)
            finally:
                ours.process.send_signal(signal.SIGCONT)
            assert caller.answer().status == 200


def test_a_caller_has_time_left_after_we_could_not_run(ours):
    with ours.caller() as caller:
        caller.send(post(b"abc")[:-2])
        time.sleep(0.1)
        ours.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        ours.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        assert caller.send(b"bc").answer().status == 200


@pytest.mark.parametrize(
    "begun", [b"P", b"GET /count HTTP/1.1\r\nhost: x", post(b"abcdef")[:-3], CHUNKED + b"\r\n1\r\n"]
)
def test_who_takes_too_long_is_told_so(ours, begun):
    began = time.monotonic()
    with ours.caller() as caller:
        assert caller.send(begun).answer().status == 408
        assert caller.ended()
    assert 0.9 < time.monotonic() - began < 6


def test_a_trickle_is_too_slow(ours):
    began = time.monotonic()
    with ours.caller() as caller, contextlib.suppress(ConnectionError):
        for _ in range(60):
            caller.send(b"x")
            time.sleep(0.1)
        assert caller.ended()
    assert time.monotonic() - began < 8


def test_who_says_nothing_is_left(ours):
    began = time.monotonic()
    with ours.caller() as caller:
        assert caller.ended()
    with ours.caller() as caller:
        assert caller.send(GET).answer().status == 200
        assert caller.ended()
    assert 3.5 < time.monotonic() - began < 8


@pytest.mark.parametrize("size", [30_000, 20_000_000])
def test_who_does_not_read_is_left(ours, size):
    """Also when all that is left fits into the server's own buffer: then nothing but time shows it."""
    callers = [ours.caller(receive=4096) for _ in range(8)]
    before = ours.mebibytes()
    for caller in callers:
        caller.send(b"GET /large/%d HTTP/1.1\r\nhost: x\r\n\r\n" % size * (100 if size < 10**6 else 1))
    time.sleep(0.2)
    assert ours.well()
    assert ours.mebibytes() - before < 8 * 20 + 40
    time.sleep(5.5)
    assert [cut_off(caller) for caller in callers] == [True] * 8


def test_many_small_requests_for_much_do_not_pile_up(ours):
    """Their answers would be 2 GB."""
    before = ours.mebibytes()
    with ours.caller(receive=4096) as caller:
        caller.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            caller.send(b"GET /large/300000 HTTP/1.1\r\nhost: x\r\n\r\n" * 7000)
        time.sleep(0.5)
        assert ours.mebibytes() - before < 60
        assert ours.well()


def test_many_unfinished_bodies_are_bounded(ours):
    callers = [ours.caller() for _ in range(30)]
    for caller in callers:
        with contextlib.suppress(ConnectionError):
            caller.send(post(b"x" * BODY)[:-1])
    statuses = [caller.answer().status for caller in callers]
    assert set(statuses) == {408, 503}
    assert statuses.count(408) <= 10
    for caller in callers:
        caller.socket.close()
    assert ours.one(post(b"x" * BODY)).status == 200


def test_connections_are_counted():
    served = Served("httptools", **LIMITS, connections=20)
    try:
        first = [served.caller() for _ in range(20)]
        for caller in first:
            assert caller.send(GET).answer().status == 200
        with served.caller() as one_more:
            found = one_more.answer()
            assert (found.status, found.headers["retry-after"]) == (503, "1")
            assert one_more.ended()
        assert first[0].send(GET).answer().status == 200
        for caller in first:
            caller.socket.close()
        time.sleep(0.2)
        assert served.well()
    finally:
        served.stop()


def test_as_many_connections_as_the_system_allows_files():
    served = Served("httptools", **LIMITS, files=184)
    try:
        callers = [served.caller() for _ in range(75)]
        assert {caller.send(GET).answer().status for caller in callers} == {200, 503}
        for caller in callers:
            caller.socket.close()
        time.sleep(3)
        assert served.well()
    finally:
        served.stop()


# -- rudeness


@pytest.mark.parametrize("begun", [b"", b"POST /ec", post(b"abcdef")[:-2], b"GET /after/50 HTTP/1.1\r\nhost: x\r\n\r\n",
                                   b"GET /large/5000000 HTTP/1.1\r\nhost: x\r\n\r\n"])  # fmt: skip
def test_callers_who_hang_up(server, begun):
    for _ in range(20):
        reset(server.caller().send(begun))
    assert server.well()


def test_a_caller_who_only_listens_still_gets_his_answer(server):
    if server.kind == "uvicorn":
        pytest.skip("uvicorn takes half a hang-up for a whole one")
    with server.caller() as caller:
        caller.send(b"GET /after/50 HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
        caller.socket.shutdown(socket.SHUT_WR)
        assert [found.status for found in caller.answers()] == [200, 200]


def test_memory_stays_where_it_was(ours):
    def trouble() -> None:
        for shape in AMBIGUOUS.values():
            with contextlib.suppress(ConnectionError):
                ours.one(shape)
        for number in range(300):
            ours.one(post(b"x" * 1000, b"x-a: %d" % number, path=b"/echo/%d" % number))

    trouble()
    before = ours.mebibytes()
    for _ in range(3):
        trouble()
    assert ours.mebibytes() - before < 20
