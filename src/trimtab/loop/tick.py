"""How far a replay is; told to whoever shows progress."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.core.clock import Micros


@dataclass(frozen=True, slots=True)
class Tick:
    """How far a replay is.

    Attributes
    ----------
    when, start, end
        Simulated time now, where it began and where it will end, in microseconds.
    done
        Requests answered so far.
    decision
        A sentence when something was decided at ``when``; empty for mere progress.
    """

    when: Micros
    start: Micros
    end: Micros
    done: int
    decision: str = ""

    @property
    def share(self) -> float:
        """How much of the simulated time is over, between 0 and 1."""
        whole = self.end - self.start
        return min(max((self.when - self.start) / whole, 0.0), 1.0) if whole > 0 else 1.0
