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
from trimtab.adapters.wire.routefile import replace_file
from trimtab.adapters.wire.status import read_status
from trimtab.app.fencing import CONTROL, control_runs
from trimtab.app.worker import POSTS
from trimtab.errors import Unavailable

ASK = signal.SIGUSR2
"""Asks the control process for a rolling restart; SIGHUP would also come when a terminal closes."""
_PATIENCE_S = 60.0
_ENDED = "restarted.json"
"""Below ``run``: how often a rolling restart has ended, and what was wrong with the last."""
_HINT = "see the logs below run/ of the home"
_log = logging.getLogger("trimtab.control")


class _Ended(msgspec.Struct, frozen=True):
    times: int = 0
    problem: str = ""


def _ended(run: Path) -> _Ended:
    try:
        return msgspec.json.decode((run / _ENDED).read_bytes(), type=_Ended)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Ended()


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
        self._problem = ""

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
            ended = _Ended(_ended(self._run).times + 1, self._problem)
            replace_file(self._run / _ENDED, msgspec.json.encode(ended))

    def _restart(self) -> Iterator[None]:
        self._problem = ""
        name, command = self._spare
        _log.info("a rolling restart of %s begins", ", ".join(self._names))
        self._supervisor.add(name, command)
        for current in (name, *self._names):
            before = None if current == name else self._supervisor.renew(current)
            deadline = self._monotonic() + _PATIENCE_S
            while (found := ready(self._run, current)) is None or found == before:
                if self._monotonic() > deadline:
                    self._problem = f"{current} does not get ready"
                    _log.error("%s: the rolling restart ends here", self._problem)
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
    last = _ended(run)
    try:
        os.kill(int(msgspec.json.decode((run / CONTROL).read_bytes())["pid"]), ASK)
    except (OSError, KeyError) as error:
        raise Unavailable("the control process cannot be asked", got=str(error), hint="is it starting?") from None
    deadline = time.monotonic() + within_s
    while True:
        if (now := _ended(run)) != last:
            if now.problem:
                raise Unavailable("not all workers were replaced", got=now.problem, hint=_HINT)
            after = {name: ready(run, name) for name in before}
            # One that was additional, since a restart before this one ended early, is gone now.
            here = [name for name in before if read_post(run, name).held]
            if all(after[name] not in (None, before[name]) for name in here):
                return {"workers": [{"name": name, "before": before[name], "after": after[name]} for name in here]}
        if time.monotonic() > deadline:
            raise Unavailable("not all workers were replaced", got=f"no end after {within_s:g} s", hint=_HINT)
        time.sleep(0.05)
