"""Parity: were the features that were served the features that training would compute?

A sample of served rows is recomputed offline, at the watermark each was read at, and compared value by value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.onrequest import LoadedModule
from trimtab.features.plan import LatestPart, ModulePart, Plan, WindowPart

_EXAMPLES = 5
_WORST = 10


@dataclass(frozen=True, slots=True)
class ParityExample:
    """One value that differs. It names the request by its id, never by its entity keys."""

    id: str
    feature: str
    served: float
    recomputed: float


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How served features compare with recomputed ones."""

    rows: int
    values: int
    """Values compared: rows times features."""
    mismatched: int
    """Both are numbers, and they differ by more than is allowed."""
    missing: int
    """Served as NaN, recomputed as a number."""
    extra: int
    """Served as a number, recomputed as NaN."""
    worst: float
    """Greatest relative difference where both are numbers, ``|served - recomputed| / max(|served|, |recomputed|)``."""
    features: Mapping[str, int]
    """Values that differ in any way, by feature: the worst ten, worst first."""
    examples: tuple[ParityExample, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.mismatched + self.missing + self.extra == 0


def check(
    plan: Plan,
    histories: Mapping[str, History],
    modules: Mapping[str, LoadedModule],
    *,
    ids: Sequence[str],
    requests: RequestBatch,
    served: NDArray[np.float32],
    watermarks: Mapping[str, NDArray[np.int64]] | None,
    trust_time: bool = False,
) -> ParityReport:
    """Recompute served features offline and compare.

    Counts, latest values, minima, maxima, and sums and means of integers must be equal as float32. Only float32 is
    recorded, so the bound of 1e-9 on sums and means of floats (held before the cast, and tested there) shows as at most
    one unit in the last place of float32: the cast may round two such neighbours apart. The same slack is given to
    on-request code, whose vector instructions may differ with the size of a batch.

    Parameters
    ----------
    ids
        Request ids of the served rows, for examples; shape (n,).
    requests
        What was asked, shape (n,).
    served
        What was served, float32 of shape (n, features) in plan order.
    watermarks
        By source, the ``seq`` each row was read at, shape (n,). None recomputes as training does, from the time of
        asking, which agrees where events were applied as they became known.
    trust_time
        Recompute with the leak of :func:`trimtab.features.history.point_in_time`, to show that this check finds it.

    Raises
    ------
    InputError
        When ``served`` is not of that shape, or a watermark lies past the end of its history.
    """
    names = plan.names()
    if served.shape != (len(requests), len(names)) or len(ids) != len(requests):
        raise InputError(
            "served features are not one row per request and one column per feature",
            got=f"{served.shape} for {len(requests)} requests, {len(ids)} ids and {len(names)} features",
        )
    recomputed = point_in_time(plan, histories, requests, modules, watermarks=watermarks, trust_time=trust_time)
    return _compare(names, ids, served, recomputed, slack=_slack(plan))


def relevant(
    plan: Plan, histories: Mapping[str, History], requests: RequestBatch, watermarks: Mapping[str, NDArray[np.int64]]
) -> tuple[dict[str, History], dict[str, NDArray[np.int64]]]:
    """The rows that can count for some requests, and the same watermarks among these: for a few out of a long history.

    :func:`check` gives the same report on either. Kept are the rows of the keys asked for, and of each request the last
    row that had been applied, which says as of when it was answered.

    Raises
    ------
    InputError
        When a watermark lies past the end of its history.
    """
    cut, marks = dict(histories), dict(watermarks)
    for name in plan.sources():
        history, limits = histories[name], np.asarray(watermarks[name], np.int64)
        if bool(((limits < 0) | (limits > len(history))).any()):
            raise InputError(f"a watermark lies outside the history of {name!r}", got=f"{int(limits.max())}")
        kept = np.zeros(len(history), bool)
        kept[limits[limits > 0] - 1] = True
        for part in plan.parts:
            if not isinstance(part, ModulePart) and part.source == name:
                own = np.ones(len(history), bool)
                for key in (part.entity,) if isinstance(part, WindowPart) else part.keys:
                    column, asked = history.columns[key], np.unique(requests.keys[key])
                    if column.dtype.kind == asked.dtype.kind:
                        own &= np.isin(column, asked)
                kept |= own
        places = np.flatnonzero(kept)
        cut[name] = history.at(places)
        marks[name] = places.searchsorted(limits, side="left").astype(np.int64)
    return cut, marks


def _compare(
    names: Sequence[str],
    ids: Sequence[str],
    served: NDArray[np.float32],
    recomputed: NDArray[np.float32],
    *,
    slack: NDArray[np.int64],
) -> ParityReport:
    missing = np.isnan(served) & ~np.isnan(recomputed)
    extra = ~np.isnan(served) & np.isnan(recomputed)
    mismatched = _differ(served, recomputed, slack)
    wrong = missing | extra | mismatched
    counts = wrong.sum(axis=0)
    order = [int(place) for place in np.argsort(-counts, kind="stable")[:_WORST] if counts[place]]
    examples = tuple(
        ParityExample(ids[row], names[column], float(served[row, column]), float(recomputed[row, column]))
        for row, column in np.argwhere(wrong)[:_EXAMPLES].tolist()
    )
    return ParityReport(
        rows=len(ids),
        values=served.size,
        mismatched=int(mismatched.sum()),
        missing=int(missing.sum()),
        extra=int(extra.sum()),
        worst=_worst(served, recomputed),
        features={names[place]: int(counts[place]) for place in order},
        examples=examples,
    )


def _slack(plan: Plan) -> NDArray[np.int64]:
    """The units in the last place by which each feature may differ, shape (features,)."""
    slack: list[int] = []
    for part in plan.parts:
        match part:
            case WindowPart():
                floats = [
                    int(aggregation in ("sum", "mean") and kind == "float")
                    for (aggregation, _), kind in zip(part.aggregates, part.kinds, strict=True)
                ]
                slack += floats * len(part.over)
            case LatestPart():
                slack += [0] * len(part.columns)
            case ModulePart():
                slack += [1] * len(part.features)
    return np.array(slack, np.int64)


def _differ(
    served: NDArray[np.float32], recomputed: NDArray[np.float32], slack: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Where two numbers are further apart than so many units in the last place."""
    apart = np.abs(_ordinal(served) - _ordinal(recomputed))
    return np.asarray((apart > slack) & ~np.isnan(served) & ~np.isnan(recomputed), bool)


def _ordinal(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place of each float32 among all of them, so that neighbours differ by one and both zeros are equal."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _worst(served: NDArray[np.float32], recomputed: NDArray[np.float32]) -> float:
    both = np.isfinite(served) & np.isfinite(recomputed) & (served != recomputed)
    if not both.any():
        return 0.0
    one, other = served[both].astype(np.float64), recomputed[both].astype(np.float64)
    return float((np.abs(one - other) / np.maximum(np.abs(one), np.abs(other))).max())


def sample(ids: Sequence[str], share: float, salt: str) -> NDArray[np.int64]:
    """Which ids to check: a deterministic share of them, the same on every machine and in every order.

    Returns
    -------
    ndarray
        Ascending places in ``ids``.

    Examples
    --------
    >>> ids = [f"request-{i}" for i in range(1000)]
    >>> len(sample(ids, 0.1, "2013-03-04"))
    115
    """
    bound = share * 2.0**64
    chosen = [
        place
        for place, name in enumerate(ids)
        if int.from_bytes(hashlib.blake2b(f"{salt}\x1f{name}".encode(), digest_size=8).digest(), "little") < bound
    ]
    return np.array(chosen, np.int64)
