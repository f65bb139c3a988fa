"""What a training job hands back: the facts of the run, as JSON."""

from __future__ import annotations

from typing import cast

import msgspec

from trimtab.core.ids import Json
from trimtab.training.export import ExportParity

MEASURED = ("p99_ms", "train_seconds")
"""Fields that a clock measured: they differ between two runs of the same training."""


class TrainingResult(msgspec.Struct, frozen=True):
    """The facts of one training run; all but :data:`MEASURED` follow from its inputs."""

    version: str
    """Digest of the bundle."""
    model: str
    dataset: str
    """Digest of the training rows and the held-out rows."""
    rows: int
    holdout_rows: int
    trained_until: int
    cutoff: int
    metrics: dict[str, float]
    """On the held-out rows, of the exported model; a metric that is not defined on them is left out."""
    train_metrics: dict[str, float]
    champion: str
    """The version that was scored beside it; empty when none was."""
    champion_metrics: dict[str, float]
    """Of the champion on the same held-out rows; empty when it was not scored."""
    champion_skipped: str
    """Why the champion was not scored; empty when it was."""
    holdout_daily_gains: list[float]
    """Per day of the held-out tail the mean of champion's loss minus challenger's loss, oldest day first."""
    parity: ExportParity
    size_bytes: int
    p99_ms: float
    """One-row inference of the exported model."""
    train_seconds: float
    """Of the training function alone."""
    libraries: dict[str, str]
    code_revision: str
    seed: int
    params: dict[str, Json]

    def to_builtins(self) -> dict[str, Json]:
        """The result as JSON values."""
        return cast("dict[str, Json]", msgspec.to_builtins(self))

    @staticmethod
    def from_builtins(value: Json) -> TrainingResult:
        return msgspec.convert(value, type=TrainingResult, strict=False)
