"""What a worker does about once a second: take down its counts, force what was recorded to disk, look for room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from trimtab.core.ports import Records
from trimtab.errors import TrimtabError, Unavailable
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.recordmode import KeptRecords

_log = logging.getLogger("trimtab.serving")


class Syncing:
    """Forces records to disk beside the answers.

    Parameters
    ----------
    records
        What ``kept`` writes to: forced to disk in a thread of its own.
    recorded
        Rows answered so far: with no more of them there is nothing to force.
    every_s
        What a power cut may cost, and how soon room on a disk that was full is found without any request.
    """

    def __init__(self, kept: KeptRecords, records: Records, *, recorded: Callable[[], int], every_s: float) -> None:
        self._kept, self._records, self._recorded, self._every = kept, records, recorded, every_s
        self._synced = 0
        """Rows counted when records were last forced to disk."""

    async def run(self, look: Callable[[], None]) -> None:
        """Go on until cancelled; ``look`` is called each time."""
        while True:
            await asyncio.sleep(self._every)
            for step, why in (
                (look, "how things stand could not be taken down"),
                (self._kept.probe, "no room could be looked for"),
            ):
                try:
                    step()
                except (TrimtabError, OSError):  # and records are forced to disk all the same
                    _log.exception(why)
            await self.sync()

    async def sync(self) -> None:
        """Force what was recorded since the last time to disk; no answer waits for it."""
        recorded = self._recorded()
        if recorded == self._synced:
            return
        try:
            self._kept.flush()
        except Unavailable:  # that was told of
            return
        try:
            await asyncio.get_running_loop().run_in_executor(
                None, lambda: self._records.write(PREDICTIONS, [], sync=True)
            )
        except (
            Unavailable,
            OSError,
        ) as error:  # it is tried again; the answers are in the file, only not surely on disk
            _log.error("%s", error)
        else:
            self._synced = recorded
