"""The directory of a job: ``job.json``, ``pid``, ``result.json`` or ``error.json``, ``log.txt``.

Both sides of the process boundary use it: the parent that submits and polls, and the child that works. Every
file is written whole (temporary file, fsync, rename), so a reader never sees half of one.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from trimtab.core.ids import Json
from trimtab.errors import InputError
from trimtab.training.ports import Job

ATTEMPTS = 5
"""A job whose process dies this often without a result is failed: something about the job kills it."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process, and when it started: a process id alone may by now belong to somebody else."""

    pid: int
    started: str
    """In clock ticks since boot; empty where the system does not tell."""

    @property
    def alive(self) -> bool:
        """Whether that very process still runs (a zombie does not)."""
        now = _stat(self.pid)
        if now is not None:
            return now[0] not in "ZX" and now[1] == self.started
        if Path("/proc/self/stat").exists():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def mark(pid: int) -> ProcessMark:
    """The mark of a running process."""
    found = _stat(pid)
    return ProcessMark(pid, found[1] if found is not None else "")


def _stat(pid: int) -> tuple[str, str] | None:
    """State letter and start time of a process; None when it is gone or the system has no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]


@dataclass(frozen=True, slots=True)
class JobDirectory:
    """What is known about one job."""

    path: Path

    def write_job(self, job: Job) -> None:
        """Store the job; submitting the same id with other work is refused.

        Raises
        ------
        InputError
            When the id names other work already.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        new = {"id": job.id, "function": job.function, "arguments": dict(job.arguments)}
        stored = self.read("job.json")
        if stored is None:
            self.write("job.json", new)
        elif stored != json.loads(json.dumps(new)):
            raise InputError("the job id names other work already", got=repr(job.id), hint="derive ids from the work")

    def job(self) -> Job:
        """The stored job."""
        stored = self.read("job.json")
        return Job(stored["id"], stored["function"], stored["arguments"])

    @property
    def over(self) -> bool:
        """Whether it has a result or an error."""
        return (self.path / "result.json").exists() or (self.path / "error.json").exists()

    def read(self, name: str) -> Json:
        """A file as JSON; None when there is none."""
        try:
            return json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, value: Json) -> None:
        """Write a file whole and durably."""
        partial = self.path / f".{name}.{os.getpid()}"
        with partial.open("wb") as file:
            file.write(json.dumps(value).encode())
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self.path / name)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def finish(self, name: str, value: Json) -> None:
        """Write the result or the error, unless the job is over already: the first end counts."""
        with self.locked("end.lock"):
            if not self.over:
                self.write(name, value)

    def process(self) -> ProcessMark | None:
        """The process that was given the job last; None before the first."""
        stored = self.read("pid")
        return None if stored is None else ProcessMark(stored["pid"], stored["started"])

    def attempts(self) -> int:
        """How often a process was given the job."""
        stored = self.read("pid")
        return 0 if stored is None else cast("int", stored["attempt"])

    def begun(self) -> bool:
        """Whether that process has begun to work on it; a warm child may have others to do first."""
        stored = self.read("pid")
        return stored is not None and bool(stored["begun"])

    def assign(self, process: ProcessMark, *, attempt: int, begun: bool) -> None:
        """Note which process has the job."""
        noted = {"pid": process.pid, "started": process.started, "attempt": attempt, "begun": begun}
        with self.locked("pid.lock"):
            stored = self.read("pid")
            # The child may have begun before its parent came to note that it has the job.
            if not begun and stored is not None and ProcessMark(stored["pid"], stored["started"]) == process:
                noted["begun"] = stored["begun"]
            self.write("pid", noted)

    def locked(self, name: str, *, wait: bool = True) -> Lock:
        """Hold a lock file of the job; the system lets go of it when the process dies."""
        return Lock(self.path / name, wait=wait)


class Lock:
    """An advisory lock on a file, held for the length of a ``with`` block; true inside when it was got."""

    def __init__(self, path: Path, *, wait: bool) -> None:
        self._path, self._wait, self._descriptor = path, wait, -1

    def __enter__(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
