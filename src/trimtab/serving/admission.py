"""Who may join the queue: nobody waits for an answer that would come too late, and no model takes the others' room.

A request is refused at once, before it is decoded, when

- as many requests wait for its model as its share of the queue holds: the whole queue while one model is asked, a half
  while two are, and so on; or
- its answer will take longer than the caller waits: those before it, its own batch, and the batch during which it lay
  unread. What a request and a batch of a model take is learned (an exponential mean, :data:`_LEARN` of it new each
  time) from one answer to the next while requests wait, so that what refusals cost is in it; while several models are
  asked, their batches take turns, so each goes that much slower. A body of several batches waits once for each of them,
  because others pass it in between.

What was admitted and cannot be answered in time all the same is refused when its turn comes: an answer that comes too
late costs as much as one that does not.
"""

from __future__ import annotations

from trimtab.errors import Overloaded, TooLate, TrimtabError

_LEARN = 0.1
_REMEMBERED = 64
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
    >>> door.answered("m", bodies=2, began=0, ended=2_000_000)
    >>> door.admit("m", within_ns=5_000_000)
    >>> door.joined("m")
    >>> door.admit("m", within_ns=5_000_000)  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    trimtab.errors.TooLate: the answer would come too late. Got a wait of about 5.0 ms; of 5 ms, 4 may be
    waited. Hint: try again in a second.
    """

    def __init__(self, *, limit: int, deadline_ns: int = 0) -> None:
        self._limit, self._deadline = limit, deadline_ns
        self._waiting: dict[str, int] = {}
        self._each: dict[str, float] = {}
        self._batch: dict[str, float] = {}
        self._ended = 0
        """When the last batch was answered, while others waited; else 0."""
        self._said: dict[tuple[str, int], TrimtabError] = {}
        """Refusals by model and deadline, until who waits changes: under overload most refusals are like the last."""

    def admit(self, model: str, *, within_ns: int = 0, batches: int = 1) -> None:
        """Let a request pass.

        Parameters
        ----------
        within_ns
            How long its caller waits; 0 for the usual deadline.
        batches
            How many it takes.

        Raises
        ------
        Overloaded
            When its model has its share of the queue.
        TooLate
            When its answer would come too late.
        """
        if batches > 1:
            if (refusal := self._refusal(model, within_ns, batches)) is not None:
                raise refusal
            return
        if self._said and (again := self._said.get((model, within_ns))) is not None:
            raise again.with_traceback(None)
        refusal = self._refusal(model, within_ns)
        if refusal is not None:
            if len(self._said) < _REMEMBERED:
                self._said[model, within_ns] = refusal
            raise refusal

    def _refusal(self, model: str, within_ns: int, batches: int = 1) -> TrimtabError | None:
        waiting = self._waiting.get(model, 0)
        if not waiting:
            return None
        others = len(self._waiting)
        if waiting >= max(1, self._limit // others):
            return Overloaded(
                "too many requests are waiting", got=f"{waiting} for {model}", hint="send fewer at a time, or later"
            )
        deadline = within_ns or self._deadline
        own = (batches + 1) * self._batch.get(model, 0.0)
        wait = (batches * waiting * self._each.get(model, 0.0) + own) * others
        if not deadline or wait <= deadline * _MARGIN:
            return None
        ms, most = deadline / 1e6, deadline * _MARGIN / 1e6
        got = f"a wait of about {wait / 1e6:.1f} ms; of {ms:g} ms, {most:g} may be waited"
        hint = "try again in a second" if batches == 1 else f"send fewer rows at a time: these take {batches} batches"
        return TooLate("the answer would come too late", got=got, hint=hint)

    def joined(self, model: str) -> None:
        """A request waits now."""
        self._said.clear()
        self._waiting[model] = self._waiting.get(model, 0) + 1

    def left(self, model: str, bodies: int) -> None:
        """Requests wait no more: their turn has come, or they were given up."""
        self._said.clear()
        still = self._waiting.get(model, 0) - bodies
        if still > 0:
            self._waiting[model] = still
        else:
            self._waiting.pop(model, None)

    def answered(self, model: str, *, bodies: int, began: int, ended: int) -> None:
        """Learn from a batch: when it was begun, and answered."""
        self._said.clear()
        took = ended - (self._ended if 0 < self._ended < began else began)
        self._ended = ended if self._waiting else 0
        if bodies:
            for learned, value in ((self._each, took / bodies), (self._batch, float(took))):
                known = learned.get(model)
                learned[model] = value if known is None else known + _LEARN * (value - known)

    def lasts(self, model: str, bodies: int) -> int:
        """Nanoseconds that a batch of so many is expected to take; 0 when nothing is known."""
        return int(bodies * self._each.get(model, 0.0))

    def forget(self) -> None:
        """Nobody waits."""
        self._said.clear()
        self._waiting.clear()
        self._ended = 0
