"""How a listening socket passes from a worker that leaves to one that stays, with the connections that wait in it.

The kernel resets whatever stands in the queue of a listening socket that closes, although others listen on the same
port. So it does not close: a worker that leaves sends it through a Unix socket, its *door*, to another worker of the
same home, which accepts from it until the leaver's successor asks for it. No privilege is needed, nor any process
beside the workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

_log = logging.getLogger("trimtab.serving")
_T = TypeVar("_T")
_PATIENCE_S = 2.0
"""For one message between two processes of one machine."""
_MOST_BYTES = 1024
_SO_COOKIE = 57
"""``SO_COOKIE`` of Linux, which :mod:`socket` does not name: which socket of the kernel a descriptor stands for."""


class Holder(Protocol):
    """What accepts connections, from any number of sockets."""

    @property
    def listening(self) -> Mapping[socket.socket, int]:
        """The sockets it accepts from; for each the number of the worker whose socket it is."""
        ...

    async def listen(self, listener: socket.socket, number: int) -> bool:
        """Accept from one more, or when it is leaving what waits in it; False, and nothing done, when it cannot."""
        ...

    def silence(self, listener: socket.socket) -> None:
        """Accept from a socket no more, and close this process's descriptor of it."""
        ...


class _Silent(Exception):
    """A sibling has a message, and says nothing to it in time."""


class _Message(msgspec.Struct, frozen=True):
    """``want`` asks for the socket of a worker (of any, with number 0), ``keep`` brings one."""

    what: str
    number: int
    port: int = 0


