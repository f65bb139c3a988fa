"""Long-lived child processes that outlive their parent: started, restarted with back-off, and adopted."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trimtab.adapters.compute.children import Children
from trimtab.adapters.compute.jobdir import Lock, ProcessMark, mark
from trimtab.adapters.files import write_atomic

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Post:
    """A place that one process holds at a time; who holds it says so in ``<name>.pid``."""

    name: str
    process: ProcessMark | None
    """Who holds it, or held it last."""
    command: tuple[str, ...]
    """The arguments that process was started with."""

    @property
    def held(self) -> bool:
        """Whether that very process still runs."""
        return self.process is not None and self.process.alive


def claim(run: Path, name: str, command: Sequence[str]) -> Lock | None:
    """Take a post for this process, until it ends; None when a living process holds it.

    Called by the child itself: whatever becomes of its parent, it is known who holds the post.
    """
    lock = Lock(run / f"{name}.lock", wait=False)
    if not lock.__enter__():
        lock.__exit__()
        return None
    ours = mark(os.getpid())
    content = {"pid": ours.pid, "started": ours.started, "command": list(command)}
    write_atomic(run / f"{name}.pid", json.dumps(content).encode())
    return lock


def read_post(run: Path, name: str) -> Post:
    """Who holds a post."""
    try:
        stored = json.loads((run / f"{name}.pid").read_bytes())
        return Post(name, ProcessMark(stored["pid"], stored["started"]), tuple(stored["command"]))
    except (FileNotFoundError, ValueError, KeyError):
        return Post(name, None, ())


@dataclass
class _Duty:
    command: tuple[str, ...]
    child: ProcessMark | None = None
    """The last process that we started for it."""
    began: float = 0.0
    failures: int = 0
    next_try: float = 0.0


@dataclass(frozen=True, slots=True)
class PostState:
    """How a post stands."""

    name: str
    state: Literal["running", "starting", "waiting"]
    """``waiting``: it died, and is started again after a pause."""
    pid: int | None
    adopted: bool


class Supervisor:
    """Keeps posts filled.

    Each process runs in a session of its own and goes on when this one dies. A new supervisor over the same directory
    adopts those that live and were started with the same arguments, ends those that were not, and starts what is
    missing. A process that dies is started again at once, and then after pauses that double up to ``longest_s``; one
    that ran for ``steady_s`` has proved itself. One object is used from one thread at a time.

    Parameters
    ----------
    run
        Where the posts are kept; logs of the processes go there too.
    module
        What a process runs: ``python -m <module> <arguments>``. It must :func:`claim` its post.
    drain_s
        How long a process may take to end when it is asked to.
    """

    def __init__(
        self,
        run: Path,
        module: str,
        *,
        drain_s: float = 15.0,
        longest_s: float = 10.0,
        steady_s: float = 30.0,
        python: str = sys.executable,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._module, self._monotonic = run, module, monotonic
        self._drain_s, self._longest_s, self._steady_s = drain_s, longest_s, steady_s
        self._duties: dict[str, _Duty] = {}
        self._children = Children(python)

    def keep(self, wanted: Mapping[str, Sequence[str]], *, among: str = "*") -> None:
        """Fill these posts from now on; living processes on other posts that match ``among`` are ended.

        Raises
        ------
        Unavailable
            When no process can be started.
        """
        self._duties = {name: _Duty(tuple(command)) for name, command in wanted.items()}
        others = [path.stem for path in self._run.glob(f"{among}.pid")]
        unfit = [post for name in others if (post := read_post(self._run, name)).held and not self._fits(post)]
        self._end([post.process for post in unfit if post.process is not None])
        self.check()

    def check(self) -> None:
        """Start what is missing and due."""
        self._children.reap()
        now = self._monotonic()
        for name, duty in self._duties.items():
            if self._living(name, duty) is not None:
                if duty.failures and now - duty.began > self._steady_s:
                    duty.failures = 0
                continue
            if duty.child is not None and duty.next_try == 0:  # seen dead for the first time
                duty.next_try = now + min(self._longest_s, 0.1 * 2 ** max(duty.failures - 1, 0))
            if now >= duty.next_try:
                duty.failures += 1
                duty.next_try, duty.began = 0, now
                duty.child = self._start(name, duty.command)

    def add(self, name: str, command: Sequence[str]) -> None:
        """Fill one more post."""
        self._duties.setdefault(name, _Duty(tuple(command)))

    def drop(self, name: str) -> None:
        """Ask the process on a post to end, without waiting, and fill it no more."""
        self.renew(name)
        self._duties.pop(name, None)

    def renew(self, name: str) -> int | None:
        """Ask the process on a post to end, so that another is started in its place; which process that was."""
        duty = self._duties.get(name)
        process = self._living(name, duty) if duty is not None else None
        if duty is None or process is None:
            return None
        duty.failures = 0  # it does not end because it failed
        _send(process, signal.SIGTERM)
        return process.pid

    def states(self) -> list[PostState]:
        """How every post stands."""
        found: list[PostState] = []
        for name, duty in self._duties.items():
            process = self._living(name, duty)
            held = read_post(self._run, name).held
            state: Literal["running", "starting", "waiting"] = "waiting"
            if process is not None:
                state = "running" if held else "starting"
            adopted = process is not None and process != duty.child
            found.append(PostState(name, state, process.pid if process else None, adopted))
        return found

    def stop(self, *, started_only: bool = False) -> None:
        """Ask the processes to end, and see to it that they do; with ``started_only`` the adopted ones stay."""
        living = {name: self._living(name, duty) for name, duty in self._duties.items()}
        ours = [
            process
            for name, process in living.items()
            if process is not None and (not started_only or process == self._duties[name].child)
        ]
        self._duties = {}
        self._end(ours)

    def _fits(self, post: Post) -> bool:
        duty = self._duties.get(post.name)
        return duty is not None and duty.command == post.command

    def _living(self, name: str, duty: _Duty) -> ProcessMark | None:
        post = read_post(self._run, name)
        if post.held:
            return post.process
        return duty.child if duty.child is not None and duty.child.alive else None

    def _start(self, name: str, command: Sequence[str]) -> ProcessMark:
        return self._children.start(["-m", self._module, *command], log=self._run / f"{name}.log")

    def _end(self, processes: Sequence[ProcessMark]) -> None:
        for number, patience in ((signal.SIGTERM, self._drain_s), (signal.SIGKILL, 5.0)):
            for process in processes:
                _send(process, number)
            deadline = self._monotonic() + patience
            while any(process.alive for process in processes) and self._monotonic() < deadline:
                self._children.reap()
                time.sleep(_POLL_S)


def _send(process: ProcessMark, number: int) -> None:
    if process.alive:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return
