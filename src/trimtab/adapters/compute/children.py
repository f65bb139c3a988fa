"""Child processes in sessions of their own: started, and collected when they have ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import trimtab
from trimtab.adapters.compute.jobdir import ProcessMark, mark
from trimtab.errors import Unavailable

_KEPT_FROM_CHILDREN = ("TRIMTAB_TOKEN",)


class Children:
    """Processes that run a module of ours and may outlive this one."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._pids: set[int] = set()

    def start(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        stdin: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ProcessMark:
        """Start a process that leads a session of its own.

        Parameters
        ----------
        arguments
            Of the interpreter.
        log
            Gets what it prints, after what is there.
        stdin
            What it reads from; nothing when left out.
        environment
            Variables beside ours.

        Raises
        ------
        Unavailable
            When no process can be started.
        """
        actions: list[tuple[int | str, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0) if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command, variables = [self._python, *arguments], {**_inherited(), **(environment or {})}
        try:
            # Not subprocess.Popen: it warns when it is forgotten, and these children may outlive us.
            pid = os.posix_spawn(self._python, command, variables, file_actions=actions, setsid=True)
        except OSError as error:
            raise Unavailable("no process could be started", got=str(error), hint=f"try {self._python} -V") from None
        self._pids.add(pid)
        return mark(pid)

    def reap(self) -> None:
        """Collect those that have ended, so that none stays a zombie."""
        for pid in list(self._pids):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._pids.discard(pid)


def _inherited() -> dict[str, str]:
    """Our variables, with Trimtab importable as it is here, and without what a child need not know."""
    paths = [str(Path(trimtab.__file__).resolve().parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    kept = {name: value for name, value in os.environ.items() if name not in _KEPT_FROM_CHILDREN}
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths)))}
