"""Units of a canary step: independent draws of an arm, each counted once, however often it asks, fails or is slow.

A unit is what an arm is drawn for once: what the caller says stays with one arm, the first row of a body, else the
request itself. Where two versions behave alike, each unit falls to the canary with the probability of its share,
whatever it then asks; requests of one unit are no further draws.

Memory is bounded. Units are kept as numbers of 64 bits, at most :data:`LIMIT` of them. When there are more, only those
in the lower half of the numbers are kept, then in the lower quarter, and so on. The number of a unit has nothing to do
with its arm, and the half is the same for both arms: so what is kept is a sample of the units that knows nothing of
arms, counted from the first request on. Lone requests that were answered are not kept at all (the day that they belong
to knows them); of them the same part is counted, by rule of three, so that rates stay rates. A likelihood ratio of
such counts is one to a power below 1, which is no more than its share of evidence (Jensen). After a halving the test is
another one, as valid as that before: its alpha is spent anew, by which time nearly nothing of the first is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from trimtab.monitoring.blocks import ArmCount

LIMIT = 65_536
"""Most units that are kept."""
ASKED, ERRED, SLOW = 1, 2, 4
"""What is known of a unit."""

Arm = tuple[str, str, str]
"""Rollout, arm and version."""
Stamps = Sequence[dict[str, int]]
"""Lone answered requests by day, with a stamp each: twice the number of the step they were counted in, and 1 if slow.
"""
PackedUnits = tuple[int, list[Arm], list[list[int]], dict[int, int]]


def unit_number(unit: str) -> int:
    """A unit as a number below 2⁶⁴, the same in every process, and unlike the one that draws its arm."""
    return int.from_bytes(blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8, person=b"unit").digest(), "big")


@dataclass(slots=True)
class StepUnits:
    """What the requests of a step said that was new.

    Parameters
    ----------
    since
        The step's number: stamps of it and of later ones are of this step.
    """

    since: int
    limit: int = LIMIT
    _halvings: int = 0
    _arms: list[Arm] = field(default_factory=list)
    _repeats: list[list[int]] = field(default_factory=list)
    """By arm, of requests, errors and slow answers: how many said nothing new."""
    _known: dict[int, int] = field(default_factory=dict)
    """What was counted of a unit here, and three bits further up the place of its arm."""

    def lone(self, arm: Arm, ids: Sequence[str], *, slow: bool, earlier: Stamps) -> None:
        """Answered requests that were drawn for themselves, new on their day.

        Costs nothing per row while no unit is kept and no id comes again.

        Parameters
        ----------
        earlier
            Of the version's other days. A request of those is no news, nor is that it is slow now.
        """
        again = [day for day in earlier if not day.keys().isdisjoint(ids)]
        if not again and not self._known:
            return
        repeats = self._repeats[self._place(arm)]
        for request in ids:
            number = unit_number(request)
            held = self._known.get(number)
            if held is None:
                if self._stamped(request, again):
                    repeats[0] += 1
                    repeats[2] += slow
                continue
            repeats[0] += 1
            if slow and (held & SLOW or self._stamped(request, again)):
                repeats[2] += 1
            elif slow:
                self._known[number] = held | SLOW

    def meet(self, arm: Arm, units: Iterable[str], what: int, *, days: Stamps) -> None:
        """Requests that failed, or that fell to their arm together: the unit of each.

        Parameters
        ----------
        what
            ``ASKED``, with ``ERRED`` or ``SLOW``.
        days
            All days of the version: a unit may be a request that was answered by itself, such as the first of a body.
        """
        place = self._place(arm)
        repeats = self._repeats[place]
        for unit, rows in Counter(units).items():
            number, news = unit_number(unit), 0
            if self._keeps(number):
                held = self._known.get(number)
                news = what & ~(self._stamped(unit, days) | (0 if held is None else held | ASKED))
                if news:
                    self._known[number] = news | (place << 3 if held is None else held)
            for bit in range(3):
                repeats[bit] += rows * (what >> bit & 1) - (news >> bit & 1)
        while len(self._known) > self.limit:
            self._halve()

    def repeats(self, counts: ArmCount) -> tuple[int, int, int]:
        """How many of an arm's requests, errors and slow answers in this step say nothing new."""
        arm = (counts.rollout, counts.arm, counts.version)
        if arm not in self._arms and not self._halvings:
            return 0, 0, 0
        given, place = (counts.answered + counts.errors, counts.errors, counts.slow), self._place(arm)
        found = [max(0, count - repeated) for count, repeated in zip(given, self._repeats[place], strict=True)]
        if self._halvings:
            kept = self._kept(place)
            found = [own + (max(0, all_ - own) >> self._halvings) for all_, own in zip(found, kept, strict=True)]
        found[0] = max(found)  # a part of lone answers is a number, not a set: never fewer than those that failed
        first, second, third = (count - distinct for count, distinct in zip(given, found, strict=True))
        return first, second, third

    def pack(self) -> PackedUnits:
        """As plain values."""
        return self._halvings, self._arms, self._repeats, self._known

    @staticmethod
    def unpack(packed: PackedUnits, *, since: int) -> StepUnits:
        """Back from plain values."""
        halvings, arms, repeats, known = packed
        return StepUnits(since, LIMIT, halvings, list(arms), [list(counts) for counts in repeats], dict(known))

    def _place(self, arm: Arm) -> int:
        if arm not in self._arms:
            self._arms.append(arm)
            self._repeats.append([0, 0, 0])
        return self._arms.index(arm)

    def _keeps(self, number: int) -> bool:
        return number >> (64 - self._halvings) == 0

    def _stamped(self, request: str, days: Stamps) -> int:
        """What the days say of a request that was answered by itself in this step."""
        for day in days:
            stamp = day.get(request, 0)
            if stamp >> 1 >= self.since:
                return ASKED | (SLOW if stamp & 1 else 0)
        return 0

    def _halve(self) -> None:
        self._halvings += 1
        for number in [number for number in self._known if not self._keeps(number)]:
            held = self._known.pop(number)
            for bit in range(3):
                self._repeats[held >> 3][bit] += held >> bit & 1

    def _kept(self, place: int) -> list[int]:
        held = Counter(self._known.values())
        ours = {what: count for what, count in held.items() if what >> 3 == place}
        return [sum(count for what, count in ours.items() if what >> bit & 1) for bit in range(3)]
