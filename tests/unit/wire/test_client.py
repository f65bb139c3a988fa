"""The small HTTP client: when it uses a kept connection, and what it sends twice."""

import socket
import threading

import numpy as np
import pytest

from trimtab.adapters.wire import client as module
from trimtab.adapters.wire.client import JsonClient
from trimtab.errors import InputError, Unavailable

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers ``answers`` requests of each connection, then reads one more and closes, or closes at once."""

    def __init__(self, *, answers: int, reads_one_more: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.taken: list[bytes] = []
        self.connections = 0
        self.closed = threading.Event()
        self._answers, self._one_more = answers, reads_one_more
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with caller:
                self.connections += 1
                for _ in range(self._answers):
                    if not (data := caller.recv(65536)):
                        break
                    self.taken.append(data.partition(b" ")[0])
                    caller.sendall(ANSWER)
                if self._one_more and (data := caller.recv(65536)):
                    self.taken.append(data.partition(b" ")[0])
            self.closed.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serving():
    made = []

    def start(**options):
        made.append(Server(**options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_connection_that_the_server_has_closed_is_made_anew(serving):
    server = serving(answers=1, reads_one_more=False)
    with JsonClient(server.url) as client:
        for _ in range(3):
            server.closed.clear()
            assert client.post("/x", {}) == {}
            assert server.closed.wait(5)
    assert server.taken == [b"POST"] * 3


def test_one_that_was_idle_for_a_while_is_not_used_again(serving, monkeypatch):
    server = serving(answers=5, reads_one_more=False)
    with JsonClient(server.url) as client:
        client.post("/x", {})
        client.post("/x", {})
        assert server.connections == 1
        monkeypatch.setattr(module, "_KEPT_S", -1.0)
        client.post("/x", {})
    assert server.connections == 2


def test_only_what_changes_nothing_is_sent_again(serving):
    server = serving(answers=1, reads_one_more=True)
    with JsonClient(server.url) as client:
        client.get("/x")
        assert client.get("/x") == {}
        with pytest.raises(Unavailable):
            client.post("/x", {})
    assert server.taken == [b"GET", b"GET", b"GET", b"POST"]


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ({"visits": float("inf")}, "visits: inf"),
        ({"instances": [{"visits": 1.0}, {"visits": float("-inf"), "note": "null"}]}, "instances[1].visits: -inf"),
        ({"inputs": [{"data": ([0.0, float("nan")], [float("inf")])}]}, "inputs[0].data[1][0]: inf"),
    ],
)
def test_an_infinity_is_refused_and_not_sent_as_a_missing_value(serving, body, got):
    server = serving(answers=2, reads_one_more=False)
    with JsonClient(server.url) as client:
        with pytest.raises(InputError, match="an infinity cannot be sent") as caught:
            client.post("/x", body)
        assert caught.value.got == got
        assert "finite" in caught.value.hint
    assert server.connections == 0


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ma.masked, "instances[1].visits: masked of type MaskedConstant"),
        (np.array([1.0, 2.0]), "instances[1].visits: array([1., 2.]) of type ndarray"),
        (1j, "instances[1].visits: 1j of type complex"),
        ("\ud800", "instances[1].visits: '\\ud800' of type str"),
        ({1j: 2}, "Only dicts with"),
    ],
)
def test_what_json_has_no_form_for_is_refused_by_its_place(serving, value, got):
    server = serving(answers=2, reads_one_more=False)
    with JsonClient(server.url) as client:
        with pytest.raises(InputError, match="a value cannot be sent as JSON") as caught:
            client.post("/x", {"instances": [{"visits": 1.0}, {"visits": value}]})
        assert caught.value.got.startswith(got)
        assert "number" in caught.value.hint
    assert server.connections == 0
