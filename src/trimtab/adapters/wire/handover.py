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
_YES = b"ok"
_SO_COOKIE = 57
"""``SO_COOKIE`` of Linux, which :mod:`socket` does not name: which socket of the kernel a descriptor stands for."""


class Holder(Protocol):
    """What accepts connections, from any number of sockets."""

    @property
    def listening(self) -> Mapping[socket.socket, int]:
        """The sockets it accepts from; for each the number of the worker whose socket it is."""
        ...

    async def listen(self, listener: socket.socket, number: int) -> bool:
        """Accept from one more; False, and nothing done, when it is leaving."""
        ...

    def silence(self, listener: socket.socket) -> None:
        """Accept from a socket no more, and close this process's descriptor of it."""
        ...


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
        self._path, self._number, self._stand_in = path, number, stand_in
        self._keeper: _Doorkeeper | None = None

    def ask(self, port: int) -> socket.socket | None:
        """The socket that this worker is to accept from; None when no sibling has it. Blocks for moments."""
        message = _Message("want", 0 if self._stand_in else self._number, port)
        return next((found for sibling in self._siblings() if (found := _told(sibling, message)[1])), None)

    def open(self, holder: Holder) -> None:
        """Hear siblings from now on. Without a door, a worker that leaves resets what waits for it; that is logged."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with _short(self._path) as path:
                door.bind(path)
            self._path.chmod(0o600)
            door.listen(8)
        except OSError as error:
            door.close()
            _log.warning("no door for the other workers: %s", error)
            return
        self._keeper = _Doorkeeper(door, self._number, holder, asyncio.get_running_loop())
        threading.Thread(target=self._keeper.hear, name="trimtab-door", daemon=True).start()

    async def leave(self) -> bool:
        """Hand every listening socket to a sibling; whether that was done for all of them."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return False
        with suppress(OSError):
            self._path.unlink()
        keeper.close()
        done = True
        for listener, number in list(keeper.holder.listening.items()):
            if await asyncio.to_thread(self._handed, listener, number):
                keeper.holder.silence(listener)
            else:
                done = False
        return done

    def _siblings(self) -> list[Path]:
        return [path for path in sorted(self._path.parent.glob(f"*{self._path.suffix}")) if path != self._path]

    def _handed(self, listener: socket.socket, number: int) -> bool:
        message = _Message("keep", number)
        return any(_told(sibling, message, listener)[0] for sibling in self._siblings())


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
            if self._await(self._kept(brought, message.number)):
                caller.sendall(_YES)
            return
        found = self._await(self._found(message.number, message.port))
        if found is None:
            return
        listener, moves = found
        socket.send_fds(caller, [_YES], [listener.fileno()])
        if moves:
            self._await(self._silenced(listener))

    def _await(self, step: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(_PATIENCE_S)

    async def _kept(self, listener: socket.socket, number: int) -> bool:
        if any(_same(listener, one) for one in self.holder.listening):
            listener.close()
            return True
        if await self.holder.listen(listener, number):
            return True
        listener.close()
        return False

    async def _found(self, number: int, port: int) -> tuple[socket.socket, bool] | None:
        """The socket that is wanted, and whether it is no longer for us to accept from it."""
        for listener, of in self.holder.listening.items():
            if number in (0, of) and listener.getsockname()[1] == port:
                return listener, bool(number) and of != self._number
        return None

    async def _silenced(self, listener: socket.socket) -> None:
        if listener in self.holder.listening:
            self.holder.silence(listener)


def _told(sibling: Path, message: _Message, listener: socket.socket | None = None) -> tuple[bool, socket.socket | None]:
    """Whether a sibling does what it is told, and the socket it gives."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller, _short(sibling) as path:
            caller.settimeout(_PATIENCE_S)
            caller.connect(path)
            sent = [] if listener is None else [listener.fileno()]
            socket.send_fds(caller, [msgspec.json.encode(message)], sent)
            answer, found, _, _ = socket.recv_fds(caller, len(_YES), 1)
            return answer == _YES, _socket(found[0]) if found else None
    except OSError:
        return False, None


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
