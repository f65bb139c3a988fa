"""Who decides: one control process per home, by a lock on this machine and an epoch in the ledger."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab.adapters.compute.jobdir import Lock
from trimtab.app.platform import EPOCH_TAKEN
from trimtab.core.clock import Clock, Micros
from trimtab.core.ids import derived_id
from trimtab.core.ledger import PLATFORM, Draft, Ledger
from trimtab.errors import ConflictError, StaleEpoch, Unavailable

CONTROL = "control.json"
_PATIENCE_S = 30.0
_STEP_S = 5.0
"""How long a start waits for a command that holds the home for a moment."""


def append_platform(ledger: Ledger, draft: Draft, *, epoch: int) -> None:
    """Append one event to the platform's stream, wherever it stands."""
    for _ in range(50):
        count = sum(1 for _ in ledger.read(stream=PLATFORM))
        try:
            ledger.append(PLATFORM, [draft], expected=count, epoch=epoch)
        except StaleEpoch:
            raise
        except ConflictError:
            if any(event.id == draft.id for event in ledger.read(stream=PLATFORM)):
                return
        else:
            return
    raise Unavailable("the ledger is too busy to append to", hint="try again")


def take_epoch(ledger: Ledger, now: Micros) -> int:
    """Take over: the next epoch is ours, and every older writer is refused from now on."""
    while True:
        epoch = ledger.head()[2] + 1
        draft = Draft(
            derived_id(PLATFORM, EPOCH_TAKEN, epoch, os.getpid(), time.monotonic_ns()),
            EPOCH_TAKEN,
            {"epoch": epoch, "pid": os.getpid()},
            now,
            now,
            actor="control",
            measured=("pid",),
        )
        append_platform(ledger, draft, epoch=epoch)
        if _owner(ledger, epoch) == draft.id:
            return epoch


def _owner(ledger: Ledger, epoch: int) -> str:
    """The id of the event that took an epoch first: of two that took the same one, only that counts."""
    return next(
        (
            event.id
            for event in ledger.read(stream=PLATFORM)
            if event.type == EPOCH_TAKEN and event.data["epoch"] == epoch
        ),
        "",
    )


def check_epoch(ledger: Ledger, epoch: int) -> None:
    """Raise ``StaleEpoch`` when a newer control process has taken over."""
    newest = ledger.head()[2]
    if newest > epoch:
        raise StaleEpoch("a newer control process has taken over", got=f"epoch {epoch}, the ledger is at {newest}")


class Tenure:
    """Being the one that decides: holds the lock and the epoch of a home until it is closed.

    The epoch is taken first, so that an older control process notices and lets go of the lock, within a second.
    """

    def __init__(self, run: Path, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self.since = clock.now()
        self.epoch = take_epoch(ledger, self.since)
        self._lock = self._locked(run / "control.lock")

    def check(self) -> None:
        """Raise ``StaleEpoch`` when this process has been replaced."""
        check_epoch(self._ledger, self.epoch)

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.__exit__()

    def _locked(self, path: Path) -> Lock:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            lock = Lock(path, wait=False)
            if lock.__enter__():
                return lock
            lock.__exit__()
            self.check()
            if time.monotonic() > deadline:
                raise Unavailable(
                    "an older control process does not let go of this home",
                    got=str(path.parent.parent),
                    hint="see run/control.json for its process, end it, and try again",
                )
            time.sleep(0.05)


def control_runs(run: Path) -> bool:
    """Whether a control process holds this home."""
    if not (run / "control.lock").exists():
        return False
    lock = Lock(run / "control.lock", wait=False)
    free = lock.__enter__()
    lock.__exit__()
    return not free


def refuse_second(run: Path) -> None:
    """Do not start where another control process is alive and well.

    A command such as ``trimtab approve`` holds a home for a moment too: that one is waited for. What a killed process
    left behind holds nothing.

    Raises
    ------
    Unavailable
        When the home is held.
    """
    deadline = time.monotonic() + _STEP_S
    while control_runs(run):
        facts = _facts(run)
        if facts:
            raise Unavailable(
                "a control process runs for this project already",
                got=f"process {facts['pid']}, console {facts['console']}",
                hint="use that one, or end it first; `trimtab up --take-over` replaces it while the workers serve on",
            )
        if time.monotonic() > deadline:
            raise Unavailable(
                "another process holds this project",
                got=str(run.parent),
                hint="a control process that is starting, or a command such as `trimtab train`: wait until it is done; "
                "`trimtab up --take-over` does not wait",
            )
        time.sleep(0.1)


def _facts(run: Path) -> Mapping[str, Any]:
    """What the control process that holds a home says of itself; empty when it says nothing."""
    try:
        facts: Mapping[str, Any] = json.loads((run / CONTROL).read_bytes())
        os.kill(int(facts["pid"]), 0)
    except (OSError, ValueError):  # it is starting, or the file is that of a killed one
        return {}
    return facts
