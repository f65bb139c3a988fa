"""A load at a fixed rate ends when it is over, whatever moment its end falls on."""

import socket
import threading

import pytest

from trimtab.app import driving

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def address():
    """A server that answers every request at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection):
            with connection:
                while connection.recv(65_536):
                    connection.sendall(ANSWER)

        def accept():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        waiting = threading.Thread(target=accept, daemon=True)
        waiting.start()
        yield listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)
        waiting.join(5)


def test_an_end_that_passes_between_two_looks_at_the_clock_ends_the_load(address, monkeypatch):
    monkeypatch.setattr(driving, "SILENCE_S", 3.0)  # for so long it waited then, for a worker that owed nothing
    for _ in range(40):
        load = driving.drive([address], [b"GET / HTTP/1.1\r\n\r\n"], connections=2, seconds=0.02, rate=500)
        assert load.requests == 10  # how many are answered in time is the machine's affair
        assert load.seconds < 3.0


def test_a_pause_of_ours_at_the_end_is_no_error_and_no_lower_rate(address, monkeypatch):
    real = driving._Drive._receive
    slept = []

    def receive(self, one):
        real(self, one)
        if self._load.requests == 15 and not slept:
            slept.append(threading.Event().wait(0.15))  # past the end: the last five were due meanwhile

    monkeypatch.setattr(driving._Drive, "_receive", receive)
    load = driving.drive([address], [b"GET / HTTP/1.1\r\n\r\n"], connections=20, seconds=0.2, rate=100)
    assert slept
    assert (load.requests, load.errors, len(load.latencies_ns)) == (20, 0, 20)
    assert load.quantile_ms(1.0) > 40  # they waited, and that counts
