"""A process that writes to a store and says what was acknowledged, until it is killed: see test_stores."""

import itertools
import os
import resource
import sys
import time
from pathlib import Path

from trimtab.adapters.ledger.sqlite import SqliteLedger
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.ledger import Draft
from trimtab.errors import ConflictError, Unavailable
from trimtab.serving.record import PREDICTIONS
from trimtab.testing.memory import MemoryRecords


def say(word: object) -> None:
    os.write(1, f"{word}\n".encode())


def ledger(place: Path, first: int) -> None:
    store = SqliteLedger(place / "ledger.db")
    for number in itertools.count(first):
        drafts = [Draft(f"{number}-{part}", "Tested", {"pad": "x" * 500}, number, number) for part in range(3)]
        store.append("s", drafts, expected=3 * number, epoch=1)
        say(number)


def shared_ledger(place: Path, writer: int) -> None:
    store = SqliteLedger(place / "ledger.db")
    for number in range(15):
        while True:
            expected = sum(1 for _ in store.read(stream="s"))
            try:
                store.append("s", [Draft(f"{writer}-{number}", "Tested", {}, 0, 0)], expected=expected, epoch=1)
                break
            except ConflictError:
                continue
        say(number)


def spool(place: Path, first: int) -> None:
    store = SpoolRecords(place, "w")
    for number in itertools.count(first):
        store.write(
            "t", [f"{number}-{part}-".encode() + b"x" * (20_000 if number % 50 == 0 else 9) for part in range(3)]
        )
        say(number)


def online(place: Path, first: int) -> None:
    store = LmdbRows(place / "online", durable=False, map_size=1 << 16)
    for number in itertools.count(first):
        rows = {b"%d-%d" % (number, part): b"x" * 200 for part in range(5)}
        store.put_many(rows | {b"mark-%d" % part: b"%d" % number for part in range(20)})
        say(number)


def parquet(place: Path, _: int) -> None:
    records, warm = SpoolRecords(place, "reader"), MemoryRecords()
    warm.write(PREDICTIONS, [next(row for _, row in records.scan(PREDICTIONS))])
    compact(warm, place / f"warm-{os.getpid()}")
    say("ready")
    compact(records, place / "parquet", at_most=40)
    time.sleep(60)


def full(place: Path, limit: int) -> None:
    """Write until the file system takes no more; then make room and go on."""
    store = SpoolRecords(place, "w")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    refused = 0
    for number in range(40):
        try:
            store.write("t", [b"%d" % number + b"x" * 900, b"%d" % number + b"y" * 900])
            say(f"took {number}")
        except Unavailable:
            refused += 1
            if refused == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            say(f"refused {number}")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
