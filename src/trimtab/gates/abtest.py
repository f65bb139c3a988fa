"""An A/B test read out: what each arm led to, how sure that is at any time, and whether the split was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.gates.guardrails import SPLIT_ALPHA
from trimtab.stats.betting import REPORTED_MOST
from trimtab.stats.counts import rate_interval, split_e_value
from trimtab.stats.rates import Counts, rates_evidence, rates_interval
from trimtab.stats.sequences import Mean, Spread, half_width, mean_evidence, mean_of_units, skewed, spread_of_units

ALPHA = 0.05
Interval = tuple[float | None, float | None]
TIGHTEST = 2_000
"""Units at which the intervals are tightest."""
FEWEST = 50
"""Units of an arm below which nothing is said of a mean; a rate of units that are each 0 or 1 needs none."""
FEW, SKEWED = "few units", "skewed"


@dataclass(frozen=True, slots=True)
class ArmRows:
    """What an arm did, row by row; forced and pinned answers are not among them."""

    units: Sequence[str]
    values: NDArray[np.float64]
    """The metric of each row, float64 of shape (n,); NaN where it has not matured, or there is no label."""
    errors: int = 0
    """Requests that it could not answer."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm of a test."""

    name: str
    requests: int
    units: int
    errors: int
    rows: int
    """Rows with a value of the metric."""
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm against the first one."""

    arm: str
    against: str
    difference: float | None
    low: float | None
    high: float | None
    evidence: float
    """To 1, that they differ at all; it may be read at every time."""
    verdict: str
    """``higher``, ``lower`` or ``open``."""
    waits: str = ""
    """Why nothing is said yet: an arm has ``few units``, or the values are too ``skewed`` for its units."""


@dataclass(frozen=True, slots=True)
class Readout:
    """The state of a test."""

    arms: tuple[ArmResult, ...]
    differences: tuple[Difference, ...]
    alpha: float
    split_evidence: float
    """To 1, that units are not split as declared."""
    split_kept: bool
    """When False, no difference can be believed: something other than the arms decides who is where."""


class _Summary(NamedTuple):
    name: str
    requests: int
    units: int
    errors: int
    totals: NDArray[np.float64]
    """Of each unit with a value, the sum over its rows."""
    rows: NDArray[np.float64]
    metric: Mean

    @property
    def plain(self) -> bool:
        """Whether each unit has one value, 0 or 1."""
        return bool(np.all(self.rows == 1) and np.all((self.totals == 0) | (self.totals == 1)))


def read_out(arms: Mapping[str, ArmRows], shares: Mapping[str, float], *, alpha: float = ALPHA) -> Readout:
    """Compare the arms of a test; the first of ``shares`` is the one that the others are compared with.

    The unit is what was assigned to an arm, so units are counted for the split, and rows of one unit are not taken for
    independent. Intervals hold at all times at once: reading often costs nothing. With k arms, each of the k - 1
    comparisons gets its part of ``alpha``.

    Where each unit has one value and that is 0 or 1, the promise is exact, for arms of any size
    (:mod:`trimtab.stats.rates`). Other means are compared by :mod:`trimtab.stats.sequences`, which needs
    :data:`FEWEST` units of each arm, more for skewed values in arms of unequal size, and takes for the variance of an
    arm no less than that of all units together: few units that happen to be alike say nothing.

    Raises
    ------
    InputError
        With fewer than two arms.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def arm(rate):
    ...     return ArmRows([f"u{n}" for n in range(3000)], (rng.random(3000) < rate).astype(float))
    >>> found = read_out({"a": arm(0.1), "b": arm(0.2)}, {"a": 0.5, "b": 0.5})
    >>> found.split_kept, found.differences[0].verdict
    (True, 'higher')
    """
    if len(shares) < 2:
        raise InputError("a test has two arms or more", got=", ".join(shares))
    nothing = ArmRows([], np.zeros(0))
    found = [_summary(name, arms.get(name, nothing)) for name in shares]
    first, *others = found
    part = alpha / len(others)
    evidence = _split(found, shares)
    plain = all(one.plain for one in found)
    spread = spread_of_units([(one.totals, one.rows) for one in found])
    return Readout(
        arms=tuple(_result(one, _of_rate(one, alpha) if plain else _of_mean(one, spread, alpha)) for one in found),
        differences=tuple(
            _of_rates(one, first, part, shares[one.name] / (shares[one.name] + shares[first.name]))
            if plain
            else _of_means(one, first, part)
            for one in others
        ),
        alpha=alpha,
        split_evidence=evidence,
        split_kept=evidence <= 1 / SPLIT_ALPHA,
    )


def _summary(name: str, rows: ArmRows) -> _Summary:
    units, place = np.unique(np.asarray(rows.units, dtype=np.str_), return_inverse=True)
    has = ~np.isnan(rows.values)
    totals = np.asarray(np.bincount(place[has], weights=rows.values[has], minlength=len(units)), dtype=np.float64)
    counts = np.asarray(np.bincount(place[has], minlength=len(units)), dtype=np.float64)
    totals, counts = totals[counts > 0], counts[counts > 0]
    return _Summary(name, len(rows.units), len(units), rows.errors, totals, counts, mean_of_units(totals, counts))


def _result(one: _Summary, interval: Interval) -> ArmResult:
    metric = one.metric
    return ArmResult(one.name, one.requests, one.units, one.errors, metric.rows, _known(metric.mean), *interval)


def _of_rate(one: _Summary, alpha: float) -> Interval:
    if not one.metric.units:
        return None, None
    return rate_interval(int(one.totals.sum()), one.metric.units, alpha=alpha, typical=0.5)


def _of_mean(one: _Summary, spread: Spread, alpha: float) -> Interval:
    metric = one.metric
    if metric.units < FEWEST or skewed(spread.skewness, metric.units):
        return None, None
    variance = max(metric.variance, spread.variance)
    return _interval(metric.mean, half_width(metric.units, variance, alpha=alpha, tightest=TIGHTEST))


def _of_rates(one: _Summary, first: _Summary, alpha: float, share: float) -> Difference:
    """Two rates of units that are each 0 or 1."""
    if not one.metric.units or not first.metric.units:
        return Difference(one.name, first.name, None, None, None, 1.0, "open", FEW)
    counts = Counts(int(first.totals.sum()), first.metric.units, int(one.totals.sum()), one.metric.units)
    log = rates_evidence(counts, 0.0, share=share, alpha=alpha, tightest=TIGHTEST)
    interval = rates_interval(counts, share=share, alpha=alpha, tightest=TIGHTEST)
    return _told(one, first, interval, math.exp(min(log, math.log(REPORTED_MOST))))


def _of_means(one: _Summary, first: _Summary, alpha: float) -> Difference:
    """The difference of two means as one mean over the units of both."""
    mine, theirs = one.metric, first.metric
    units = mine.units + theirs.units
    spread = spread_of_units([(one.totals, one.rows), (first.totals, first.rows)])
    few = min(mine.units, theirs.units) < FEWEST
    if few or skewed(spread.skewness, mine.units, theirs.units):
        delta = _known(mine.mean - theirs.mean)
        return Difference(one.name, first.name, delta, None, None, 1.0, "open", FEW if few else SKEWED)
    own = max(mine.variance, spread.variance) / mine.units + max(theirs.variance, spread.variance) / theirs.units
    variance, delta = units * own, mine.mean - theirs.mean
    interval = _interval(delta, half_width(units, variance, alpha=alpha, tightest=TIGHTEST))
    evidence = mean_evidence(units, delta, variance, alpha=alpha, tightest=TIGHTEST)
    return _told(one, first, interval, min(evidence, REPORTED_MOST))


def _told(one: _Summary, first: _Summary, interval: Interval, evidence: float) -> Difference:
    """A difference with its verdict: which side of 0 its interval lies on."""
    low, high = interval
    verdict = "open"
    if low is not None and high is not None and (low > 0 or high < 0):
        verdict = "higher" if low > 0 else "lower"
    return Difference(one.name, first.name, _known(one.metric.mean - first.metric.mean), low, high, evidence, verdict)


def _split(found: Sequence[_Summary], shares: Mapping[str, float]) -> float:
    """Evidence that some arm has not its share of the units; the mean over the arms is evidence too."""
    total = sum(one.units for one in found)
    each = [split_e_value(one.units, total - one.units, shares[one.name]) for one in found]
    return min(sum(each) / len(each), REPORTED_MOST)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(mean: float, width: float) -> Interval:
    return (mean - width, mean + width) if math.isfinite(mean) and math.isfinite(width) else (None, None)
