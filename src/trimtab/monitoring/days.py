"""Days of asking: what each version predicted, until the labels have matured and the day closes into blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.monitoring.blocks import SCORE_BINS, DayBlock, PairBlock
from trimtab.stats.metrics import losses, score_bins


class MaturedDay(NamedTuple):
    """A day of asking whose labels have all arrived or will be taken never to."""

    day: Micros
    """Start of the day (UTC)."""
    blocks: tuple[DayBlock, ...]
    pairs: tuple[PairBlock, ...]


Truth = float | tuple[float, ...]
"""A label: a number, or one for each output of a model that gives several."""


def rows_of_bytes(packed: bytes, width: int) -> NDArray[np.float64]:
    """Outputs as they were before :meth:`numpy.ndarray.tobytes`: shape (n,) for one number a row, else (n, width)."""
    found = np.frombuffer(packed)
    return found if width == 1 else found.reshape(-1, width)


class Labels:
    """Labels by request id, as they became known; kept until the day of their request closes.

    Parameters
    ----------
    numbers
        How many a label holds; of several, a NaN in one is a NaN in all.
    """

    def __init__(self, *, numbers: int = 1) -> None:
        self.reports: dict[str, tuple[tuple[Micros, Truth], ...]] = {}
        self._numbers = numbers

    def add(self, ids: Sequence[str], values: Sequence[float | list[float]], known: Sequence[Micros]) -> None:
        """Take labels in; a report that was seen before changes nothing, a NaN is no label."""
        reports = self.reports
        for request, given, when in zip(ids, values, known, strict=True):
            value: Truth = tuple(given) if isinstance(given, list) else given
            first = value[0] if isinstance(value, tuple) else value
            if first != first:  # noqa: PLR0124 - NaN is the one value unlike itself
                continue
            report = (when, value)
            earlier = reports.get(request)
            if earlier is None:
                reports[request] = (report,)
            elif report not in earlier:
                reports[request] = (*earlier, report)

    def within(self, ids: Sequence[str], until: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each request the last value known by its horizon, NaN where there is none; later corrections are lost.

        Of two values known at one instant the larger counts, so that the order of arrival does not matter.
        """
        found = np.full(len(ids) if self._numbers == 1 else (len(ids), self._numbers), np.nan)
        for place, (reports, horizon) in enumerate(zip(map(self.reports.get, ids), until.tolist(), strict=True)):
            in_time = [report for report in reports or () if report[0] <= horizon]
            if in_time:
                found[place] = max(in_time)[1]
        return found

    def forget(self, ids: Sequence[str], *, before: Micros) -> None:
        """Drop the labels of these requests, and those known before ``before`` of requests never seen."""
        for request in ids:
            self.reports.pop(request, None)
        stale = [request for request, reports in self.reports.items() if reports[-1][0] < before]
        for request in stale:
            del self.reports[request]


@dataclass
class VersionDay:
    """What one version predicted for the requests of one day; each request once."""

    ids: dict[str, int] = field(default_factory=dict)
    """In order, each with its stamp (see :mod:`trimtab.monitoring.units`); 0 where no step counts it."""
    at: list[NDArray[np.int64]] = field(default_factory=list)
    outputs: list[NDArray[np.float64]] = field(default_factory=list)
    runs: list[tuple[str, str, int]] = field(default_factory=list)
    """``(arm, rollout, rows)``, in order."""

    def add(
        self,
        ids: Sequence[str],
        at: NDArray[np.int64],
        outputs: NDArray[np.float64],
        *,
        arm: str,
        rollout: str,
        stamps: int | Sequence[int] = 0,
    ) -> NDArray[np.bool_] | None:
        """Add rows; returns which of them were new, or None when all were."""
        fresh = dict.fromkeys(ids, stamps) if isinstance(stamps, int) else dict(zip(ids, stamps, strict=True))
        mask = None
        if len(fresh) < len(ids) or not self.ids.keys().isdisjoint(fresh):
            mask = np.zeros(len(ids), dtype=np.bool_)
            for place, request in enumerate(ids):
                mask[place] = request not in self.ids
                self.ids.setdefault(request, fresh[request])
            at, outputs = at[mask], outputs[mask]
        else:
            self.ids |= fresh
        if len(at):
            self.at.append(at)
            self.outputs.append(outputs)
            self.runs.append((arm, rollout, len(at)))
        return mask


