"""What came of a replay: by month, by week and by champion, against the model that was never retrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import SECOND, WEEK, Micros
from trimtab.stats.metrics import evaluate, losses


@dataclass(frozen=True, slots=True)
class Scored:
    """The labelled, answered requests of a replay, in order of asking; all arrays of shape (n,)."""

    at: NDArray[np.int64]
    label: NDArray[np.float64]
    served: NDArray[np.float64]
    frozen: NDArray[np.float64]
    version: NDArray[np.int32]
    rows: NDArray[np.int64]
    """Their positions in the timeline."""


@dataclass(frozen=True, slots=True)
class Period:
    """One month or week: what was asked and labelled, and how both policies did."""

    start: Micros
    requests: int
    labelled: int
    label_mean: float
    """Base rate of a binary task, mean of a regression target."""
    served: Mapping[str, float]
    """Metrics of the answers that were given."""
    frozen: Mapping[str, float]
    """Metrics of the first champion on the same rows."""
    loss: float
    frozen_loss: float

    @property
    def lost(self) -> bool:
        """Whether retraining did worse than leaving the first model alone."""
        return self.loss > self.frozen_loss


def months(scored: Scored, asked_at: NDArray[np.int64], *, task: str, loss: str) -> list[Period]:
    """One row per calendar month (UTC) in which something was asked."""
    return _periods(scored, asked_at, _month_starts(asked_at), task=task, loss=loss)


def weeks(scored: Scored, asked_at: NDArray[np.int64], *, task: str, loss: str) -> list[Period]:
    """One row per week, counted from the first request."""
    first = int(asked_at[0]) // WEEK * WEEK
    starts = np.arange(first, int(asked_at[-1]) + 1, WEEK, dtype=np.int64)
    return _periods(scored, asked_at, starts, task=task, loss=loss)


def total(scored: Scored, asked_at: NDArray[np.int64], *, task: str, loss: str) -> Period:
    """The whole replay as one period."""
    return _periods(scored, asked_at, asked_at[:1], task=task, loss=loss)[0]


def calibration(
    label: NDArray[np.float64], prediction: NDArray[np.float64], bins: int = 15
) -> list[tuple[float, float, int]]:
    """Mean prediction, observed rate and rows in equally filled bins of the prediction."""
    order = np.argsort(prediction, kind="stable")
    return [
        (float(prediction[part].mean()), float(label[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]


def interval(at: NDArray[np.int64], gain: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of the mean with days as blocks (2000 draws)."""
    _, day = np.unique(at // (86_400 * SECOND), return_inverse=True)
    rows, sums = np.bincount(day).astype(float), np.bincount(day, gain)
    draws = np.random.default_rng(seed).integers(0, len(rows), (2000, len(rows)))
    low, high = np.quantile(sums[draws].sum(1) / rows[draws].sum(1), [0.025, 0.975])
    return float(low), float(high)


def _month_starts(at: NDArray[np.int64]) -> NDArray[np.int64]:
    first = datetime.fromtimestamp(int(at[0]) / SECOND, UTC)
    year, month, starts = first.year, first.month, []
    while (start := int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * SECOND) <= int(at[-1]):
        starts.append(start)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return np.array(starts, np.int64)


def _periods(
    scored: Scored, asked_at: NDArray[np.int64], starts: NDArray[np.int64], *, task: str, loss: str
) -> list[Period]:
    edges = np.append(starts, np.int64(2**62))
    asked = np.diff(np.searchsorted(asked_at, edges))
    place = np.searchsorted(scored.at, edges)
    periods = []
    for index, start in enumerate(starts):
        rows = slice(int(place[index]), int(place[index + 1]))
        label, served, frozen = scored.label[rows], scored.served[rows], scored.frozen[rows]
        if len(label) == 0:
            continue
        periods.append(
            Period(
                start=int(start),
                requests=int(asked[index]),
                labelled=len(label),
                label_mean=float(label.mean()),
                served=evaluate(task, label, served),
                frozen=evaluate(task, label, frozen),
                loss=float(losses(loss, label, served).mean()),
                frozen_loss=float(losses(loss, label, frozen).mean()),
            )
        )
    return periods
