"""One child process that runs a model, and the conversation with it over a socket."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab.adapters.models import isolated_child
from trimtab.adapters.models.isolated_child import HEAD, LOG_BYTES
from trimtab.errors import InputError, MissingExtra, ModelFailed, Unavailable

PROGRAM = Path(isolated_child.__file__)
MOST_ANSWERED = 256 * 1024 * 1024
"""Bytes of one answer: a broken child must not be able to fill our memory."""
_LAST_BYTES = 8 * 1024
_REAP_S = 5.0
_OTHER_PYTHON = "register it with an interpreter that has all libraries of the model: --python venv/bin/python"


class Gone(Exception):
    """The process has ended, or speaks nonsense."""


class Late(Gone):
    """The process did not answer in time."""


class IsolatedProcess:
    """A child in a session of its own; used from one thread at a time, but for :meth:`kill` and :meth:`wait`.

    Parameters
    ----------
    python
        The interpreter; it needs numpy and the model's libraries, not Trimtab.
    log
        Gets what the model prints; the end of it is kept when it is past a megabyte.
    directory
        Its working directory.

    Raises
    ------
    Unavailable
        When no process can be started.
    """

    def __init__(self, python: str, *, directory: Path, log: Path, threads: int = 1) -> None:
        try:
            if log.exists() and log.stat().st_size > LOG_BYTES:
                log.unlink()
            self._socket, theirs = socket.socketpair()
        except OSError as error:
            raise _not_started(error, python) from None
        command = [python, "-I", "-B", "-u", str(PROGRAM), str(theirs.fileno())]
        try:
            with theirs, log.open("a+b") as output:  # the child reads its end, to keep it
                self._process = subprocess.Popen(  # noqa: S603 - our own program; what it loads is the point of it
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(theirs.fileno(),),
                    start_new_session=True, cwd=directory, env=_environment(threads),
                )  # fmt: skip
        except OSError as error:
            self._socket.close()
            raise _not_started(error, python) from None
        self.pid = self._process.pid

    def start(self, told: Mapping[str, Any], *, within: float) -> dict[str, Any]:
        """Have it load the model; what it found.

        Raises
        ------
        ModelFailed
            When the model's own code raised an error.
        MissingExtra
            When its interpreter lacks a library that its kind needs.
        Gone
            When the process ended, or the time was up.
        """
        found: dict[str, Any] = json.loads(self.ask(b"S", json.dumps(told).encode(), within=within))
        return found

    def ask(self, letter: bytes, body: bytes, *, within: float) -> bytes:
        """Send a frame and wait for the answer's body.

        Raises
        ------
        InputError
            When the model must not be given a value; the process lives on.
        ModelFailed
            When the model's own code raised an error; the process lives on.
        Gone
            When the process ended or speaks nonsense, or the time was up: it must be ended then, because what it may
            still say would be taken for the next answer.
        """
        deadline = time.monotonic() + within
        try:
            self._socket.settimeout(within)
            self._socket.sendall(HEAD.pack(letter, len(body)) + body)
            kind, size = HEAD.unpack(self._read(HEAD.size, deadline))
            if kind not in (b"M", b"R", b"E", b"L", b"V") or size > MOST_ANSWERED:
                raise Gone(f"it sent a frame {kind!r} of {size} bytes")
            answer = self._read(size, deadline)
        except TimeoutError:
            raise Late(f"no answer within {within:g} s") from None
        except OSError as error:
            raise Gone(f"its process has ended ({error.strerror or error})") from None
        if kind == b"E":
            said = json.loads(answer)
            hint = _OTHER_PYTHON if said["kind"] == "ModuleNotFoundError" else ""
            raise ModelFailed("the model's own code failed", got=f"{said['kind']}: {said['message']}", hint=hint)
        if kind == b"V":
            said = json.loads(answer)
            raise InputError(said["what"], got=said["got"], hint=said["hint"])
        if kind == b"L":
            said = json.loads(answer)
            raise MissingExtra(
                f"the interpreter of the model has no {said['library']}",
                got=said["python"],
                hint=_OTHER_PYTHON,
            )
        return bytes(answer)

    def _read(self, size: int, deadline: float) -> bytearray:
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            got = self._socket.recv_into(view[done:])
            if not got:
                raise Gone("its process has ended")
            done += got
        return buffer

    def kill(self) -> None:
        """End it and all that it started; returns at once."""
        if self._process.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def wait(self) -> int:
        """Wait until it has ended, end what it left behind, and return its exit code."""
        code = self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # the group outlives its leader as long as one of it lives
        return code

    def close(self) -> None:
        """Close our end of the socket; nobody may be using it."""
        self._socket.close()


def _not_started(error: OSError, python: str) -> Unavailable:
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC):
        return Unavailable("the interpreter of the model cannot be started", got=str(error), hint=f"try {python} -V")
    return Unavailable(
        "no process can be started for the model",
        got=str(error),
        hint="look at the limits of open files, processes and memory: ulimit -n, ulimit -u",
    )


def last_words(log: Path) -> str:
    """The last line that a model printed, as the end of a sentence; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            lines = file.read(_LAST_BYTES).decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f"; its last words: {lines[-1][:200]}" if lines else ""


def _environment(threads: int) -> dict[str, str]:
    """Our variables, without our own settings (the token is one) and without a way around ``-I``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRIMTAB_", "PYTHON"))}
    number = str(threads)
    return kept | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), number)
