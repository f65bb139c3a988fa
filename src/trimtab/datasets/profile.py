"""The reference profile: what a model's training data looked like, and how much ordinary weeks of it differ.

It is made with the model, travels in its bundle and starts its monitors. Its bins are frozen per feature definition:
the profile of the next version takes over the bins of the last, so that counts add up across promotions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import DAY, WEEK, Micros
from trimtab.errors import InputError
from trimtab.stats.bins import Bins, fit_bins
from trimtab.stats.distances import psi
from trimtab.stats.tails import t_quantile

PREDICTION = "prediction"
"""The name under which predictions are binned; no feature may be called so."""
CONFIDENT = 0.9
"""A probability of at least this, or at most one minus this, counts as confident."""
FEATURE_LEVEL = 0.99
"""Level of the limit for one feature's ordinary blocks: with fifty features an alarm every other week, that informs."""
PREDICTION_LEVEL = 0.95
"""The same for the predictions, one monitor that may start a retraining: of 13 weeks a quarter 0.65 false alarms. The
gates judge what a needless retraining brings, so missing a real change costs more."""
_FEWEST_BLOCKS = 3
_BLOCK_ROWS = 200
_PSI_FLOOR = 0.005
_THREADS = 2


class ColumnProfile(msgspec.Struct, frozen=True):
    """The reference of one feature, or of the predictions."""

    bins: Bins
    counts: tuple[int, ...]
    """Of all reference rows, in the layout of ``bins``."""
    mean: float
    """Over rows that are neither missing nor infinite; 0 when there are none."""
    sd: float
    missing: float
    """Share of missing values."""
    alarm_psi: float
    """PSI (corrected) above which a block is not ordinary; 0 when there were too few blocks to say."""
    alarm_change: float
    """The same for the absolute relative change of the mean."""


