"""Make a stored home: what a user of today's version has on disk, for the versions that come later to open.

    python -m tests.upgrade.make_home home-v1

Only ever for a new folder: a home that is stored already is of its own version and cannot be made again.
"""

from __future__ import annotations

import os
import platform
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.projects.staged import ROOT, stage_parcels

from trimtab.app.home import HOME
from trimtab.app.rehearsal import rehearse, start_platform
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.clock import instant

STORED = "home.tar.xz"
START, CHECKPOINT, END = "2024-04-15", "2024-05-12T00:00Z", "2024-05-12T18:00Z"
"""A replay answers from the first on; real processes go on from the second, and stop at the third."""
MODEL = "parcel_hours"
_KEPT_OF_RUN = ("observer-", "ledger.key")
_LEFT_OUT = {"jobs", "lock.mdb"}
"""Job folders and the lock of the online rows say something about the machine, and are made anew."""


def make(root: Path) -> Path:
    """Run the parcels project below ``root``, first as a replay, then live; its home."""
    project = stage_parcels(root / "parcels")
    home, now = project / HOME, instant(CHECKPOINT)
    staging = run_replay(
        ReplayRequest(project, start=START, checkpoint=(CHECKPOINT, home), out=root / "replay")
    ).staging
    os.environ["TRIMTAB_TOKEN"] = "a token"
    live = start_platform(project, home, now=now, log=root / "up.log", token="a token")
    try:
        rehearse(
            live,
            model=MODEL,
            sources=dict(staging.project.sources),
            timeline=staging.replay.timeline,
            served=staging.replay.served,
            start=now,
            until=instant(END),
            progress=lambda when, done: None,
        )
    finally:
        live.stop()
    return home


def kept(home: Path) -> list[Path]:
    """The files of a home that outlive its processes."""
    found = []
    for path in sorted(home.rglob("*")):
        parts = path.relative_to(home).parts
        dead = parts[0] == "run" and not parts[-1].startswith(_KEPT_OF_RUN)
        if path.is_file() and not dead and not _LEFT_OUT & set(parts) and path.suffix != ".db-shm":
            found.append(path)
    return found


def store(home: Path, target: Path) -> None:
    """Pack a home without a trace of the machine: same files, same bytes."""
    foreign = {str(ROOT), str(Path.home()), tempfile.gettempdir(), platform.node()} - {"", "/"}
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in kept(home):
            content = path.read_bytes()
            told = [one for one in foreign if one.encode() in content]
            if told:
                raise SystemExit(f"{path} names this machine: {', '.join(told)}")
            entry = tarfile.TarInfo(f"{HOME}/{path.relative_to(home).as_posix()}")
            entry.size, entry.mode = len(content), 0o600
            with path.open("rb") as file:
                archive.addfile(entry, file)


if __name__ == "__main__":
    folder = Path(__file__).parent / sys.argv[1]
    folder.mkdir(exist_ok=True)
    if (folder / STORED).exists():
        raise SystemExit(f"{folder / STORED} is there already: a stored home stays as it is")
    with tempfile.TemporaryDirectory() as scratch:
        store(make(Path(scratch)), folder / STORED)
