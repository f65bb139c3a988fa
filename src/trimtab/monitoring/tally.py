"""Daily counts of feature values and predictions: what drift windows are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import DAY, Micros
from trimtab.datasets.profile import PREDICTION, Profile, confident, summary
from trimtab.monitoring.drift import Observed, Window
from trimtab.stats.bins import Bins, BinSet


@dataclass
class Tally:
    """Counts and sums of some columns over one day; tallies of equal layout add up."""

    counts: NDArray[np.int64]
    totals: NDArray[np.float64]
    finite: NDArray[np.int64]
    confident: int = 0

    def add(self, other: Tally) -> None:
        self.counts = self.counts + other.counts
        self.totals = self.totals + other.totals
        self.finite = self.finite + other.finite
        self.confident += other.confident


class Tallies:
    """Tallies by day: of feature values by layout of bins, of predictions by version.

    Two versions whose features have the same frozen bins share their counts, whichever of them answered.
    """

    def __init__(self, *, task: str) -> None:
        self.task = task
        self.profiles: dict[str, Profile] = {}
        self.layouts: dict[str, BinSet] = {}
        self.features: dict[tuple[Micros, str], Tally] = {}
        self.predictions: dict[tuple[Micros, str], Tally] = {}
        self._of_version: dict[str, BinSet] = {}

    def profile(self, version: str, profile: Profile) -> None:
        """Make a version's bins known; rows that were counted before are not counted again."""
        if version in self.profiles:
            return
        self.profiles[version] = profile
        bins = BinSet({name: column.bins for name, column in profile.features.items()})
        self._of_version[version] = self.layouts.setdefault(bins.id, bins)

    def add_features(self, version: str, day: Micros, values: NDArray[np.float32]) -> None:
        """Count feature values of requests that were answered, shape (n, features)."""
        bins = self._of_version.get(version)
        if bins is None or not len(values) or values.shape[1] == 0:
            return
        finite = np.isfinite(values)
        totals = np.where(finite, values, 0).sum(axis=0, dtype=np.float64)
        tally = Tally(bins.count(values), totals, finite.sum(axis=0, dtype=np.int64))
        _merge(self.features, (day, bins.id), tally)

    def add_predictions(self, version: str, day: Micros, outputs: NDArray[np.float64]) -> None:
        """Count predictions of a version, in any arm: it scores every request once, answered or in the shadow."""
        profile = self.profiles.get(version)
        if profile is None or not len(outputs):
            return
        said = summary(self.task, outputs)
        finite = np.isfinite(said)
        tally = Tally(
            profile.prediction.bins.count(said),
            np.array([said[finite].sum()]),
            np.array([finite.sum()], dtype=np.int64),
            int(confident(said[finite], task=self.task).sum()),
        )
        _merge(self.predictions, (day, version), tally)

    def window(self, version: str, start: Micros, end: Micros) -> Window:
        """What the features and the predictions of a version showed in ``[start, end)``, whole days."""
        profile = self.profiles[version]
        seen: dict[str, Observed] = {}
        for layout, bins in self.layouts.items():
            days = [day for day, key in self.features if key == layout]
            tallies = [self.features[day, layout] for day in sorted(days) if start <= day < end]
            if not tallies:
                continue
            whole = min(days) <= start
            for place, (name, offset) in enumerate(zip(bins.bins, bins.offsets.tolist(), strict=False)):
                wanted = profile.features.get(name)
                if wanted is not None and wanted.bins.id == bins.bins[name].id:
                    found = _observed(tallies, place, slice(offset, offset + wanted.bins.width), whole=whole)
                    seen[name] = _sum(seen[name], found) if name in seen else found
        days = [day for day, key in self.predictions if key == version]
        said = [self.predictions[day, version] for day in sorted(days) if start <= day < end]
        if not said:
            nothing = Observed(np.zeros(profile.prediction.bins.width, dtype=np.int64), 0.0, 0, whole=False)
            return Window(version, start, end, seen, nothing)
        prediction = _observed(said, 0, slice(None), whole=min(days) <= start)
        sure = sum(tally.confident for tally in said) / max(1, prediction.finite)
        return Window(version, start, end, seen, prediction, sure)

    def histograms(self, day: Micros) -> dict[str, NDArray[np.float64]]:
        """The count vectors of one day, by ``feature/<name>/<bins id>`` and ``prediction/<version>/<bins id>``."""
        found: dict[str, NDArray[np.float64]] = {}
        for (when, layout), tally in self.features.items():
            if when == day:
                bins = self.layouts[layout]
                for name, counts in bins.split(tally.counts).items():
                    cell = f"feature/{name}/{bins.bins[name].id}"
                    found[cell] = found.get(cell, 0.0) + counts.astype(np.float64)
        for (when, version), tally in self.predictions.items():
            if when == day:
                bins_id = self.prediction_bins(version).id
                found[f"{PREDICTION}/{version}/{bins_id}"] = tally.counts.astype(np.float64)
        return found

    def prediction_bins(self, version: str) -> Bins:
        return self.profiles[version].prediction.bins

    def forget(self, *, before: Micros) -> None:
        """Drop days that no window can reach any more."""
        for cells in (self.features, self.predictions):
            for key in [key for key in cells if key[0] < before]:
                del cells[key]


def day_of(at: Micros) -> Micros:
    """The start of the UTC day of an instant."""
    return at // DAY * DAY


def _merge(cells: dict[tuple[Micros, str], Tally], key: tuple[Micros, str], tally: Tally) -> None:
    held = cells.get(key)
    if held is None:
        cells[key] = tally
    else:
        held.add(tally)


def _observed(tallies: list[Tally], place: int, part: slice, *, whole: bool) -> Observed:
    counts = np.stack([tally.counts[part] for tally in tallies]).sum(axis=0)
    total = float(sum(tally.totals[place] for tally in tallies))
    return Observed(counts, total, int(sum(tally.finite[place] for tally in tallies)), whole)


def _sum(one: Observed, other: Observed) -> Observed:
    return Observed(
        one.counts + other.counts, one.total + other.total, one.finite + other.finite, one.whole or other.whole
    )


def tally_state(cells: Mapping[tuple[Micros, str], Tally]) -> list[tuple[Micros, str, bytes, bytes, bytes, int]]:
    """Tallies as plain data."""
    return [
        (day, key, t.counts.tobytes(), t.totals.tobytes(), t.finite.tobytes(), t.confident)
        for (day, key), t in cells.items()
    ]


def tally_restored(
    rows: list[tuple[Micros, str, bytes, bytes, bytes, int]],
) -> dict[tuple[Micros, str], Tally]:
    """Tallies back from plain data."""
    return {
        (day, key): Tally(
            np.frombuffer(counts, dtype=np.int64),
            np.frombuffer(totals, dtype=np.float64),
            np.frombuffer(finite, dtype=np.int64),
            sure,
        )
        for day, key, counts, totals, finite, sure in rows
    }