class Profile(msgspec.Struct, frozen=True):
    """What is known about a version's data and its losses before it is served."""

    features: dict[str, ColumnProfile]
    prediction: ColumnProfile
    confident: float
    """Share of confident predictions (see :data:`CONFIDENT`); 0 for regression."""
    rows: int
    start: Micros
    end: Micros
    """Asked between these times."""
    block: Micros
    """Length of the reference blocks; a monitored window must be as long, or it is no fair comparison."""
    blocks: int
    """How many blocks the ordinary range was learned from. By ranks alone, m blocks support a false-alarm rate of
    ``1 / (m + 1)`` a window and feature, no less; what lies beyond rests on the log-normal tail (see
    :func:`ordinary_limit`). Fewer than three give no range at all."""
    weekly_losses: tuple[float, ...]
    """Mean loss of each reference week, in sample: good for the spread between weeks, too low for the level."""
    holdout_losses: tuple[float, ...]
    """Mean loss of each held-out day, out of sample, in order."""
    holdout_rows: tuple[int, ...]
    """Rows of each held-out day."""
    base_rate: float
    """Mean label over the reference."""
    format: int = 1

    @property
    def holdout_loss(self) -> float | None:
        """Mean loss over all held-out rows; None without a held-out tail."""
        rows = sum(self.holdout_rows)
        return (
            sum(loss * n for loss, n in zip(self.holdout_losses, self.holdout_rows, strict=True)) / rows
            if rows
            else None
        )

    def bins(self) -> dict[str, Bins]:
        """The frozen bins by feature, and those of the predictions, for the profile of the next version."""
        return {name: column.bins for name, column in self.features.items()} | {PREDICTION: self.prediction.bins}

    def to_json(self) -> bytes:
        # Features stay in the column order of the matrix, which is the order they are counted in.
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @staticmethod
    def from_json(data: bytes) -> Profile:
        return msgspec.json.decode(data, type=Profile)


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows that a version was trained on or held out from, with what it says about them.

    Attributes
    ----------
    values
        float32, shape (n, features).
    at
        int64 microseconds, shape (n,): when each row was asked.
    predictions, losses, labels
        float64, shape (n,); of several outputs the :func:`summary`, and of several numbers the mean label.
    """

    values: NDArray[np.float32]
    at: NDArray[np.int64]
    predictions: NDArray[np.float64]
    losses: NDArray[np.float64]
    labels: NDArray[np.float64]

    def __post_init__(self) -> None:
        lengths = {len(self.values), len(self.at), len(self.predictions), len(self.losses), len(self.labels)}
        if len(lengths) != 1 or self.values.ndim != 2:
            raise InputError("scored rows of unequal lengths", got=f"{sorted(lengths)}, values {self.values.shape}")

    def __len__(self) -> int:
        return len(self.at)


def build_profile(
    names: Sequence[str],
    reference: ScoredRows,
    *,
    holdout: ScoredRows | None = None,
    bins: Mapping[str, Bins] | None = None,
    task: str = "binary",
    block: Micros = WEEK,
) -> Profile:
    """Describe the data that a version was trained on.

    Parameters
    ----------
    names
        The features, in the column order of ``reference.values``.
    reference
        The training rows.
    holdout
        The tail after them, never trained on; only its losses are used.
    bins
        Bins of an earlier profile (:meth:`Profile.bins`): features named there keep them, others get new ones.
    task
        The kind of the task; the predictions are its :func:`summary`.
    block
        Length of the blocks whose ordinary drift is learned; the length of the monitored window.

    Raises
    ------
    InputError
        When there are no rows, or names do not fit the values.
    """
    if not len(reference):
        raise InputError("no rows to profile", hint="the training window holds no labelled request")
    if len(names) != reference.values.shape[1] or PREDICTION in names:
        raise InputError(
            "feature names do not fit the values",
            got=f"{len(names)} names, {reference.values.shape[1]} columns",
            hint=f'one name per column, and none called "{PREDICTION}"',
        )
    frozen = bins or {}
    blocks = _blocks(reference.at, block)
    days = _by_span(holdout.at, holdout.losses, DAY) if holdout is not None and len(holdout) else []
    return Profile(
        features=_profile_columns(names, reference.values, blocks, bins=frozen),
        prediction=profile_column(reference.predictions, blocks, bins=frozen.get(PREDICTION), level=PREDICTION_LEVEL),
        confident=float(confident(reference.predictions, task=task).mean()),
        rows=len(reference),
        start=int(reference.at.min()),
        end=int(reference.at.max()),
        block=block,
        blocks=len(blocks),
        weekly_losses=tuple(float(reference.losses[rows].mean()) for rows in _blocks(reference.at, WEEK)),
        holdout_losses=tuple(mean for mean, _ in days),
        holdout_rows=tuple(rows for _, rows in days),
        base_rate=float(reference.labels.mean()),
    )


def _profile_columns(
    names: Sequence[str],
    values: NDArray[np.float32],
    blocks: Sequence[NDArray[np.intp] | slice],
    *,
    bins: Mapping[str, Bins],
) -> dict[str, ColumnProfile]:
    def column(place: int) -> ColumnProfile:
        # In one piece: a column of a matrix of rows is read at one value per cache line, and it is read several times.
        return profile_column(np.ascontiguousarray(values[:, place]), blocks, bins=bins.get(names[place]))

    # Most of the time goes into NumPy's searches, which run side by side.
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(names, threads.map(column, range(len(names))), strict=True))


def profile_column(
    values: NDArray[np.generic],
    blocks: Sequence[NDArray[np.intp] | slice],
    *,
    bins: Bins | None = None,
    level: float = FEATURE_LEVEL,
) -> ColumnProfile:
    """The reference of one column of numbers, and what its blocks show against all other rows.

    Parameters
    ----------
    values
        Shape (n,).
    blocks
        Row positions of each block; blocks may leave rows out.
    bins
        Frozen bins; None fits new ones to ``values``.
    level
        Of the limits of what is ordinary, together (see :func:`ordinary_limit`).
    """
    chosen = bins or fit_bins(values)
    placed = chosen.place(values)
    counts = np.bincount(placed, minlength=chosen.width)
    numbers = np.asarray(values, dtype=np.float64)
    good = np.isfinite(numbers)
    usable = numbers[good]
    mean, sd = (float(usable.mean()), float(usable.std())) if len(usable) else (0.0, 0.0)
    # A block is out of the ordinary by its bins or by its mean: two chances, so each gets half of the false alarms.
    each = 1 - (1 - level) / 2
    drifts, changes = [], []
    for rows in blocks:
        part = np.bincount(placed[rows], minlength=chosen.width)
        drifts.append(psi(chosen.coarse(counts - part), chosen.coarse(part)))
        inside = numbers[rows][good[rows]]
        changes.append(abs(relative_change(mean, float(inside.mean()), sd)) if len(inside) else 0.0)
    return ColumnProfile(
        bins=chosen,
        counts=tuple(counts.tolist()),
        mean=mean,
        sd=sd,
        missing=float(counts[-1]) / max(1, len(values)),
        alarm_psi=ordinary_limit(drifts, level=each),
        alarm_change=ordinary_limit(changes, level=each),
    )


def ordinary_limit(values: Sequence[float], *, level: float = FEATURE_LEVEL) -> float:
    """What a further block should stay below, if it is like these: never less than the largest of them.

    The largest of m values is passed by the next one with chance ``1 / (m + 1)``, however they are distributed; with
    the 8 weeks of a usual training window that is an alarm every ninth week. To promise ``1 - level`` instead, the
    limit is the upper prediction limit of a log-normal, ``exp(mean + t(level, m - 1) · sd · sqrt(1 + 1 / m))``,
    wherever that is larger: the t quantile is the small-number correction (2.4 for many blocks, 3.0 for 8, 7.0 for 3).
    It is never more than twice the largest: where blocks differ by orders of magnitude the tail runs off beyond what
    PSI can reach and would make the monitor blind; the false-alarm rate then lies between ``1 - level`` and
    ``1 / (m + 1)``.
    Fewer than 3 values give 0: nothing is known about ordinary blocks.

    Examples
    --------
    >>> ordinary_limit([0.1, 0.2])
    0.0
    >>> round(ordinary_limit([0.1] * 8), 6)
    0.1
    """
    if len(values) < _FEWEST_BLOCKS:
        return 0.0
    # Corrected PSI is often exactly 0; a logarithm needs a floor, below any level that is ever acted on.
    logs = np.log(np.maximum(np.asarray(values, dtype=np.float64), _PSI_FLOOR))
    spread = float(logs.std(ddof=1)) * math.sqrt(1 + 1 / len(logs))
    log_limit = float(logs.mean()) + t_quantile(level, len(logs) - 1) * spread
    largest = max(values)
    return max(largest, min(math.exp(min(700.0, log_limit)), 2 * max(largest, _PSI_FLOOR)))


def relative_change(reference: float, current: float, sd: float) -> float:
    """Change of a mean relative to the reference mean; to the sd, when the mean is nearly 0 (below a tenth of the sd).

    Examples
    --------
    >>> round(relative_change(0.2, 0.22, 0.4), 6)
    0.1
    """
    scale = abs(reference) if abs(reference) >= 0.1 * sd else sd
    return (current - reference) / scale if scale > 0 else 0.0


def summary(task: str, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number per row for the monitor of predictions, shape (n,), of outputs of shape (n,) or (n, k).

    Of class probabilities the position of the most probable class plus its probability: the bins of that number see
    both the shares of the classes and how sure the model is. Of several numbers their mean.

    Examples
    --------
    >>> summary("multiclass", np.array([[0.2, 0.8], [0.75, 0.25]])).tolist()
    [1.8, 0.75]
    """
    if outputs.ndim == 1:
        return outputs
    found: NDArray[np.float64] = outputs.mean(axis=1) if task == "regression" else outputs.max(axis=1)
    return found if task == "regression" else found + outputs.argmax(axis=1)


