"""Champion against challenger: paired day blocks, judged sequentially.

A day is one piece of evidence, whatever its number of rows: requests of one day share weather, promotions and
outages, so their losses are not independent.

The bet is on days cut at a bound fixed beforehand, so on a *cut* mean: many small gains could outweigh a few losses
that were cut. Nobody is served by a cut mean. So ``superior`` also asks that the plain mean over all rows so far is a
gain, which can only make promotion rarer. Neither sees a rare loss before it has happened once.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from trimtab.stats.betting import BettingState, e_value, start, update

LEAST_ROWS = 100
"""A day with fewer paired rows is merged with the next: the bet treats all blocks alike, and the mean of a handful of
rows is mostly noise that the winsor bound, set from full days, would cut."""

HARM_BOUND = 1.5
HARM_REACH = 2.0
"""In the harm test a day's benefit counts up to 1.5 winsor bounds and its harm up to twice that: being quick with a bad
model matters more than with a good one. A longer reach, or a tighter bound, rolls equal canaries back too often, since
cutting one side more than the other looks like harm (simulated in docs/decisions/0003-default-policy.md)."""

Verdict = Literal["superior", "inferior", "open"]


class PairedEvidence(msgspec.Struct, frozen=True):
    """What the matured days of a rollout say so far. Gains are champion's loss minus challenger's, per row."""

    days: int
    """Blocks counted (a merged block is one)."""
    rows: int
    gain: float
    """Sum over counted rows."""
    waiting_rows: int
    """Of days too small to count yet."""
    waiting_gain: float
    superior: BettingState
    """Against "the challenger is not better"."""
    inferior: BettingState
    """Against "the challenger is not worse"."""
    noninferior: BettingState
    """Against "the challenger is worse by the margin or more"."""
    harm: BettingState | None
    """As ``inferior``, from the first canary day on, with a longer reach; None before."""

    @property
    def mean_gain(self) -> float:
        """Per row, nothing cut; 0 before the first block."""
        return self.gain / self.rows if self.rows else 0.0

    @property
    def margin(self) -> float:
        """The loss per row by which the challenger may be worse and still pass a canary step."""
        return self.noninferior.bound - self.superior.bound


def start_evidence(bound: float, *, margin: float) -> PairedEvidence:
    """Evidence before the first day.

    Parameters
    ----------
    bound
        Where a day's mean gain is cut (:func:`trimtab.stats.betting.winsor_bound`).
    margin
        The loss per row by which a challenger may be worse and still pass a canary step.
    """
    return PairedEvidence(0, 0, 0.0, 0, 0.0, start(bound), start(bound), start(bound + margin), None)


def start_harm(bound: float) -> BettingState:
    """The harm test before the first canary day, for a rollout with this winsor bound."""
    return start(HARM_BOUND * bound, reach=HARM_REACH)


def watch_harm(evidence: PairedEvidence) -> PairedEvidence:
    """Begin the harm test: a model that was good in the shadow has no wealth left to lose against it."""
    return msgspec.structs.replace(evidence, harm=start_harm(evidence.superior.bound))


def add_day(evidence: PairedEvidence, rows: int, gain: float) -> PairedEvidence:
    """The evidence after one more matured day.

    Parameters
    ----------
    rows
        Matured, labelled rows that both versions predicted.
    gain
        Sum over these rows of champion's loss minus challenger's. A day whose sum is not finite is left out.
    """
    if rows <= 0 or not math.isfinite(gain):
        return evidence
    rows, gain = rows + evidence.waiting_rows, gain + evidence.waiting_gain
    if rows < LEAST_ROWS:
        return msgspec.structs.replace(evidence, waiting_rows=rows, waiting_gain=gain)
    mean = gain / rows
    return PairedEvidence(
        days=evidence.days + 1,
        rows=evidence.rows + rows,
        gain=evidence.gain + gain,
        waiting_rows=0,
        waiting_gain=0.0,
        superior=update(evidence.superior, mean),
        inferior=update(evidence.inferior, -mean),
        noninferior=update(evidence.noninferior, mean + evidence.margin),
        harm=None if evidence.harm is None else update(evidence.harm, -mean),
    )


def verdict(evidence: PairedEvidence, *, alpha: float) -> Verdict:
    """``superior`` or ``inferior`` at the evidence ``1 / alpha``, else ``open``.

    ``superior`` also needs a plain mean gain above 0 (:attr:`PairedEvidence.mean_gain`, which nothing is cut from).

    Examples
    --------
    >>> evidence = start_evidence(0.05, margin=0.01)
    >>> for _ in range(6):
    ...     evidence = add_day(evidence, 900, 900 * 0.05)
    >>> verdict(evidence, alpha=0.1)
    'superior'
    """
    if e_value(evidence.superior) >= 1 / alpha and evidence.mean_gain > 0:
        return "superior"
    if e_value(evidence.inferior) >= 1 / alpha:
        return "inferior"
    return "open"
