"""When the shadow is scored: while nobody waits for an answer.

In another process one score at a time, and none while the same version answers there: who comes meanwhile waits for
that one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from trimtab.serving.answers import Answers
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.shadow import ShadowWork

_ROWS = 32
_LAST_S = 3.0
"""How long a worker that stops goes on scoring."""
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
        self._taken: list[ShadowWork] = []
        """What is scored there next, when nobody is answered by the same version."""
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
            if engine.blocks(versions := {work.version for work in works}):
                self._taken = works
                while self._dispatcher.busy_aside(versions):  # noqa: ASYNC110 - it may change at any answer
                    await asyncio.sleep(0.002)
                self._taken = []
                await self._score_aside(works)
            else:
                self._keep(engine.score_shadow(works))
        except Exception:  # noqa: BLE001 - logged below; the worker lives on
            self._lost()

    async def _score_aside(self, works: list[ShadowWork]) -> None:
        engine = self._dispatcher.engine
        generation = engine.live.table.generation
        engine.uses.begin(generation)
        try:
            self._aside = self._threads.submit(engine.score_shadow, works)
            scored = await asyncio.shield(asyncio.wrap_future(self._aside))
        except Exception:
            self._aside = None
            engine.uses.end(generation)
            raise
        # Of one that is cancelled `finish` takes what comes of it.
        self._aside = None
        engine.uses.end(generation)
        self._keep(scored)

    def finish(self) -> None:
        """Score what waits, here and now, while the worker stops: for some seconds at most, the rest is dropped."""
        engine, end = self._dispatcher.engine, time.monotonic() + _LAST_S
        if self._aside is not None:
            self._try(self._aside.result)
            self._aside = None
        if self._taken:
            self._try(lambda _: engine.score_shadow(self._taken))
        while engine.shadow_rows and time.monotonic() < end:
            self._try(lambda _: engine.score_shadow(engine.take_shadow(1)))
        if left := engine.shadow_rows:
            engine.keep_shadow([(work, None) for work in engine.take_shadow(left)])
            _log.warning("%d shadow rows are not scored: the worker stops", left)

    def _try(self, score: Callable[[float], Scored]) -> None:
        try:
            self._keep(score(_LAST_S))
        except Exception:  # noqa: BLE001 - logged below; the rest is still tried
            self._lost()

    def _keep(self, scored: Scored) -> None:
        self._dispatcher.settling.record_shadow(self._dispatcher.engine.keep_shadow(scored))

    def _lost(self) -> None:
        _log.exception("shadow scores are lost")
        self.failures += 1
