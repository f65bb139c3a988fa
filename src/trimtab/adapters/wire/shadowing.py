"""When the shadow is scored: while nobody waits for an answer."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor

from trimtab.serving.dispatch import Dispatcher

_ROWS = 32
_log = logging.getLogger("trimtab.serving")


class ShadowTurns:
    """Scores the shadow queue of a dispatcher, a few rows at a time.

    Parameters
    ----------
    threads
        For versions that block the thread that asks them.
    """

    def __init__(self, dispatcher: Dispatcher, threads: Executor) -> None:
        self._dispatcher, self._threads = dispatcher, threads
        self._woken = asyncio.Event()
        self.failures = 0
        """Scores lost to an error, most likely of the store."""

    def wake(self) -> None:
        """There is something to score."""
        self._woken.set()

    async def run(self) -> None:
        """Score whenever nobody waits for an answer, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._dispatcher.engine.shadow_rows:
                if self._dispatcher.queue:
                    await asyncio.sleep(0.0005)
                    continue
                await self._turn()
                await asyncio.sleep(0)  # let what has arrived go first

    async def _turn(self) -> None:
        engine = self._dispatcher.engine
        works = engine.take_shadow(_ROWS)
        try:
            if engine.blocks({work.version for work in works}):
                loop = asyncio.get_running_loop()
                scored = await loop.run_in_executor(self._threads, engine.score_shadow, works)
            else:
                scored = engine.score_shadow(works)
            self._dispatcher.settling.record_shadow(engine.keep_shadow(scored))
        except Exception:  # noqa: BLE001 - logged below; the worker lives on
            self._lost()

    def finish(self) -> None:
        """Score everything that waits, here and now, while the worker stops."""
        while self._dispatcher.engine.shadow_rows:
            try:
                self._dispatcher.settling.step_shadow()
            except Exception:  # noqa: BLE001 - logged below; the rest is still tried
                self._lost()

    def _lost(self) -> None:
        _log.exception("shadow scores are lost")
        self.failures += 1
