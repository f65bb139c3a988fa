"""Replays a project, and dies on the way: ``python -m tests.chaos.replay_driver PROJECT OUT UNTIL [boundaries]``.

Without the last word it replays once and prints the digest. With it, a child is forked for every boundary in turn, on
one home: it goes on with what its predecessor left, and kills itself (SIGKILL) at its boundary. A line of JSON tells
how each ended and what the ledger held then. The last child meets no boundary any more and finishes.

A boundary is the moment after an append to the ledger, and the moments before and after a command is carried out. Of the
appends that only tell a matured day, which are many and alike, every fifth counts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trimtab.app.checkpoint
import trimtab.app.results  # noqa: F401 - imported once, before any child is forked
from trimtab.adapters.ledger.sqlite import SqliteLedger
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.ledger import Draft, Event, verify
from trimtab.loop import events as e
from trimtab.loop.commands import Command
from trimtab.loop.replay import Replay

DAILY = {e.DAY_MATURED, e.GATE_PROGRESSED, e.QUALITY_JUDGED, e.DRIFT_CHANGED, e.DRIFT_CONFIRMED}


class Fuse:
    """Kills this process when so many boundaries have been met."""

    def __init__(self, boundary: int) -> None:
        self.left = boundary
        self.days = 0

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def fit(self) -> None:
        """Put it between the loop and everything that it does."""
        append, execute = SqliteLedger.append, Replay.execute

        def appended(ledger: SqliteLedger, stream: str, drafts: Sequence[Draft], **named: int) -> list[Event]:
            events = append(ledger, stream, drafts, **named)
            alike = all(draft.type in DAILY for draft in drafts)
            self.days += alike
            if not alike or self.days % 5 == 0:
                self.burn()
            return events

        def executed(replay: Replay, command: Command) -> None:
            self.burn()
            execute(replay, command)
            self.burn()

        SqliteLedger.append = appended
        Replay.execute = executed


def replay(request: ReplayRequest, boundary: int = 0) -> dict[str, Any]:
    """Replay, and die at a boundary when one is named."""
    if boundary:
        Fuse(boundary).fit()
    result = run_replay(request).result
    return {"digest": result["digest"], "counts": result["counts"], "parity": result["parity"]}


def forked(request: ReplayRequest, boundary: int) -> dict[str, Any]:
    """How a child ended that had to die at that boundary."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            os.write(writer, json.dumps(replay(request, boundary)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, ended = os.waitpid(child, 0)
    return {"killed": os.WIFSIGNALED(ended), "status": ended, **(json.loads(said) if said else {})}


def main(project: str, out: str, until: str, *mode: str) -> None:
    request = ReplayRequest(Path(project), until=until, out=Path(out))
    if not mode:
        print(json.dumps(replay(request)))
        return
    boundary, killed = 0, True
    while killed:
        boundary += 1
        ended = forked(request, boundary)
        killed = ended["killed"]
        held = list(SqliteLedger(Path(out) / "ledger.db", durable=False).read())
        verify(held)
        print(json.dumps(ended | {"boundary": boundary, "ids": [event.id for event in held]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