class _Scored(NamedTuple):
    """One version's day as columns, in the order of ids, so that sums do not depend on the order of arrival."""

    ids: NDArray[np.str_]
    outputs: NDArray[np.float64]
    labels: NDArray[np.float64]
    losses: NDArray[np.float64]
    arms: NDArray[np.str_]
    rollouts: NDArray[np.str_]


def close_day(
    day: Micros,
    versions: Mapping[str, VersionDay],
    labels: Labels,
    *,
    loss: str,
    task: str,
    matures: Micros,
    champions: Mapping[str, str],
) -> MaturedDay:
    """Turn a day into blocks.

    Parameters
    ----------
    champions
        The champion of each rollout; every other version that scored requests under it is paired with that one.
    """
    scored = {version: _columns(rows, labels, loss, matures) for version, rows in sorted(versions.items())}
    blocks = tuple(_block(version, day, rows, task=task) for version, rows in scored.items())
    pairs = []
    for rollout, champion in sorted(champions.items()):
        if champion not in scored:
            continue
        for version, rows in scored.items():
            if version != champion:
                pairs.append(_pair(rollout, day, (champion, scored[champion]), (version, rows)))
    return MaturedDay(day, blocks, tuple(pair for pair in pairs if pair.rows))


def _columns(rows: VersionDay, labels: Labels, loss: str, matures: Micros) -> _Scored:
    ids = list(rows.ids)
    outputs = np.concatenate(rows.outputs) if rows.outputs else np.zeros(0)
    at = np.concatenate(rows.at) if rows.at else np.zeros(0, dtype=np.int64)
    counts = [count for _, _, count in rows.runs]
    truth = labels.within(ids, at + matures)
    names = np.array(ids, dtype=np.str_)
    order = np.argsort(names)
    lost = np.full(len(ids), np.nan)
    has = ~np.isnan(truth if truth.ndim == 1 else truth[:, 0])
    lost[has] = losses(loss, truth[has], outputs[has])
    return _Scored(
        names[order],
        outputs[order],
        truth[order],
        lost[order],
        np.repeat(np.array([arm for arm, _, _ in rows.runs], dtype=np.str_), counts)[order],
        np.repeat(np.array([rollout for _, rollout, _ in rows.runs], dtype=np.str_), counts)[order],
    )


def _block(version: str, day: Micros, rows: _Scored, *, task: str) -> DayBlock:
    has = ~np.isnan(rows.losses)
    truth, said = rows.labels[has], rows.outputs[has]
    positives: tuple[int, ...] = ()
    negatives: tuple[int, ...] = ()
    if task == "binary":
        place = score_bins(said, SCORE_BINS)
        positives = tuple(np.bincount(place[truth >= 0.5], minlength=SCORE_BINS).tolist())
        negatives = tuple(np.bincount(place[truth < 0.5], minlength=SCORE_BINS).tolist())
    return DayBlock(
        version=version,
        day=day,
        answered=len(rows.ids),
        labelled=int(has.sum()),
        loss=float(rows.losses[has].sum()),
        label=float((truth if truth.ndim == 1 else truth.mean(axis=1)).sum()),
        prediction=float((said if said.ndim == 1 else _comparable(said, task)).sum()),
        positives=positives,
        negatives=negatives,
    )


def _comparable(said: NDArray[np.float64], task: str) -> NDArray[np.float64]:
    """Of several outputs, what can be set beside the label: the class expected on average, or the mean number."""
    return said @ np.arange(said.shape[1]) if task == "multiclass" else said.mean(axis=1)


def _pair(rollout: str, day: Micros, champion: tuple[str, _Scored], challenger: tuple[str, _Scored]) -> PairBlock:
    ours, theirs = champion[1], challenger[1]
    mine = np.flatnonzero((ours.rollouts == rollout) & ~np.isnan(ours.losses))
    its = np.flatnonzero((theirs.rollouts == rollout) & ~np.isnan(theirs.losses))
    _, left, right = np.intersect1d(ours.ids[mine], theirs.ids[its], assume_unique=True, return_indices=True)
    gains = ours.losses[mine[left]] - theirs.losses[its[right]]
    return PairBlock(
        rollout=rollout,
        champion=champion[0],
        challenger=challenger[0],
        day=day,
        rows=len(gains),
        gain=float(gains.sum()),
        canary_rows=int((theirs.arms[its[right]] == "canary").sum()),
    )