def confident(predictions: NDArray[np.float64], *, task: str = "binary") -> NDArray[np.bool_]:
    """Which probabilities are at least :data:`CONFIDENT`, or at most one minus that; of classes, by :func:`summary`.

    Examples
    --------
    >>> confident(np.array([1.95, 1.0, 0.6]), task="multiclass").tolist()
    [True, True, False]
    """
    if task == "regression":
        return np.zeros(len(predictions), np.bool_)
    likely = predictions if task == "binary" else predictions - np.ceil(predictions) + 1
    # Classes by their largest probability alone: one of many may well be at most a tenth.
    sure: NDArray[np.bool_] = (np.abs(likely - 0.5) if task == "binary" else likely - 0.5) >= CONFIDENT - 0.5
    return sure


def _blocks(at: NDArray[np.int64], length: Micros) -> list[NDArray[np.intp] | slice]:
    """Row positions of each whole block of UTC days, back from the last day; those of under 200 rows are left out."""
    end, start = (int(at.max()) // DAY + 1) * DAY, int(at.min()) // DAY * DAY
    number = (end - 1 - at) // length
    whole = (end - start) // length or 1
    parts = [np.flatnonzero(number == block) for block in range(whole - 1, -1, -1)]
    return [_in_a_row(rows) for rows in parts if len(rows) >= _BLOCK_ROWS]


def _in_a_row(rows: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """Positions without a gap as a slice, which copies nothing: those of a block, where rows are in order of time."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _by_span(at: NDArray[np.int64], values: NDArray[np.float64], length: Micros) -> list[tuple[float, int]]:
    spans, place = np.unique(at // length, return_inverse=True)
    rows = np.bincount(place, minlength=len(spans))
    sums = np.bincount(place, weights=values, minlength=len(spans))
    return [(float(total / n), int(n)) for total, n in zip(sums, rows, strict=True)]
