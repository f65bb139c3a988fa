"""Features of requests that name their own time: read from history, behind the port that serving reads by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.onrequest import LoadedModule
from trimtab.features.plan import Plan


class HistoryReader:
    """Implements :class:`trimtab.serving.ports.FeatureReader` over histories instead of online rows.

    Each request is answered as of its own time of asking, with what was known then. No watermark is given, because the
    rows of a batch have different ones: the time of asking says what was known.

    Parameters
    ----------
    plan
        What to read.
    histories
        Of every source of the plan, by name.
    modules
        The plan's on-request modules by name.

    Examples
    --------
    >>> from trimtab.features.plan import RequestShape, WindowPart
    >>> shape = RequestShape("visits", "id", "at", {"shop": "str"}, {}, (), {})
    >>> part = WindowPart("sales", "shop", "str", (9,), (("count", "*"),), ("*",), "known", 0, (False,))
    >>> seen = np.array([1, 2])
    >>> sales = History("sales", seen, seen, {"shop": np.array(["a", "a"]), "time": seen, "known": seen})
    >>> asked = RequestBatch(["r1", "r2"], np.array([1, 5]), {"shop": np.array(["a", "a"])}, {})
    >>> HistoryReader(Plan(shape, (part,)), {"sales": sales}, {}).read(asked).values.tolist()
    [[1.0], [2.0]]
    """

    def __init__(self, plan: Plan, histories: Mapping[str, History], modules: Mapping[str, LoadedModule]) -> None:
        self._plan, self._histories, self._modules = plan, histories, modules
        self._known = [histories[name].known for name in plan.sources()]

    def read(self, batch: RequestBatch) -> FeatureBatch:
        """The features of a batch, each row as of its own time; an age is NaN where nothing was known yet."""
        values = point_in_time(self._plan, self._histories, batch, self._modules)
        at = np.asarray(batch.at, np.int64)
        ages = np.full((len(batch), len(self._known)), np.nan, np.float32)
        for place, known in enumerate(self._known):
            seen = known.searchsorted(at, "right")
            rows = np.flatnonzero(seen)
            ages[rows, place] = (at[rows] - known[seen[rows] - 1]) / 1e6
        return FeatureBatch(values, ages, {}, ())
