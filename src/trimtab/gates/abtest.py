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
from trimtab.stats.counts import split_e_value
from trimtab.stats.sequences import Mean, half_width, mean_evidence, mean_of_units

ALPHA = 0.05
TIGHTEST = 2_000
"""Units at which the intervals are tightest."""


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
    metric: Mean


def read_out(arms: Mapping[str, ArmRows], shares: Mapping[str, float], *, alpha: float = ALPHA) -> Readout:
    """Compare the arms of a test; the first of ``shares`` is the one that the others are compared with.

    The unit is what was assigned to an arm, so units are counted for the split, and rows of one unit are not taken for
    independent. Intervals hold at all times at once: reading often costs nothing. With k arms, each of the k - 1
    comparisons gets its part of ``alpha``.

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
    return Readout(
        arms=tuple(_result(one, alpha) for one in found),
        differences=tuple(_difference(one, first, part) for one in others),
        alpha=alpha,
        split_evidence=evidence,
        split_kept=evidence <= 1 / SPLIT_ALPHA,
    )


def _summary(name: str, rows: ArmRows) -> _Summary:
    units, place = np.unique(np.asarray(rows.units, dtype=np.str_), return_inverse=True)
    has = ~np.isnan(rows.values)
    totals = np.bincount(place[has], weights=rows.values[has], minlength=len(units))
    counts = np.bincount(place[has], minlength=len(units))
    return _Summary(name, len(rows.units), len(units), rows.errors, mean_of_units(totals, counts))


def _result(one: _Summary, alpha: float) -> ArmResult:
    metric = one.metric
    width = half_width(metric.units, metric.variance, alpha=alpha, tightest=TIGHTEST)
    low, high = _interval(metric.mean, width)
    return ArmResult(one.name, one.requests, one.units, one.errors, metric.rows, _known(metric.mean), low, high)


def _difference(one: _Summary, first: _Summary, alpha: float) -> Difference:
    """The difference of two means as one mean over the units of both."""
    mine, theirs = one.metric, first.metric
    units = mine.units + theirs.units
    if not mine.units or not theirs.units:
        return Difference(one.name, first.name, None, None, None, 1.0, "open")
    variance = units * (mine.variance / mine.units + theirs.variance / theirs.units)
    delta = mine.mean - theirs.mean
    low, high = _interval(delta, half_width(units, variance, alpha=alpha, tightest=TIGHTEST))
    evidence = min(mean_evidence(units, delta, variance, alpha=alpha, tightest=TIGHTEST), REPORTED_MOST)
    verdict = "open"
    if low is not None and high is not None and (low > 0 or high < 0):
        verdict = "higher" if low > 0 else "lower"
    return Difference(one.name, first.name, _known(delta), low, high, evidence, verdict)


def _split(found: Sequence[_Summary], shares: Mapping[str, float]) -> float:
    """Evidence that some arm has not its share of the units; the mean over the arms is evidence too."""
    total = sum(one.units for one in found)
    each = [split_e_value(one.units, total - one.units, shares[one.name]) for one in found]
    return min(sum(each) / len(each), REPORTED_MOST)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(mean: float, width: float) -> tuple[float | None, float | None]:
    return (mean - width, mean + width) if math.isfinite(mean) and math.isfinite(width) else (None, None)
