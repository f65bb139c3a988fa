"""When the shadow is scored: while nobody waits for an answer."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor, Future

from trimtab.serving.answers import Answers
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.shadow import ShadowWork

_ROWS = 32
_LAST_S = 5.0
"""How long a worker that stops waits for scores that are being made in another process."""
Scored = list[tuple[ShadowWork, Answers | None]]
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
        self._aside: Future[Scored] | None = None
        """What is scored in a thread now."""
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
                self._aside = self._threads.submit(engine.score_shadow, works)
                scored = await asyncio.shield(asyncio.wrap_future(self._aside))
                self._aside = None
            else:
                scored = engine.score_shadow(works)
            self._dispatcher.settling.record_shadow(engine.keep_shadow(scored))
        except Exception:  # noqa: BLE001 - logged below; the worker lives on
            self._aside = None
            self._lost()

    def finish(self) -> None:
        """Score everything that waits, here and now, while the worker stops; what is being scored aside comes first."""
        if self._aside is not None:
            try:
                scored = self._aside.result(_LAST_S)
                self._dispatcher.settling.record_shadow(self._dispatcher.engine.keep_shadow(scored))
            except Exception:  # noqa: BLE001 - as below
                self._lost()
            self._aside = None
        while self._dispatcher.engine.shadow_rows:
            try:
                self._dispatcher.settling.step_shadow()
            except Exception:  # noqa: BLE001 - logged below; the rest is still tried
                self._lost()

    def _lost(self) -> None:
        _log.exception("shadow scores are lost")
        self.failures += 1
