"""What is done beside the deciding: prediction records become Parquet files."""

from __future__ import annotations

import logging
import threading

from trimtab.app.home import Home
from trimtab.errors import TrimtabError
from trimtab.serving.record import PREDICTIONS

EVERY_S = 300.0
_AT_LEAST = 1000
_log = logging.getLogger("trimtab.control")


class Compactor:
    """Compacts prediction records now and then in a thread of its own, and a last time at the end.

    Parameters
    ----------
    home
        Files go below its ``records/predictions/parquet``; see :mod:`trimtab.adapters.records.parquet`.
    every_s
        Seconds between two compactions.
    """

    def __init__(self, home: Home, *, every_s: float = EVERY_S) -> None:
        self._home, self._every = home, every_s
        self.directory = home.root / "records" / PREDICTIONS / "parquet"
        self._records = home.records("compactor")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compact", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Compact what is left, and end; what takes longer is left to the next start."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.compact(at_least=_AT_LEAST)
        self.compact(at_least=1)

    def compact(self, *, at_least: int) -> int:
        """Compact once; 0 when it cannot be done now. Nothing is lost then: the records stay where they are."""
        from trimtab.adapters.records.parquet import compact

        try:
            return compact(self._records, self.directory, at_least=at_least)
        except TrimtabError as error:
            _log.warning("records are not compacted: %s", error)
        except Exception:  # noqa: BLE001 - the thread lives on, and the platform does not need it
            _log.exception("records are not compacted")
        return 0
