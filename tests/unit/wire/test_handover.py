"""A listening socket passes between servers, and what waits in its queue is answered."""

import asyncio
import errno
import select
import socket
import threading
import time
from contextlib import asynccontextmanager

import pytest
import uvloop
from tests.conformance.http_server import Mirror

from trimtab.adapters.wire import handover
from trimtab.adapters.wire import server as wire
from trimtab.adapters.wire.handover import Door
from trimtab.adapters.wire.limits import Limits
from trimtab.adapters.wire.listening import listening_socket
from trimtab.adapters.wire.server import HttpServer

ASK = b"GET /count HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Stalled:
    """Holds a listening socket, and accepts nothing from it."""

    def __init__(self, listener):
        self.listening = {listener: 1}

    async def listen(self, listener, number):
        return False

    def silence(self, listener):
        del self.listening[listener]
        listener.close()


@pytest.fixture
def made():
    """Listening sockets with 16 places in their queues."""
    sockets = []

    def listening():
        sockets.append(listening_socket("127.0.0.1", 0))
        sockets[-1].listen(16)
        return sockets[-1]

    yield listening
    for one in sockets:
        one.close()


async def until(holds):
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served(run, number, listener):
    """A server with a door, until it is told to stop."""
    door = Door(run / f"worker-{number}.door", number)
    server = HttpServer(Mirror(), Limits(), drain_s=1.0, door=door)
    task = asyncio.create_task(server.run(listener))
    await until((run / f"worker-{number}.door").exists)
    yield server
    server.stop()
    await task


def port_of(listener):
    return listener.getsockname()[1]


def numbers(holder):
    return sorted(holder.listening.values())


async def answered(caller):
    """Whether a connection gets its answer."""
    loop = asyncio.get_running_loop()
    caller.setblocking(False)
    with caller:
        await loop.sock_sendall(caller, ASK)
        return (await asyncio.wait_for(loop.sock_recv(caller, 65536), 5)).startswith(b"HTTP/1.1 200")


def connect(port, count):
    return [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]


@pytest.mark.parametrize("folder", ["run", "long" * 50])
def test_what_waits_for_a_worker_that_leaves_is_answered_by_a_sibling(tmp_path, made, folder):
    run = tmp_path / folder  # the first worker makes it

    async def leave():
        left = made()
        port, stalled = port_of(left), Stalled(left)
        leaver = Door(run / "worker-1.door", 1)
        async with served(run, 2, made()) as sibling:
            leaver.open(stalled)
            waiting = connect(port, 8)
            await leaver.leave()
            assert numbers(stalled) == []
            assert numbers(sibling) == [1, 2]
            assert [await answered(caller) for caller in waiting + connect(port, 2)] == [True] * 10

    asyncio.run(leave())
    assert list(run.iterdir()) == []


def test_a_successor_gets_the_socket_back_and_nothing_else(tmp_path, made):
    async def restart():
        port = port_of(one := made())
        async with served(tmp_path, 2, made()) as sibling:
            leaver = Door(tmp_path / "worker-1.door", 1)
            leaver.open(Stalled(one))
            await leaver.leave()
            successor = Door(tmp_path / "worker-1.door", 1)
            assert await asyncio.to_thread(successor.ask, port + 1) is None
            found = await asyncio.to_thread(successor.ask, port)
            assert port_of(found) == port
            await until(lambda: numbers(sibling) == [2])
            assert await asyncio.to_thread(successor.ask, port) is None
            assert await asyncio.to_thread(Door(tmp_path / "worker-3.door", 3).ask, port) is None
            waiting = connect(port, 3)
            async with served(tmp_path, 1, found):
                assert [await answered(caller) for caller in waiting] == [True] * 3

    asyncio.run(restart())


def test_a_stand_in_accepts_beside_a_sibling_and_leaves_no_socket_behind(tmp_path, made):
    async def stand_in():
        port = port_of(one := made())
        async with served(tmp_path, 1, one) as sibling:
            extra = Door(tmp_path / "worker-2.door", 2, stand_in=True)
            shared = await asyncio.to_thread(extra.ask, port)
            assert port_of(shared) == port
            assert extra.number == 1
            assert numbers(sibling) == [1]
            extra.open(stalled := Stalled(shared))
            await extra.leave()
            assert numbers(stalled) == []
            assert numbers(sibling) == [1]
            assert [await answered(caller) for caller in connect(port, 3)] == [True] * 3

    asyncio.run(stand_in())


def test_nobody_takes_it_from_the_last_one_nor_does_one_that_leaves_itself(tmp_path, made):
    async def leave():
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(tmp_path / "worker-9.door"))  # of a process that was killed
        dead.close()
        leaver, last = Door(tmp_path / "worker-1.door", 1), Door(tmp_path / "worker-2.door", 2)
        leaver.open(first := Stalled(made()))
        last.open(second := Stalled(made()))  # says no
        await leaver.leave()
        await last.leave()
        await last.leave()
        assert (numbers(first), numbers(second)) == ([1], [1])

    asyncio.run(leave())


def test_what_waits_is_answered_by_a_sibling_that_is_leaving_itself_when_the_socket_comes(tmp_path, made):
    async def leave():
        server, brought = HttpServer(Mirror(), Limits(), drain_s=5.0), made()
        task = asyncio.create_task(server.run(made()))
        waiting = connect(port_of(brought), 5)
        server.stop()
        await until(lambda: server.draining)
        assert await server.listen(brought.dup(), 9)
        assert [await answered(caller) for caller in waiting] == [True] * 5
        await task

    asyncio.run(leave())


