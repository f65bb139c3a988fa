"""When batches are answered: after the sockets that are ready now have been read, so that they share one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from trimtab.adapters.wire.shadowing import ShadowTurns
from trimtab.serving.dispatch import Dispatcher, Outcome


class BatchTurns:
    """Lets a dispatcher answer, in the event loop.

    Parameters
    ----------
    threads
        For versions that block the thread that asks them.
    """

    def __init__(self, dispatcher: Dispatcher, shadow: ShadowTurns, threads: Executor) -> None:
        self.dispatcher, self.shadow, self.threads = dispatcher, shadow, threads
        dispatcher.aside = self.aside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._later: asyncio.TimerHandle | None = None
        """Wakes us when a batch is held back no longer."""

    def aside(self, work: Callable[[], Outcome], back: Callable[[Outcome], None]) -> None:
        """Run what blocks in a thread, and go on with its result here."""
        waiting = asyncio.get_running_loop().run_in_executor(self.threads, work)

        def done(future: asyncio.Future[Outcome]) -> None:
            try:
                back(future.result())
            finally:  # whoever was parked waits in the queue again
                self.wake()

        waiting.add_done_callback(done)

    def wake(self) -> None:
        """Answer what waits, after the sockets that are ready now have been read: they share the batch."""
        if not self._running:
            self._running = True
            self._loop = self._loop or asyncio.get_running_loop()
            self._loop.call_soon(self._run, self._loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.dispatcher.step()
        finally:
            self._running = len(self.dispatcher.queue) > 0
            if self._running:
                self._go_on(loop)
            if self.dispatcher.engine.shadow_rows:
                self.shadow.wake()

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run again: now, or when the first batch that is held back is due."""
        wait_ns = self.dispatcher.queue.wait_ns()
        if wait_ns <= 0:
            loop.call_soon(self._run, loop)
            return
        self._running = False  # whoever comes meanwhile may make the batch full
        when = loop.time() + wait_ns / 1e9
        if self._later is not None and self._later.when() > when:
            self._later.cancel()
            self._later = None
        if self._later is None:
            self._later = loop.call_at(when, self._due)

    def _due(self) -> None:
        self._later = None
        self.wake()
