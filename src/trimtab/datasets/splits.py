"""Which requests a training run may learn from, and which it is then judged on: by time, never at random.

::

    start                trained_until - matures    trained_until               cutoff - matures      cutoff
      |------ train rows -------|                         |---- holdout rows ----------|                 |
              asked here, label known by trained_until         asked here, label known by cutoff

Only *matured* requests are used: those old enough that their label has arrived or will be taken never to. The
labels of younger ones arrive in an order that depends on their value (a late parcel arrives later), so the
early ones are a biased sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import SECOND, Micros, duration_text, iso
from trimtab.errors import InputError, NotEnoughData
from trimtab.features.batch import RequestBatch

LEAST_ROWS = (100, 20)
"""Fewest rows to learn from, and to judge by."""


@dataclass(frozen=True, slots=True)
class LabelEvents:
    """Labels as they became known: n events.

    Attributes
    ----------
    ids
        The request each label is for, shape (n,).
    values
        float64 or bool, shape (n,), or (n, k) where a row has k numbers; NaN for none.
    known
        int64 microseconds, shape (n,).
    places
        Position of the request that each label is for, -1 for none; see :meth:`placed`.
    """

    ids: NDArray[np.str_]
    values: NDArray[np.generic]
    known: NDArray[np.int64]
    places: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not (len(self.ids) == len(self.values) == len(self.known)):
            raise InputError(
                "label events of unequal lengths", got=f"{len(self.ids)}, {len(self.values)}, {len(self.known)}"
            )

    def placed(self, requests: RequestBatch) -> LabelEvents:
        """The same labels with the places of their requests; no work when these are known already.

        Examples
        --------
        >>> asked = RequestBatch(["a", "b"], np.array([1, 2]), {}, {})
        >>> LabelEvents(np.array(["b", "z"]), np.ones(2), np.array([3, 4])).placed(asked).places.tolist()
        [1, -1]
        """
        if self.places is not None:
            return self
        rows = {str(request): row for row, request in enumerate(requests.ids)}
        found = [rows.get(request, -1) for request in np.asarray(self.ids).tolist()]
        return replace(self, places=np.array(found, np.int64))


@dataclass(frozen=True, slots=True)
class Split:
    """A time-ordered split of the labelled, matured requests.

    ``train`` and ``holdout`` are positions in the request batch, ascending by time of asking; ``train_y`` and
    ``holdout_y`` their labels as float64. No training row was asked, and no training label known, after
    ``trained_until``; every holdout row was asked after it.
    """

    start: Micros
    trained_until: Micros
    cutoff: Micros
    matures: Micros
    train: NDArray[np.int64]
    train_y: NDArray[np.float64]
    holdout: NDArray[np.int64]
    holdout_y: NDArray[np.float64]


def split_by_time(
    requests: RequestBatch,
    labels: LabelEvents,
    *,
    cutoff: Micros,
    matures: Micros,
    holdout: Micros,
    span: Micros | None = None,
    classes: int = 0,
    least: tuple[int, int] = LEAST_ROWS,
) -> Split:
    """Split matured, labelled requests into a training part and a held-out tail after it.

    Parameters
    ----------
    requests
        Every request known, in any order.
    labels
        Of several for one request the last one known by the boundary counts.
    cutoff
        The time at which training was decided; nothing known later is used.
    matures
        Age at which a request has its label or is taken never to get one.
    holdout
        Length of the held-out tail; 0 for none.
    span
        Learn only from requests asked in the last ``span`` before the cutoff; None for all.
    classes
        Distinct labels that both parts must hold: 2 for a binary task, 0 when it does not matter.
    least
        Fewest rows of the two parts.

    Raises
    ------
    NotEnoughData
        When a part has too few rows or classes.

    Examples
    --------
    >>> at = np.arange(10, dtype=np.int64)
    >>> ids = at.astype(str)
    >>> asked = RequestBatch(ids, at, {}, {})
    >>> known = LabelEvents(ids, at % 2 == 0, at + 1)
    >>> split = split_by_time(asked, known, cutoff=10, matures=1, holdout=4, least=(1, 1))
    >>> split.trained_until, split.train.tolist(), split.holdout.tolist()
    (5, [0, 1, 2, 3, 4], [6, 7, 8, 9])
    """
    trained_until = cutoff - matures - holdout
    start = _first(requests) if span is None else cutoff - span
    at = np.asarray(requests.at, np.int64)
    learned = (at >= start) & (at <= trained_until - matures)
    judged = (at >= start) & (at > trained_until) & (at <= cutoff - matures)
    train, train_y = _labelled(requests, learned, labels, known_by=trained_until)
    held, held_y = _labelled(requests, judged, labels, known_by=cutoff)
    split = Split(start, trained_until, cutoff, matures, train, train_y, held, held_y)
    asked_last = int(at.max()) if len(at) else cutoff
    _check_part("training", train_y, split, least=least[0], classes=classes, asked_last=asked_last)
    if holdout:
        _check_part("held-out", held_y, split, least=least[1], classes=classes, asked_last=asked_last)
    return split


def _first(requests: RequestBatch) -> Micros:
    return int(np.min(requests.at)) if len(requests) else 0


def _labelled(
    requests: RequestBatch, mask: NDArray[np.bool_], labels: LabelEvents, *, known_by: Micros
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions of the masked requests that have a label known by then, by time of asking, and those labels."""
    y = _labels_by(labels, requests, known_by=known_by)
    rows = np.flatnonzero(mask & ~np.isnan(y if y.ndim == 1 else y[:, 0]))
    rows = rows[np.argsort(np.asarray(requests.at)[rows], kind="stable")]
    return rows.astype(np.int64), y[rows]


def _labels_by(labels: LabelEvents, requests: RequestBatch, *, known_by: Micros) -> NDArray[np.float64]:
    """The label of each request as known by then, shape (n,) or (n, k); NaN for none."""
    known, places = np.asarray(labels.known, np.int64), labels.placed(requests).places
    assert places is not None
    usable = np.flatnonzero((known <= known_by) & (places >= 0))
    if bool((known[1:] < known[:-1]).any()):
        usable = usable[np.argsort(known[usable], kind="stable")]
    y = np.full((len(requests), *np.shape(labels.values)[1:]), np.nan)
    y[places[usable]] = np.asarray(labels.values)[usable].astype(np.float64)  # of several the last one stays
    return y


def _check_part(
    part: str, y: NDArray[np.float64], split: Split, *, least: int, classes: int, asked_last: Micros
) -> None:
    seen = len(np.unique(y)) if classes else 0
    if len(y) >= max(least, 1) and seen >= classes:
        return
    matured = -(-(asked_last + split.matures) // SECOND) * SECOND
    # Where the requests ended long ago, waiting brings nothing: the time to train as of is when the last one matured.
    ended = (
        f"the last request is of {iso(asked_last)}: train as of then, `trimtab train MODEL --cutoff {iso(matured)}`; "
        if matured < split.cutoff
        else ""
    )
    raise NotEnoughData(
        f"the history is too short for a {part} part",
        got=f"{len(y)} matured, labelled rows"
        + (f" of {seen} classes" if classes else "")
        + f" between {iso(split.start)} and {iso(split.cutoff)} (training ends at {iso(split.trained_until)})",
        hint=f"{ended}at least {least} rows{f' and {classes} classes' if classes else ''} are needed; wait for more "
        f"labels (they mature after {duration_text(split.matures)}), learn from a longer span, or keep less than "
        f"{duration_text(split.cutoff - split.matures - split.trained_until)} back",
    )
