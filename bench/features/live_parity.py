"""What live parity costs a minute: with the event log read anew, and read on.

python bench/features/live_parity.py [ROWS]

CPU of one check of ten answers, with ROWS rows in the event log of one source and 5000 keys.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.ids import sha256
from trimtab.core.ports import Columns
from trimtab.datasets.ingest import EVENTS, _packed, logged_columns, logged_since
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History
from trimtab.features.parity import ParityReport, check, relevant
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Events, Requests
from trimtab.features.views import windows

SHOP = Entity("shop")
SALES = Events("sales", time="at", known="seen", keys=[SHOP], schema={"amount": float})
ASKED = Requests("asks", id="id", at="asked", keys=[SHOP], inputs={})
PLAN = compile_plan(ASKED, [windows(SALES, by=[SHOP], over=["3h", "24h"], count="*", mean=["amount"])], {})
SECOND = 1_000_000


def main(count: int) -> None:
    """Write a log, check both ways, print."""
    rng = np.random.default_rng(0)
    at = np.arange(count) * SECOND
    shops = np.char.add("s", rng.integers(0, 5000, count).astype(str))
    columns: Columns = {"at": at, "seen": at, "shop": shops, "amount": rng.gamma(2.0, 20.0, count)}
    requests = RequestBatch([f"r{n}" for n in range(10)], np.full(10, at[-1]), {"shop": shops[:10]}, {})
    served, marks = np.zeros((10, len(PLAN.names())), np.float32), {"sales": np.full(10, count)}
    with tempfile.TemporaryDirectory() as folder:
        records = SpoolRecords(Path(folder), "control")
        for start in range(0, count, 1000):
            post(records, columns, slice(start, start + 1000))
        none = History.of(SALES, {name: values[:0] for name, values in columns.items()})
        known, place = none, {}

        def compared(histories: dict[str, History], limits: dict[str, np.ndarray]) -> ParityReport:
            return check(PLAN, histories, {}, ids=requests.ids, requests=requests, served=served, watermarks=limits)

        def anew() -> ParityReport:
            logged = logged_columns(SALES, records)
            assert logged is not None
            return compared({"sales": none.extend(logged)}, marks)

        def read_on() -> ParityReport:
            nonlocal known, place
            logged, reached = logged_since(SALES, records, place)
            if logged is not None:
                known, place = known.extend(logged), reached
            return compared(*relevant(PLAN, {"sales": known}, requests, marks))

        told = [timed("the log read anew", anew), timed("read on: the first check", read_on)]
        post(records, columns, slice(0, 1000))
        told += [timed("read on: 1000 rows later", read_on), timed("read on: nothing new", read_on)]
        assert len(set(told)) == 1, "both ways must find the same"


def post(records: SpoolRecords, columns: Columns, rows: slice) -> None:
    """Put rows into the event log."""
    piece = {name: values[rows] for name, values in columns.items()}
    ids = [sha256(b"%d" % number)[:32] for number in range(len(piece["at"]))]
    records.write(EVENTS + SALES.name, _packed(piece, ids))


def timed(what: str, call: Callable[[], ParityReport]) -> str:
    """Print the CPU of a call; what it found."""
    began = time.process_time()
    found = call()
    print(f"{what:<26} {time.process_time() - began:8.3f} CPU-s")
    return repr(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
