"""Drift: has a window of inputs or predictions moved away from the reference, and is that more than ordinary?

Severity follows the usual table (PSI 0.1/0.2, KS statistic 0.05/0.1, Jensen-Shannon distance 0.1/0.2, change of the
mean prediction 5/10 %), and the worst of them counts. But an alarm needs three things at once:

1. *effect*: a distance past its threshold;
2. *evidence*: a two-sample test that is significant after Bonferroni's correction for all columns looked at;
3. *out of the ordinary*: PSI or the mean is further off than whole blocks of the training window are from the rest.

Without the second, small windows alarm; without the third, autocorrelated features alarm every week for ever. Below
the smallest window the answer is ``insufficient_data``, never ``ok``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.frames import column_names, column_values
from trimtab.datasets.profile import ColumnProfile, Profile, relative_change
from trimtab.errors import UnknownName
from trimtab.monitoring.blocks import DriftReport, FeatureDrift
from trimtab.stats.bins import Bins, Counts, fit_bins
from trimtab.stats.distances import binned_ks, chi_squared, jsd, kl, ks, psi, tvd
from trimtab.stats.tails import normal_tail

LEVELS = ("ok", "warning", "critical")


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """Thresholds (warning, critical) and how much data a verdict needs."""

    psi: tuple[float, float] = (0.1, 0.2)
    ks: tuple[float, float] = (0.05, 0.1)
    jsd: tuple[float, float] = (0.1, 0.2)
    change: tuple[float, float] = (0.05, 0.1)
    """Of the mean prediction, relative."""
    alpha: float = 0.05
    """Chance that any column at all passes the significance test without drift."""
    rows: int = 1_000
    """Smallest window."""
    ks_rows: int = 2_000
    """Smallest window in which a KS statistic below ``ks[1]`` counts."""
    reference_rows: int = 10_000


@dataclass(frozen=True, slots=True)
class Observed:
    """What one column showed in a window."""

    counts: Counts
    """In the layout of the column's bins."""
    total: float
    """Sum over the finite values."""
    finite: int
    """How many there were."""
    whole: bool = True
    """Whether it was observed for the whole window: a part of it is no fair match for a reference block."""

    @property
    def mean(self) -> float:
        return self.total / self.finite if self.finite else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """What a version saw and said between two times."""

    version: str
    start: Micros
    end: Micros
    features: Mapping[str, Observed]
    """A feature that is absent is reported as ``insufficient_data``."""
    prediction: Observed
    confident: float = 0.0
    """Share of confident predictions."""


def compare(profile: Profile, window: Window, *, policy: DriftPolicy = DriftPolicy()) -> DriftReport:
    """Compare a window with a version's reference profile.

    Returns
    -------
    DriftReport
        Features in the profile's order. Severities are per column; ``p_value`` is the raw one of the two-sample
        chi-squared test on all bins, unseen and missing values included.
    """
    columns = len(profile.features)
    features = tuple(
        _judge(name, column, window.features.get(name), columns=columns, policy=policy)
        for name, column in profile.features.items()
    )
    said = _judge("prediction", profile.prediction, window.prediction, columns=1, policy=policy)
    return DriftReport(
        version=window.version,
        start=window.start,
        end=window.end,
        features=features,
        prediction=_with_mean_change(said, profile.prediction, window.prediction, policy),
        confident=window.confident,
        confident_reference=profile.confident,
    )


def _judge(
    name: str, column: ColumnProfile, seen: Observed | None, *, columns: int, policy: DriftPolicy
) -> FeatureDrift:
    if seen is None:
        return FeatureDrift(name, "insufficient_data", 0, 0.0, 0.0, 0.0, 1.0, column.alarm_psi, 0.0, 0.0)
    reference = np.asarray(column.counts, dtype=np.int64)
    rows = int(seen.counts.sum())
    bins = column.bins
    distances = {
        "psi": psi(bins.coarse(reference), bins.coarse(seen.counts)),
        "ks": binned_ks(reference[: bins.size], seen.counts[: bins.size]) if bins.ordered else 0.0,
        "jsd": jsd(reference, seen.counts),
    }
    p_value = chi_squared(reference, seen.counts).p_value
    enough = seen.whole and rows >= policy.rows and int(reference.sum()) >= policy.reference_rows
    change = relative_change(column.mean, seen.mean, column.sd) if seen.finite else 0.0
    # Where ordinary weeks hardly overlap, PSI is at its ceiling every week; a change of unit still shows in the mean.
    extraordinary = distances["psi"] > column.alarm_psi or abs(change) > column.alarm_change
    evident = extraordinary and p_value * max(1, columns) < policy.alpha
    level = _effect(distances, rows, policy) if evident else 0
    return FeatureDrift(
        feature=name,
        severity=LEVELS[level] if enough else "insufficient_data",
        rows=rows,
        psi=distances["psi"],
        ks=distances["ks"],
        jsd=distances["jsd"],
        p_value=p_value,
        alarm_psi=column.alarm_psi,
        mean=seen.mean,
        mean_change=change,
    )


def _effect(distances: Mapping[str, float], rows: int, policy: DriftPolicy) -> int:
    """The worst level that any distance reaches."""
    ks_low, ks_high = policy.ks if rows >= policy.ks_rows else (policy.ks[1], policy.ks[1])
    return max(
        _level(distances["psi"], policy.psi),
        _level(distances["ks"], (ks_low, ks_high)),
        _level(distances["jsd"], policy.jsd),
    )


