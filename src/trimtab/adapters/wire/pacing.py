"""Refusals at a bounded rate: what refusing costs is taken from those who could be answered."""

from __future__ import annotations

import asyncio
from collections import deque

from trimtab.adapters.wire.exchange import Respond
from trimtab.adapters.wire.reply import Reply

RATE = 3000
"""Refusals a second, which take about a sixteenth of a core at 20 µs each, reading the request included."""
_TICK_S = 0.01
_AT_ONCE_S = 0.04


class PacedRefusals:
    """Tells callers that there is no room for them.

    At once, unless more of them come than a worker can turn away beside its work. Then they wait for their turn, a
    second at most, which is no longer than they are told to stay away; and who waits for an answer sends nothing
    meanwhile, so that a flood slows down by itself.

    Parameters
    ----------
    rate
        A second. So many may also wait; who comes then is told at once all the same.
    """

    def __init__(self, rate: int = RATE) -> None:
        self._rate, self._most_left = rate, rate * _AT_ONCE_S
        self._left, self._looked = self._most_left, 0.0
        self._held: deque[tuple[Respond, Reply]] = deque()
        self._looking = False

    def __len__(self) -> int:
        """How many wait to be told."""
        return len(self._held)

    def refuse(self, respond: Respond, reply: Reply) -> None:
        """Answer, now or when it is its turn."""
        if not self._looking:
            self._look_later(asyncio.get_running_loop())
        if (self._left < 1 or self._held) and len(self._held) < self._rate:
            self._held.append((respond, reply))
        else:
            self._left -= 1
            respond(reply)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking, self._looked = True, loop.time()
        loop.call_later(_TICK_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        room = self._rate * (loop.time() - self._looked)  # a busy loop looks late
        self._left = min(max(self._left, 0) + room, max(self._most_left, room))
        held = self._held
        try:
            while held and self._left >= 1:
                self._left -= 1
                respond, reply = held.popleft()
                respond(reply)
        finally:  # those behind one who cannot be told are told all the same
            self._looking = bool(held) or self._left < self._most_left
            if self._looking:
                self._look_later(loop)