@pytest.mark.parametrize("shared", [False, True])
def test_a_sibling_that_stands_still_finds_the_socket_later(tmp_path, made, monkeypatch, shared):
    """What is shut down by the one that leaves is shut down for all who have it, now or later."""
    monkeypatch.setattr(handover, "_PATIENCE_S", 0.1)
    own, begun, ended = made(), threading.Event(), threading.Event()
    left = own if shared else made()

    async def sibling():
        async with served(tmp_path, 2, own.dup()) as server:
            begun.set()
            time.sleep(1)  # noqa: ASYNC251 - its event loop is busy
            await until(lambda: numbers(server) == ([2] if shared else [1, 2]))
            await asyncio.to_thread(ended.wait, 10)

    async def leave():
        door = Door(tmp_path / "worker-1.door", 1, stand_in=shared)
        leaver = HttpServer(Mirror(), Limits(), drain_s=1.0, door=door)
        task = asyncio.create_task(leaver.run(left.dup()))
        await until((tmp_path / "worker-1.door").exists)
        leaver.stop()
        await task
        assert [await answered(caller) for caller in connect(port_of(left), 5)] == [True] * 5

    other = threading.Thread(target=lambda: asyncio.run(sibling()))
    other.start()
    try:
        assert begun.wait(5)
        asyncio.run(leave())
    finally:
        ended.set()
        other.join(20)


@pytest.mark.parametrize(
    "message", [b"", b"\xff", b"{}", b'{"what": "keep", "number": "1"}', b'{"what":"keep","number":1}']
)
def test_nonsense_at_the_door_changes_nothing(tmp_path, made, message):
    async def nonsense():
        port = port_of(one := made())
        async with served(tmp_path, 1, one) as sibling:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(tmp_path / "worker-1.door"))
                caller.sendall(message)
                caller.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(caller.recv, 10) == b""
            assert numbers(sibling) == [1]
            with await asyncio.to_thread(Door(tmp_path / "worker-2.door", 2, stand_in=True).ask, port) as found:
                assert port_of(found) == port

    asyncio.run(nonsense())


@pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
def test_the_last_worker_answers_what_waits_when_it_closes_its_socket(made, monkeypatch, loops):
    async def end():
        listener, waiting = made(), []
        server = HttpServer(Mirror(), Limits(), drain_s=5.0)
        close = server._close

        async def crowded(one):
            waiting.extend(connect(port_of(one), 8))  # nothing runs between this and the close but what accepts
            for caller in waiting:
                caller.sendall(ASK)
            await close(one)

        monkeypatch.setattr(server, "_close", crowded)
        task = asyncio.create_task(server.run(listener, server.stop))
        await task
        for caller in waiting:
            with caller:
                assert caller.recv(65536).startswith(b"HTTP/1.1 200")
        assert not server.connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loops == "uvloop" else None) as runner:
        runner.run(end())


def test_a_server_goes_only_when_what_it_accepted_last_is_answered(made, monkeypatch):
    async def end():
        listener = made()
        server = HttpServer(Mirror(), Limits(), drain_s=5.0)
        task = asyncio.create_task(server.run(listener))
        await asyncio.sleep(0.05)
        waiting = connect(port_of(listener), 8)
        server.stop()
        for caller in waiting:
            caller.sendall(ASK)
        await task
        for caller in waiting:
            with caller:
                assert caller.recv(65536).startswith(b"HTTP/1.1 200")

    asyncio.run(end())


def test_who_connects_while_the_last_worker_closes_its_socket_is_answered_or_refused_not_reset(made, monkeypatch):
    """A load balancer may not send elsewhere what was reset; what was refused it may."""

    async def end():
        listener, late = made(), [socket.socket() for _ in range(12)]
        server = HttpServer(Mirror(), Limits(), drain_s=5.0)
        close = server._close

        async def joined(one):
            for caller in late:
                caller.setblocking(False)
                assert caller.connect_ex(("127.0.0.1", port_of(one))) == errno.EINPROGRESS
            await close(one)

        monkeypatch.setattr(server, "_close", joined)
        task = asyncio.create_task(server.run(listener, server.stop))
        await until(lambda: not server.listening and server.draining)
        assert all(await asyncio.gather(*map(fine, late)))
        await task

    async def fine(caller):
        with caller:
            await asyncio.to_thread(select.select, [], [caller], [], 5)  # until the kernel has tried again
            error = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return error == errno.ECONNREFUSED or (error == 0 and await answered(caller))

    asyncio.run(end())


def test_what_comes_on_an_idle_connection_right_after_the_end_began_is_answered(made, monkeypatch):
    monkeypatch.setattr(wire, "_GRACE_S", 0.0)  # whatever is idle now has been so for long

    async def end():
        listener = made()
        server = HttpServer(Mirror(), Limits(), drain_s=5.0)
        task = asyncio.create_task(server.run(listener))
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listener))
        other, idle = await asyncio.open_connection("127.0.0.1", port_of(listener))
        await until(lambda: len(server.connections) == 2)
        server.stop()
        await asyncio.sleep(0.1)
        writer.write(ASK.replace(b"connection: close\r\n", b""))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert await asyncio.wait_for(other.read(), 5) == b""  # nothing came on it
        await task
        writer.close()
        idle.close()

    asyncio.run(end())
