"""What is done beside the deciding: prediction records become Parquet files, and what is not needed any more goes."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.app.home import Home
from trimtab.app.setting_values import one_of, read_setting
from trimtab.core.clock import DAY, Clock, Micros, iso
from trimtab.core.ids import Json
from trimtab.errors import InputError, TrimtabError
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.scoring import TABLE

EVERY_S = 300.0
_AT_LEAST = 1000
_ROWS = 100_000
_LAST_S = 2.0
"""How long a process that was told to end may still compact; the rest waits for the next one, and loses nothing."""
_LAST_ROWS = 10_000
"""Rows a file in that time: about a second."""
_DAYS = re.compile(r"([1-9]\d{0,4})d")
_FOREVER = "forever"
_log = logging.getLogger("trimtab.control")


class Keep(NamedTuple):
    """What is kept: spools beside their Parquet, and Parquet for how long (None: for ever)."""

    spools: bool = False
    age: Micros | None = None

    @staticmethod
    def read() -> Keep:
        """What the settings say.

        Raises
        ------
        InputError
            When they say nothing that can be meant.
        """
        spools = one_of("records_spools", ("delete", "keep"))
        return Keep(spools == "keep", read_setting("records_keep", _age))


def _age(text: str) -> Micros | None:
    found = _DAYS.fullmatch(text)
    if found is None and text != _FOREVER:
        raise InputError("it must say how long records are kept", got=repr(text), hint="forever, or days as in 90d")
    return int(found[1]) * DAY if found is not None else None


class Compactor:
    """Compacts prediction records now and then in a thread of its own, and a last time at the end.

    Parameters
    ----------
    home
        Files go below its ``records/<table>/parquet``; see :mod:`trimtab.adapters.records.parquet`.
    clock
        Says how old records are.
    every_s
        Seconds between two compactions.
    keep
        What stays; by default what the settings say.
    """

    def __init__(self, home: Home, *, clock: Clock, every_s: float = EVERY_S, keep: Keep | None = None) -> None:
        self._clock, self._every = clock, every_s
        self._keep = keep if keep is not None else Keep.read()
        self._records = SpoolRecords(home.root / "records", "compactor")
        self._stop = threading.Event()
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._run, name="compact", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Compact what is left if that is little, and end."""
        self._deadline = time.monotonic() + _LAST_S
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2 * _LAST_S)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.compact(at_least=_AT_LEAST)
        self.compact(at_least=1)

    def compact(self, *, at_least: int) -> int:
        """Do everything once; how many rows were compacted, 0 when it cannot be done now.

        Nothing is lost then: the records stay where they are.
        """
        return sum(self._table(table, at_least) for table in (PREDICTIONS, TABLE))

    def _table(self, table: str, at_least: int) -> int:
        from trimtab.adapters.records.compaction import compact
        from trimtab.adapters.records.deletion import ended_writers

        if not self._records.directory(table).is_dir():
            return 0
        try:
            self._delete(table)  # on a full disk, this makes the room that compaction needs
            ended = ended_writers(self._records, table)
            directory = self._records.index(table).directory
            count = compact(
                self._records,
                directory,
                table=table,
                at_least=at_least,
                at_most=_LAST_ROWS if self._stop.is_set() else _ROWS,
                ended=ended,
                go_on=lambda: time.monotonic() < self._deadline,
            )
            self._delete(table)
        except TrimtabError as error:
            _log.warning("%s: records are not compacted: %s", table, error)
        except Exception:  # noqa: BLE001 - the thread lives on, and the platform does not need it
            _log.exception("%s: records are not compacted", table)
        else:
            return count
        return 0

    def _delete(self, table: str) -> None:
        from trimtab.adapters.records.deletion import delete_compacted, expire

        if not self._keep.spools:
            gone = delete_compacted(self._records, table)
            if gone.files:
                _log.info("%s: %d spools deleted that are in Parquet, %d bytes", table, gone.files, gone.bytes)
        if self._keep.age is not None:
            before = self._clock.now() - self._keep.age
            old = expire(self._records.index(table).directory, before=before)
            if old.files:
                told = (table, old.rows, iso(before)[:10], old.files, old.bytes)
                _log.warning(
                    "%s: %d records of days before %s were kept long enough: %d files deleted, %d bytes", *told
                )


def disk_use(home: Home) -> Mapping[str, Json]:
    """Bytes of each table of records: spools, and Parquet."""
    from trimtab.adapters.records.deletion import usage

    root = home.root / "records"
    tables = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = {table: usage(root / table) for table in tables}
    return {
        table: {"spool_bytes": use.spools, "parquet_bytes": use.parquet, "files": use.files}
        for table, use in found.items()
    }
