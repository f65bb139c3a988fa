"""Processes that write, compact and delete records until they are killed: see test_record_files."""

import os
import resource
import shutil
import signal
import sys
from pathlib import Path

from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.deletion import delete_compacted, ended_writers
from trimtab.adapters.records.layouts import OPAQUE
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.errors import Unavailable

TABLE = "t"
STEPS = ("open", "pwrite", "fsync", "fdatasync", "replace", "unlink", "rename", "ftruncate", "mkdir", "rmdir", "close")
"""Whatever changes a file or a directory; a process can be killed before each."""


def say(word: object) -> None:
    os.write(1, f"{word}\n".encode())


def write(place: Path, first: int, count: int) -> None:
    records = SpoolRecords(place, "w", segment_bytes=100)
    for number in range(first, first + count):
        records.write(TABLE, [b"%d-%d-" % (number, part) + b"x" * 30 for part in range(2)])
        say(number)
    records.write(TABLE, [], sync=True)


def keep(place: Path, at_most: int) -> None:
    records = SpoolRecords(place, "keeper")
    directory = records.index(TABLE).directory
    ended = ended_writers(records, TABLE)
    compact(records, directory, table=TABLE, layout=OPAQUE, at_most=at_most, ended=ended)
    delete_compacted(records, TABLE)


def writer(place: Path, first: int) -> None:
    """Write for as long as it lives."""
    write(place, first, 1 << 40)


def keeper(place: Path, at_most: int) -> None:
    """Compact and delete for as long as it lives."""
    say("ready")
    while True:
        if (place / TABLE).is_dir():
            keep(place, at_most)


def steps(place: Path, every: int) -> None:
    """Lives of a process, each killed one step later than the one before; says what each has been acknowledged."""
    step = done = number = 0
    while not done:
        step += every
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            life(place, number, step)
        os.close(writing)
        with os.fdopen(reading) as said:
            words = said.read().split()
        os.waitpid(child, 0)
        done = "done" in words
        taken = [int(word) for word in words if word != "done"]
        rows = [row for _, row in SpoolRecords(place, "reader").scan(TABLE)]
        found = [int(row.split(b"-")[0]) for row in rows]
        say(
            f"{step} {number} {taken[-1] if taken else number - 1} {found == [n // 2 for n in range(len(found))]} {len(found)}"
        )
        number = len(found) // 2


def life(place: Path, number: int, step: int) -> None:
    die_before(step)
    write(place, number, 3)
    keep(place, 3)
    write(place, number + 3, 1)
    keep(place, 100)
    say("done")
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(step: int) -> None:
    """From here on, the process is killed before so many steps."""
    left = step

    def watched(real):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, watched(getattr(os, name)))


# -- erasing

SECRETS, KEPT = [b"secret" + os.urandom(40) for _ in range(3)], [b"keep" + os.urandom(40) for _ in range(2)]
ROWS = [*SECRETS, *KEPT]
"""Random, so that what is on disk is found there, compressed or not."""
STATES = ("in spools", "in both", "in Parquet", "being compacted")


def erasures(place: Path, state: int) -> None:
    """Homes in which an erasure, or the compaction before it, is killed one step later than in the one before.

    Says what is wrong with each.
    """
    step, killed = 0, True
    while killed:
        step += 1
        home = place / str(step)
        named = build(home, state)
        killed = dies(home, named, step, erasing=STATES[state] != "being compacted")
        hidden = {*SECRETS} - {*read(home)}
        copy = home.with_name(f"{step}-copy")
        shutil.copytree(home, copy)
        SpoolRecords(copy, "again").erase(TABLE, {})  # finishes what was begun, and no more
        finished = {*SECRETS} - {*read(copy)}
        wrong = [] if hidden <= finished == gone_from_disk(copy) else ["half erased"]
        keep(copy, 10)
        wrong += [] if read(copy) == [row for row in ROWS if row not in finished] else ["rows lost or back"]
        SpoolRecords(home, "again").erase(TABLE, named)
        wrong += [] if len(gone_from_disk(home)) == len(SECRETS) else ["still on disk"]
        wrong += [] if read(home) == KEPT else ["rows lost"]
        folders = [path for path in home.glob("**/model=*/**") if path.is_dir()]
        wrong += [] if all(any(path.iterdir()) for path in folders) else ["empty folders"]
        say(f"{step}: {'; '.join(wrong) or 'right'}")
        shutil.rmtree(home)
        shutil.rmtree(copy)


def build(home: Path, state: int) -> dict[str, list[int]]:
    """A home whose secrets stand where the state says: the first two in a segment of their own, if compacted."""
    records = SpoolRecords(home, "w", segment_bytes=150)
    for row in ROWS:
        records.write(TABLE, [row])
    records.close()
    found = {row: place.offset for place, row in records.scan(TABLE)}
    if STATES[state] in ("in both", "in Parquet"):
        compact(records, records.index(TABLE).directory, table=TABLE, layout=OPAQUE, at_most=2)
    if STATES[state] == "in Parquet":
        delete_compacted(records, TABLE)
    assert not gone_from_disk(home)
    return {"w": [found[row] for row in SECRETS]}


def dies(home: Path, named: dict[str, list[int]], step: int, *, erasing: bool) -> bool:
    """Whether a process is killed before that step."""
    child = os.fork()
    if child == 0:
        die_before(step)
        if erasing:
            SpoolRecords(home, "eraser").erase(TABLE, named)
        else:
            keep(home, 2)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def read(home: Path) -> list[bytes]:
    return [row for _, row in SpoolRecords(home, "reader").scan(TABLE)]


def gone_from_disk(home: Path) -> set[bytes]:
    """The secrets of which no byte stands in any file."""
    content = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    return {secret for secret in SECRETS if secret[6:22] not in content and secret[-16:] not in content}


def full(place: Path, limit: int) -> None:
    """Compact on a disk that takes no more, and again when there is room."""
    write(place, 0, 400)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for bound in (limit, limit // 4, soft):
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, hard))
        try:
            keep(place, 1000)
            say("kept")
        except Unavailable as error:
            say(f"refused {type(error).__name__}")
        rows = [row for _, row in SpoolRecords(place, "reader").scan(TABLE)]
        say(f"rows {len(rows)} {len(set(rows))} {len(list((place / TABLE).rglob('.tmp-*')))}")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
