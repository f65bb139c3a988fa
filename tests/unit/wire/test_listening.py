"""A port that is kept for workers that come and go, and that no other program shares."""

import errno
import select
import socket
from contextlib import ExitStack

import pytest

from trimtab.adapters.wire.listening import last_callers, listening_socket, reserved_socket
from trimtab.errors import Unavailable

HERE = "127.0.0.1"


@pytest.fixture
def port():
    with reserved_socket(HERE, 0) as free:
        return int(free.getsockname()[1])


def refused(port: int, *, shared: bool = False) -> bool:
    try:
        reserved_socket(HERE, port, shared=shared, option="--console-port").close()
    except Unavailable as error:
        return f"{HERE}:{port}" in str(error) and "--console-port" in str(error)
    return False


def test_one_that_is_kept_is_nobody_elses(port):
    with reserved_socket(HERE, port):
        assert refused(port)
    assert not refused(port)


def test_our_workers_listen_beside_it(port):
    with reserved_socket(HERE, port), listening_socket(HERE, port) as first, listening_socket(HERE, port) as second:
        first.listen()
        second.listen()
        socket.create_connection((HERE, port)).close()


def test_workers_that_outlive_who_kept_it_go_on_and_are_joined_by_their_own(port):
    with reserved_socket(HERE, port):
        worker = listening_socket(HERE, port)
    with worker:
        assert not refused(port, shared=True)
        worker.listen()
        assert refused(port)
        assert not refused(port, shared=True)


@pytest.mark.parametrize("shares", [True, False])
def test_connections_that_have_just_ended_do_not_keep_it(port, shares):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        other.bind((HERE, port))
        other.listen()
        assert refused(port)
        with socket.create_connection((HERE, port)):
            other.accept()[0].close()  # we close first: the port is in TIME_WAIT
    assert not refused(port)


def test_another_program_on_all_addresses_has_it_too(port):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("0.0.0.0", port))
        other.listen()
        assert refused(port)


@pytest.mark.parametrize("host", [HERE, "::1", "0.0.0.0", "::"])
def test_nobody_joins_the_queue_of_a_socket_that_is_about_to_close(host):
    with listening_socket(host, 0) as listener, ExitStack() as stack:
        listener.listen(64)
        address = ("::1" if ":" in host else HERE, listener.getsockname()[1])
        early = [stack.enter_context(socket.create_connection(address)) for _ in range(9)]
        with last_callers(listener) as waiting:
            late = stack.enter_context(socket.socket(listener.family))
            late.setblocking(False)
            assert late.connect_ex(address) == errno.EINPROGRESS
            listener.shutdown(socket.SHUT_RDWR)
        for accepted, caller in zip(waiting, early, strict=True):
            with accepted:
                caller.sendall(b"asked")
                assert accepted.recv(16) == b"asked"
        listener.close()
        select.select([], [late], [], 5)  # until the kernel has tried again
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
