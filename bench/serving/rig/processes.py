"""Processes under test: started on one core, their CPU time and memory read, ended by process id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
_TICK = os.sysconf("SC_CLK_TCK")
_SCHED = 2
"""Of Linux: the clock of a process is its inverted number, three bits to the left, and this."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class NotStarted(Exception):
    """A server did not come up; the message says why."""


def tree(pid: int) -> list[int]:
    """A process and everything it started that still lives."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process tree, with that of children that have ended.

    Living processes are read from their CPU clocks, to the nanosecond; ``/proc/<pid>/stat`` counts in ticks of 10 ms,
    in which a hundred fast answers may be none.
    """
    total = 0.0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime(~one << 3 | _SCHED)
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[13:15])) / _TICK  # cutime, cstime
    return total


def memory_mib(pid: int) -> float:
    """Resident memory of a process tree; shared pages count in each process."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * _PAGE
    return total / 2**20


def stay_on(core: int) -> None:
    """Keep this process on a core (the last one, where the machine has fewer)."""
    os.sched_setaffinity(0, {min(core, (os.cpu_count() or 1) - 1)})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Started:
    """A server process on the server's core, and what it started."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(SERVER_CORE), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid  # taskset replaces itself with the command

    def wait_for_port(self, port: int, *, timeout_s: float = 90.0) -> None:
        """Wait until something listens.

        Raises
        ------
        NotStarted
            When the process ends, or the time is up.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise NotStarted(f"it ended with {self.process.returncode}: {self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise NotStarted(f"nothing listens after {timeout_s:g} s: {self.tail()}")

    def tail(self) -> str:
        """The last lines that it wrote."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-4:])[-600:]

    def stop(self) -> None:
        """Ask it to end, then end it and all that it started, by process id."""
        family = tree(self.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(8)
        for one in family:
            if one != self.pid and _belongs(one, self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def _belongs(pid: int, session: int) -> bool:
    """Whether a process is still of the session that we began: its number may have been given to another."""
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False
