"""How good predictions are: metrics of whole samples, losses of single rows, and metrics of score histograms.

Conventions, in one place:

- Probabilities are clipped to [1e-15, 1 - 1e-15] before a logarithm is taken.
- AUC counts ties as one half (midranks); of a sample with one class only it is NaN.
- ECE uses 15 bins of equal *count* (tied predictions may straddle two bins); equal-width bins would leave most bins
  of a rare class empty. From score histograms the bins are the histogram's own, of equal width.
- Accuracy and F1 decide at 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import InputError, UnknownName

Floats = NDArray[np.float64]

CLIP = 1e-15
ECE_BINS = 15


def log_losses(y: ArrayLike, prediction: ArrayLike) -> Floats:
    """Logarithmic loss of each row in nats; predictions are clipped at 1e-15.

    Predictions of shape (n, k) are the probabilities of k classes; ``y`` then holds the position of the true one.

    Examples
    --------
    >>> log_losses([1, 0], [0.5, 0.5]).round(4).tolist()
    [0.6931, 0.6931]
    """
    if np.ndim(prediction) == 2:
        place, rows = _classes(y, prediction)
        lost: Floats = -np.log(np.clip(rows[np.arange(len(place)), place], CLIP, 1 - CLIP))
        return lost
    truth, p = _pair(y, prediction)
    p = np.clip(p, CLIP, 1 - CLIP)
    return -(truth * np.log(p) + (1 - truth) * np.log1p(-p))


def squared_errors(y: ArrayLike, prediction: ArrayLike) -> Floats:
    """Squared error of each row; of shape (n, k), the mean over the k numbers of a row."""
    truth, predicted = _pair(y, prediction, several=True)
    return _each((truth - predicted) ** 2)


_LOSSES: dict[str, Callable[[ArrayLike, ArrayLike], Floats]] = {
    "log_loss": log_losses,
    "squared_error": squared_errors,
}


def losses(name: str, y: ArrayLike, prediction: ArrayLike) -> Floats:
    """The loss of each row, float64 of shape (n,), by the name of the loss.

    Raises
    ------
    UnknownName
        When the loss is neither ``log_loss`` nor ``squared_error``.

    Examples
    --------
    >>> losses("squared_error", [1.0, 2.0], [1.0, 4.0]).tolist()
    [0.0, 4.0]
    """
    found = _LOSSES.get(name)
    if found is None:
        raise UnknownName("no such loss", got=repr(name), hint=f"one of {', '.join(sorted(_LOSSES))}")
    return found(y, prediction)


def roc_auc(y: ArrayLike, score: ArrayLike) -> float:
    """The probability that a positive row scores above a negative one, ties counting one half (Mann-Whitney).

    NaN when only one class is present.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    truth, scores = _pair(y, score)
    positives = float(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2
    ranks = float(np.dot(midranks[place], truth))
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def log_loss(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean of :func:`log_losses`."""
    return _mean(log_losses(y, prediction))


def brier(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean squared error of a probability."""
    return _mean(squared_errors(y, prediction))


def ece(y: ArrayLike, prediction: ArrayLike, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error: mean over bins of equal count of |observed rate - mean prediction|, by their rows.

    Examples
    --------
    >>> ece([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], bins=1)
    0.0
    """
    truth, p = _pair(y, prediction)
    if not len(p):
        return float("nan")
    # Sorting by outcome within ties would invent miscalibration; rows of one prediction are averaged first.
    _, place = np.unique(p, return_inverse=True)
    totals = np.bincount(place)
    rate = (np.bincount(place, weights=truth) / totals)[place]
    order = np.argsort(p, kind="stable")
    gaps = [abs(float((rate[part] - p[part]).sum())) for part in np.array_split(order, bins) if len(part)]
    return float(sum(gaps)) / len(p)


def accuracy(y: ArrayLike, prediction: ArrayLike) -> float:
    """Share of rows that a threshold of 0.5 decides rightly."""
    truth, p = _pair(y, prediction)
    return _mean(((p >= 0.5) == (truth >= 0.5)).astype(np.float64))


def f1(y: ArrayLike, prediction: ArrayLike) -> float:
    """F1 of a threshold of 0.5; 0 when nothing is positive and nothing is called so."""
    truth, p = _pair(y, prediction)
    called, positive = p >= 0.5, truth >= 0.5
    both = int(called.sum()) + int(positive.sum())
    return 2 * int((called & positive).sum()) / both if both else 0.0


def rmse(y: ArrayLike, prediction: ArrayLike) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(_mean(squared_errors(y, prediction))))


def mae(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error."""
    truth, predicted = _pair(y, prediction, several=True)
    return _mean(_each(np.abs(truth - predicted)))


def r2(y: ArrayLike, prediction: ArrayLike) -> float:
    """Share of the variance that is explained, of several numbers their mean; NaN when the truth does not vary."""
    truth, predicted = _pair(y, prediction, several=True)
    if truth.ndim == 2:
        return float(np.mean([r2(truth[:, one], predicted[:, one]) for one in range(truth.shape[1])]))
    spread = float(((truth - truth.mean()) ** 2).sum()) if len(truth) else 0.0
    return 1 - float(((truth - predicted) ** 2).sum()) / spread if spread > 0 else float("nan")


def top_accuracy(y: ArrayLike, prediction: ArrayLike) -> float:
    """Share of rows whose most probable class is the true one."""
    truth, p = _classes(y, prediction)
    return _mean((p.argmax(axis=1) == truth).astype(np.float64))


def macro_f1(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over classes of the F1 of "this class is the most probable", over the classes that occur or are called."""
    truth, p = _classes(y, prediction)
    called = p.argmax(axis=1)
    size = p.shape[1]
    both = np.bincount(truth, minlength=size) + np.bincount(called, minlength=size)
    right = np.bincount(truth[called == truth], minlength=size)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def macro_auc(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over classes of the AUC of one class against the rest, over the classes that occur; NaN for one class.

    Examples
    --------
    >>> macro_auc([0, 1], [[0.9, 0.1], [0.2, 0.8]])
    1.0
    """
    truth, p = _classes(y, prediction)
    if len(np.unique(truth)) < 2:
        return float("nan")
    return float(np.mean([roc_auc(truth == one, p[:, one]) for one in np.unique(truth)]))


def multiclass_brier(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over rows of the sum over classes of squared errors (Brier 1950): 0 to 2."""
    truth, p = _classes(y, prediction)
    return _mean(((p - np.eye(p.shape[1])[truth]) ** 2).sum(axis=1))


def top_ece(y: ArrayLike, prediction: ArrayLike) -> float:
    """Calibration error of the largest probability: whether 0.8 is right four times in five (Guo et al. 2017)."""
    truth, p = _classes(y, prediction)
    return ece((p.argmax(axis=1) == truth).astype(np.float64), p.max(axis=1))


METRICS: Mapping[str, Mapping[str, Callable[[ArrayLike, ArrayLike], float]]] = {
    "binary": {"roc_auc": roc_auc, "log_loss": log_loss, "brier": brier, "ece": ece, "accuracy": accuracy, "f1": f1},
    "regression": {"squared_error": brier, "rmse": rmse, "mae": mae, "r2": r2},
    "multiclass": {
        "roc_auc": macro_auc,
        "log_loss": log_loss,
        "brier": multiclass_brier,
        "ece": top_ece,
        "accuracy": top_accuracy,
        "f1": macro_f1,
    },
}
"""By kind of task and name: what :func:`evaluate` computes."""


def evaluate(task_kind: str, y: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """All metrics of a task by name.

    Parameters
    ----------
    task_kind
        ``binary``: roc_auc, log_loss, brier, ece, accuracy, f1. ``regression``: squared_error, rmse, mae, r2.
        ``multiclass``: the names of binary; roc_auc and f1 are means over classes.
    y, prediction
        Shape (n,). Both (n, k) for a regression of k numbers; the prediction (n, k) for k classes.

    Raises
    ------
    UnknownName
        For another kind of task.
    InputError
        When there are no rows, or the lengths differ.

    Examples
    --------
    >>> evaluate("regression", [1.0, 3.0], [2.0, 2.0])["mae"]
    1.0
    """
    metrics = METRICS.get(task_kind)
    if metrics is None:
        raise UnknownName("no such kind of task", got=repr(task_kind), hint="binary, regression or multiclass")
    truth, predicted = np.asarray(y, np.float64), np.asarray(prediction, np.float64)
    if not len(truth):
        raise InputError("no rows to evaluate", hint="the evaluated span holds no labelled request")
    return {name: metric(truth, predicted) for name, metric in metrics.items()}


def score_bins(prediction: ArrayLike, bins: int) -> NDArray[np.int64]:
    """The histogram bin of each probability: equal width on [0, 1], the last one closed.

    Examples
    --------
    >>> score_bins([0.0, 0.019, 0.5, 1.0], 100).tolist()
    [0, 1, 50, 99]
    """
    scaled = np.asarray(prediction, dtype=np.float64) * bins
    return np.clip(np.floor(scaled + 1e-9), 0, bins - 1).astype(np.int64)


def evaluate_histograms(positives: ArrayLike, negatives: ArrayLike) -> dict[str, float]:
    """roc_auc, ece, accuracy, f1 and base_rate from score histograms of equal width on [0, 1].

    Predictions count as the middle of their bin: AUC treats a bin as tied (with 100 bins it is off by some 0.001),
    ECE is off by at most half a bin.

    Parameters
    ----------
    positives, negatives
        Rows by bin and by label, shape (bins,); histograms of several days are simply added.

    Examples
    --------
    >>> evaluate_histograms([0, 2], [2, 0])["roc_auc"]
    1.0
    """
    pos, neg = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    rows, hits, misses = float(pos.sum() + neg.sum()), float(pos.sum()), float(neg.sum())
    if rows == 0:
        raise InputError("no rows to evaluate", hint="the histograms are empty")
    below = np.cumsum(neg) - neg
    middle = (np.arange(len(pos)) + 0.5) / len(pos)
    called = middle >= 0.5
    right = float(pos[called].sum())
    either = hits + right + float(neg[called].sum())
    return {
        "roc_auc": float(np.dot(pos, below + neg / 2)) / (hits * misses) if hits and misses else float("nan"),
        "ece": float(np.abs(pos - middle * (pos + neg)).sum()) / rows,
        "accuracy": (right + float(neg[~called].sum())) / rows,
        "f1": 2 * right / either if either else 0.0,
        "base_rate": hits / rows,
    }


class Interval(NamedTuple):
    """An estimate with its confidence limits."""

    estimate: float
    low: float
    high: float


def ratio_of_sums(sums: Floats) -> Floats:
    """First column over second: a mean, from sums of values and of rows."""
    quotient: Floats = sums[..., 0] / sums[..., 1]
    return quotient


def block_bootstrap(
    blocks: ArrayLike,
    *,
    seed: int,
    statistic: Callable[[Floats], Floats] = ratio_of_sums,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """A percentile interval that resamples whole blocks, because rows of one block (a day) depend on each other.

    Parameters
    ----------
    blocks
        Sums per block, shape (blocks, k): for a mean, the sum of values and the number of rows.
    seed
        Of the resampling; the same seed gives the same interval.
    statistic
        From sums of shape (..., k) to values of shape (...).

    Raises
    ------
    InputError
        For fewer than two blocks: one block says nothing about how blocks differ.

    References
    ----------
    Davison and Hinkley, Bootstrap Methods and their Application, 1997, §2.4 and §3.8. With few blocks (< 15) percentile
    intervals are too narrow; tests belong to :mod:`trimtab.stats.betting`.

    Examples
    --------
    >>> block_bootstrap([[10.0, 10.0], [10.0, 10.0]], seed=1)
    Interval(estimate=1.0, low=1.0, high=1.0)
    """
    sums = np.asarray(blocks, dtype=np.float64)
    if sums.ndim != 2 or len(sums) < 2:
        raise InputError(
            "an interval needs sums of at least two blocks", got=f"shape {sums.shape}", hint="pass shape (blocks, k)"
        )
    weights = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    values = statistic(weights @ sums)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(sums.sum(axis=0))), float(low), float(high))


def _pair(y: ArrayLike, prediction: ArrayLike, *, several: bool = False) -> tuple[Floats, Floats]:
    truth, predicted = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim not in ((1, 2) if several else (1,)):
        raise InputError(
            "truth and prediction must be two columns of equal length", got=f"shapes {truth.shape}, {predicted.shape}"
        )
    return truth, predicted


def _classes(y: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    truth, p = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if p.ndim != 2 or truth.shape != (len(p),):
        raise InputError(
            "class probabilities need one row per label", got=f"shapes {truth.shape}, {p.shape}", hint="pass (n, k)"
        )
    whole = truth.astype(np.int64)
    if len(truth) and not (np.array_equal(whole, truth) and 0 <= whole.min() <= whole.max() < p.shape[1]):
        odd = truth[(whole != truth) | (whole < 0) | (whole >= p.shape[1])]
        raise InputError("a label is no class", got=f"{odd[0]:g}", hint=f"positions 0 to {p.shape[1] - 1}")
    return whole, p


def _each(values: Floats) -> Floats:
    """One number per row: of several, their mean."""
    found: Floats = values.mean(axis=1) if values.ndim == 2 else values
    return found


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
