"""Who may join the queue: nobody waits for an answer that would come too late, and no model takes the others' room.

A request is refused at once, before it is decoded, when

- as many requests wait for its model as its share of the queue holds: the whole queue while one model is asked, a half
  while two are, and so on; or
- those before it will take longer than the caller waits. What a request of a model takes is learned from the batches
  that were answered (an exponential mean, :data:`_LEARN` of it new each time); while several models are asked, their
  batches take turns, so each goes that much slower.

What was admitted and waited past its deadline all the same is refused when its turn comes.
"""

from __future__ import annotations

from trimtab.errors import Overloaded, TooLate

_LEARN = 0.1
_MARGIN = 0.8
"""Share of a deadline that waiting may take; the rest is for the answer itself, and for what was not foreseen."""


class Admission:
    """Counts who waits, by model, and refuses.

    Parameters
    ----------
    limit
        Most requests that wait, over all models.
    deadline_ns
        How long a caller waits who does not say; 0 for ever.

    Examples
    --------
    >>> door = Admission(limit=100, deadline_ns=10_000_000)
    >>> door.answered("m", bodies=1, took_ns=4_000_000)
    >>> for _ in range(2):
    ...     door.admit("m")
    ...     door.joined("m")
    >>> door.admit("m", within_ns=5_000_000)
    Traceback (most recent call last):
    trimtab.errors.TooLate: the answer would come too late. Got about 8 ms of 5 ms. Hint: try again in a second.
    """

    def __init__(self, *, limit: int, deadline_ns: int = 0) -> None:
        self._limit, self._deadline = limit, deadline_ns
        self._waiting: dict[str, int] = {}
        self._each: dict[str, float] = {}

    def admit(self, model: str, *, within_ns: int = 0) -> None:
        """Let a request pass.

        Raises
        ------
        Overloaded
            When its model has its share of the queue.
        TooLate
            When its answer would come too late.
        """
        waiting = self._waiting.get(model, 0)
        if not waiting:
            return
        others = len(self._waiting)
        if waiting >= max(1, self._limit // others):
            raise Overloaded(
                "too many requests are waiting", got=f"{waiting} for {model}", hint="send fewer at a time, or later"
            )
        deadline = within_ns or self._deadline
        wait = waiting * self._each.get(model, 0.0) * others
        if deadline and wait > deadline * _MARGIN:
            raise TooLate(
                "the answer would come too late",
                got=f"about {wait / 1e6:.0f} ms of {deadline / 1e6:.0f} ms",
                hint="try again in a second",
            )

    def joined(self, model: str) -> None:
        """A request waits now."""
        self._waiting[model] = self._waiting.get(model, 0) + 1

    def left(self, model: str, bodies: int) -> None:
        """Requests wait no more: their turn has come, or they were given up."""
        still = self._waiting.get(model, 0) - bodies
        if still > 0:
            self._waiting[model] = still
        else:
            self._waiting.pop(model, None)

    def answered(self, model: str, *, bodies: int, took_ns: int) -> None:
        """Learn from a batch."""
        if bodies:
            each = took_ns / bodies
            known = self._each.get(model)
            self._each[model] = each if known is None else known + _LEARN * (each - known)

    def forget(self) -> None:
        """Nobody waits."""
        self._waiting.clear()