def _level(value: float, thresholds: tuple[float, float]) -> int:
    return sum(value > threshold for threshold in thresholds)


def _with_mean_change(found: FeatureDrift, column: ColumnProfile, seen: Observed, policy: DriftPolicy) -> FeatureDrift:
    """Raise the severity of the predictions when their mean moved by more than chance and more than ordinary."""
    if found.severity == "insufficient_data":
        return found
    reference = sum(column.counts)
    error = column.sd * float(np.sqrt(1 / max(1, seen.finite) + 1 / max(1, reference)))
    z = (seen.mean - column.mean) / error if error > 0 else 0.0
    evident = normal_tail(z) < policy.alpha and abs(found.mean_change) > column.alarm_change
    level = _level(abs(found.mean_change), policy.change) if evident else 0
    worst = max(level, LEVELS.index(found.severity))
    return msgspec.structs.replace(found, severity=LEVELS[worst])


class ColumnDrift(msgspec.Struct, frozen=True):
    """How one column of a data frame differs from the same column of another."""

    column: str
    kind: str
    """``number`` or ``category``."""
    severity: str
    """``insufficient_data``, ``ok``, ``warning`` or ``critical``."""
    reference_rows: int
    rows: int
    psi: float
    """Corrected for sample size, on at most 10 groups of bins."""
    kl: float
    """KL(reference || current) in nats, on all bins."""
    jsd: float
    """Distance, base 2, on all bins."""
    tvd: float
    ks: float
    """Exact statistic of numbers; 0 for categories."""
    ks_p_value: float
    chi_squared: float
    chi_squared_p_value: float
    missing: float
    """Share of the current column."""
    unseen: float
    """Share of the current column with values that the reference never had."""
    reference_mean: float
    mean: float


def compare_frames(
    reference: object,
    current: object,
    *,
    policy: DriftPolicy = DriftPolicy(),
    bins: Mapping[str, Bins] | None = None,
) -> dict[str, ColumnDrift]:
    """Drift between two data frames, column by column, without a project.

    Bins are quantiles of the reference, so a single wild value changes nothing. There are no reference blocks here, so
    significance is that of independent rows: autocorrelated columns (rolling means, temperatures) alarm too often.
    Pass a :class:`~trimtab.datasets.profile.Profile` to :func:`compare` when the rows have times.

    Parameters
    ----------
    reference, current
        Anything with named columns of numbers or text: a mapping of arrays, a pandas, polars or Arrow table.
        Every column of the reference is compared; further columns of ``current`` are ignored.
    bins
        Frozen bins for some columns.

    Raises
    ------
    UnknownName
        When a column of the reference is absent from ``current``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> before = {"age": rng.normal(40, 9, 20_000), "plan": np.repeat(["a", "b"], 10_000)}
    >>> after = {"age": rng.normal(47, 9, 3_000), "plan": np.repeat(["a", "b"], 1_500)}
    >>> {name: found.severity for name, found in compare_frames(before, after).items()}
    {'age': 'critical', 'plan': 'ok'}
    """
    names = column_names(reference)
    absent = sorted(set(names) - set(column_names(current)))
    if absent:
        raise UnknownName("columns of the reference are absent from the current frame", got=", ".join(absent))
    frozen = bins or {}
    return {
        name: _compare_columns(
            name, (column_values(reference, name), column_values(current, name)), frozen.get(name), len(names), policy
        )
        for name in names
    }


def _compare_columns(
    name: str,
    values: tuple[NDArray[np.generic], NDArray[np.generic]],
    bins: Bins | None,
    columns: int,
    policy: DriftPolicy,
) -> ColumnDrift:
    old, new = values
    chosen = bins or fit_bins(old)
    if not chosen.ordered:
        mean = reference_mean = 0.0
        before, after, exact = chosen.count(old), chosen.count(new), None
    else:
        before, after, exact = chosen.count(old), chosen.count(new), ks(_floats(old), _floats(new))
        reference_mean, mean = _mean(_floats(old)), _mean(_floats(new))
    test = chi_squared(before, after)
    distances = {
        "psi": psi(chosen.coarse(before), chosen.coarse(after)),
        "ks": exact.statistic if exact else 0.0,
        "jsd": jsd(before, after),
    }
    p_value = min(test.p_value, exact.p_value if exact else 1.0)
    enough = len(new) >= policy.rows and len(old) >= policy.reference_rows
    # Two tests of a number are two chances for a false alarm.
    evident = p_value * columns * (2 if exact else 1) < policy.alpha
    level = _effect(distances, len(new), policy) if evident else 0
    return ColumnDrift(
        column=name,
        kind="number" if exact else "category",
        severity=LEVELS[level] if enough else "insufficient_data",
        reference_rows=len(old),
        rows=len(new),
        psi=distances["psi"],
        kl=kl(before, after),
        jsd=distances["jsd"],
        tvd=tvd(before, after),
        ks=distances["ks"],
        ks_p_value=exact.p_value if exact else 1.0,
        chi_squared=test.statistic,
        chi_squared_p_value=test.p_value,
        missing=float(after[-1]) / max(1, len(new)),
        unseen=float(after[-2]) / max(1, len(new)),
        reference_mean=reference_mean,
        mean=mean,
    )


def _floats(values: NDArray[np.generic]) -> NDArray[np.float64]:
    return values.astype("datetime64[us]").astype(np.float64) if values.dtype.kind == "M" else values.astype(np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    usable = values[np.isfinite(values)]
    return float(usable.mean()) if len(usable) else 0.0
