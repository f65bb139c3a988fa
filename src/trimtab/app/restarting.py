"""A rolling restart of the workers: none ends before another answers in its stead."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trimtab.adapters.compute.supervisor import Supervisor, read_post
from trimtab.adapters.wire.status import read_status
from trimtab.app.fencing import CONTROL, control_runs
from trimtab.app.worker import POSTS
from trimtab.errors import Unavailable

ASK = signal.SIGUSR2
"""Asks the control process for a rolling restart; SIGHUP would also come when a terminal closes."""
_PATIENCE_S = 60.0
_log = logging.getLogger("trimtab.control")


class RollingRestart:
    """Goes on a step whenever the workers are looked at.

    One more worker is started first, so that as many as always answer, and one worker can be restarted too. It is
    ended last. When a new worker does not get ready, the restart stops there, and the additional one goes on.

    Parameters
    ----------
    names
        The posts to restart, in order.
    spare
        Post and command of the additional worker.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        run: Path,
        *,
        names: Sequence[str],
        spare: tuple[str, Sequence[str]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supervisor, self._run, self._names, self._spare = supervisor, run, names, spare
        self._monotonic = monotonic
        self._asked = False
        self._steps: Iterator[None] | None = None

    def ask(self) -> None:
        """Begin at the next look; again, when one is under way. Safe in a signal handler."""
        self._asked = True

    def step(self) -> None:
        """Go on."""
        if self._steps is None and self._asked:
            self._asked = False
            self._steps = self._restart()
        if self._steps is not None and next(self._steps, self) is self:
            self._steps = None

    def _restart(self) -> Iterator[None]:
        name, command = self._spare
        _log.info("a rolling restart of %s begins", ", ".join(self._names))
        self._supervisor.add(name, command)
        for current in (name, *self._names):
            before = None if current == name else self._supervisor.renew(current)
            deadline = self._monotonic() + _PATIENCE_S
            while (found := ready(self._run, current)) is None or found == before:
                if self._monotonic() > deadline:
                    _log.error("%s does not get ready: the rolling restart ends here", current)
                    return
                yield
        self._supervisor.drop(name)
        _log.info("the rolling restart is done")


def ready(run: Path, name: str) -> int | None:
    """The process on a post when it answers."""
    post, said = read_post(run, name), read_status(run / f"{name}.json")
    if not post.held or post.process is None or said is None or said.pid != post.process.pid:
        return None
    return said.pid


def restart_workers(run: Path, *, within_s: float = 300.0) -> dict[str, Any]:
    """Ask the control process for a rolling restart and wait for its end: ``{workers: [{name, before, after}]}``.

    Raises
    ------
    Unavailable
        When no control process runs on this machine, or the workers were not replaced in time.
    """
    if not control_runs(run):
        raise Unavailable("no control process runs", got=str(run), hint="trimtab up restarts nothing that is not up")
    before = {path.stem: ready(run, path.stem) for path in sorted(run.glob(f"{POSTS}.pid"))}
    before = {name: pid for name, pid in before.items() if pid is not None}
    try:
        os.kill(int(msgspec.json.decode((run / CONTROL).read_bytes())["pid"]), ASK)
    except (OSError, KeyError) as error:
        raise Unavailable("the control process cannot be asked", got=str(error), hint="is it starting?") from None
    deadline = time.monotonic() + within_s
    while True:
        after = {name: ready(run, name) for name in before}
        others = [path.stem for path in run.glob(f"{POSTS}.pid") if path.stem not in before]
        if all(after[name] not in (None, before[name]) for name in before) and not any(ready(run, n) for n in others):
            return {"workers": [{"name": name, "before": before[name], "after": after[name]} for name in before]}
        if time.monotonic() > deadline:
            left = ", ".join(name for name in before if after[name] in (None, before[name])) or ", ".join(others)
            raise Unavailable("not all workers were replaced", got=left, hint="see the logs below run/ of the home")
        time.sleep(0.05)