class Door:
    """Where a worker's siblings ask for listening sockets, and leave theirs.

    Parameters
    ----------
    path
        Of the Unix socket: ``run/worker-<n>.door``. The doors of siblings lie beside it.
    number
        Of the worker.
    stand_in
        Has no socket of its own: it accepts from that of a sibling, at the same time. For a worker that is to stay
        for a moment only; the number of sockets, over which the kernel spreads connections, stays as it is.
    """

    def __init__(self, path: Path, number: int, *, stand_in: bool = False) -> None:
        self._path, self._stand_in = path, stand_in
        self.number = number
        """Of the worker whose socket this one accepts from; for a stand-in that of a sibling, once it has asked."""
        self._keeper: _Doorkeeper | None = None
        self._holder: Holder | None = None

    def ask(self, port: int) -> socket.socket | None:
        """The socket that this worker is to accept from; None when no sibling has it. Blocks for moments."""
        message = _Message("want", 0 if self._stand_in else self.number, port)
        for sibling in self._siblings():
            try:
                number, found = _told(sibling, message)
            except _Silent:
                continue
            if found is not None:
                self.number = number
                return found
        return None

    def open(self, holder: Holder) -> None:
        """Hear siblings from now on. Without a door, a worker that leaves resets what waits for it; that is logged."""
        self._holder = holder
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            with _short(self._path) as path:
                door.bind(path)
            self._path.chmod(0o600)
            door.listen(8)
        except OSError as error:
            door.close()
            _log.warning("no door for the other workers: %s", error)
            return
        self._keeper = _Doorkeeper(door, self.number, holder, asyncio.get_running_loop())
        threading.Thread(target=self._keeper.hear, name="trimtab-door", daemon=True).start()

    async def leave(self) -> None:
        """Hand every listening socket to a sibling; what nobody takes stays with the holder, who may close it.

        A sibling that does not answer in time finds the socket at its door later, so it counts as handed over: to shut
        it down would shut it down for the sibling too. A stand-in never owned the socket that it accepts from.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            with suppress(OSError):
                self._path.unlink()
            keeper.close()
        if (holder := self._holder) is None:
            return
        for listener, number in list(holder.listening.items()):
            if await asyncio.to_thread(self._handed, listener, number) or self._stand_in:
                holder.silence(listener)

    def _siblings(self) -> list[Path]:
        return [path for path in sorted(self._path.parent.glob(f"*{self._path.suffix}")) if path != self._path]

    def _handed(self, listener: socket.socket, number: int) -> bool:
        """Whether a sibling has it, or will find it."""
        message, sent = _Message("keep", number), False
        for sibling in self._siblings():
            try:
                if _told(sibling, message, listener)[0]:
                    return True
            except _Silent:
                sent = True
        return sent


class _Doorkeeper:
    """Hears siblings in a thread of its own; what they want is done in the event loop."""

    def __init__(self, door: socket.socket, number: int, holder: Holder, loop: asyncio.AbstractEventLoop) -> None:
        self.holder = holder
        self._door, self._number, self._loop = door, number, loop

    def close(self) -> None:
        """End :meth:`hear`."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread
        self._door.close()

    def hear(self) -> None:
        """Answer siblings until closed."""
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:
                return
            with caller:
                try:
                    caller.settimeout(_PATIENCE_S)
                    self._answer(caller)
                except (OSError, RuntimeError, msgspec.MsgspecError) as error:
                    _log.warning("a message of another worker came to nothing: %r", error)

    def _answer(self, caller: socket.socket) -> None:
        if _user(caller) not in (os.getuid(), None):
            _log.warning("another user is at the door")
            return
        message, brought = _received(caller)
        if brought is not None:
            # However long that takes: who brought it has given it away by then.
            if self._await(self._kept(brought, message.number), None):
                caller.sendall(b"%d" % message.number)
            return
        found = self._await(self._found(message.number, message.port))
        if found is None:
            return
        listener, number = found
        socket.send_fds(caller, [b"%d" % number], [listener.fileno()])
        if message.number and number != self._number:
            self._await(self._silenced(listener), None)

    def _await(self, step: Coroutine[Any, Any, _T], patience_s: float | None = _PATIENCE_S) -> _T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(patience_s)

    async def _kept(self, listener: socket.socket, number: int) -> bool:
        if any(_same(listener, one) for one in self.holder.listening):
            listener.close()
            return True
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.close()  # it was shut down meanwhile: to listen again would bring back what nobody counts on
            return False
        if await self.holder.listen(listener, number):
            return True
        listener.close()
        return False

    async def _found(self, number: int, port: int) -> tuple[socket.socket, int] | None:
        """The socket that is wanted, and whose it is."""
        for listener, of in self.holder.listening.items():
            if number in (0, of) and listener.getsockname()[1] == port:
                return listener, of
        return None

    async def _silenced(self, listener: socket.socket) -> None:
        if listener in self.holder.listening:
            self.holder.silence(listener)


def _told(sibling: Path, message: _Message, listener: socket.socket | None = None) -> tuple[int, socket.socket | None]:
    """What a sibling answers to a message: whose socket it is about (0: it does not do it), and the socket it gives."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller, _short(sibling) as path:
            caller.settimeout(_PATIENCE_S)
            caller.connect(path)
            sent = [] if listener is None else [listener.fileno()]
            socket.send_fds(caller, [msgspec.json.encode(message)], sent)
            try:
                answer, found, _, _ = socket.recv_fds(caller, 16, 1)
            except TimeoutError:
                raise _Silent from None
            return int(answer or b"0"), _socket(found[0]) if found else None
    except OSError:
        return 0, None


def _received(caller: socket.socket) -> tuple[_Message, socket.socket | None]:
    data, found, _, _ = socket.recv_fds(caller, _MOST_BYTES, 1)
    brought = _socket(found[0]) if found else None
    try:
        return msgspec.json.decode(data, type=_Message), brought
    except msgspec.DecodeError:
        if brought is not None:
            brought.close()
        raise


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    made = socket.socket(fileno=descriptor)
    made.setblocking(False)
    return made


def _same(one: socket.socket, other: socket.socket) -> bool:
    try:
        return one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8) == other.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
    except OSError:
        return False


def _user(caller: socket.socket) -> int | None:
    """Whose process is at the other end, where the system tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    return int(struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))[1])


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same file by a name that fits into the address of a Unix socket, about 100 bytes."""
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
