"""A few trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fit_small(data: Any, params: Mapping[str, Any]) -> Any:
    import lightgbm

    settings = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "deterministic": True, "verbose": -1}
    rows = lightgbm.Dataset(data.X, label=data.y)
    return lightgbm.train(settings | {"seed": data.seed, "force_row_wise": True}, rows, num_boost_round=params["trees"])
