"""How the model is fitted: a plain function that knows nothing of the platform around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab import TrainingData


def fit_lightgbm(data: TrainingData, params: Mapping[str, Any]) -> Any:
    """Gradient-boosted trees; the same data and seed give the same trees, whatever the machine does besides."""
    import lightgbm

    model = lightgbm.LGBMClassifier(
        n_estimators=params.get("trees", 150),
        num_leaves=31,
        learning_rate=0.1,
        min_child_samples=100,  # flights of one day are alike, so a leaf of a few flights has learned a day
        random_state=data.seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=2,  # as many as a small machine has; with deterministic=True the trees are the same for any number
        verbosity=-1,
    )
    return model.fit(data.X, data.y.astype(int))
