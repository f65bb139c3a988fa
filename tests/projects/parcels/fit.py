"""A line through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fit_line(data: Any, params: Mapping[str, Any]) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(SimpleImputer(keep_empty_features=True), Ridge(alpha=params["alpha"], solver="cholesky"))
    return model.fit(data.X, data.y)
