"""What a replay answered, row by row: the material of its report and of the comparison with live answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trimtab.serving.answers import Answers


@dataclass(slots=True)
class Served:
    """What was answered, by position of the request in the timeline; NaN where nothing was."""

    champion: NDArray[np.float64]
    """The answer that was given, whichever arm gave it."""
    frozen: NDArray[np.float64]
    """What the first champion would have said."""
    version: NDArray[np.int32]
    """Index into ``versions`` of the version that answered; -1 where none did."""
    features: NDArray[np.float32]
    """Shape (requests, features): what the answers were made of."""
    watermarks: dict[str, NDArray[np.int64]]
    """By source: how many of its rows had been applied when each request was answered."""
    versions: list[str] = field(default_factory=list)

    @staticmethod
    def nothing(requests: int, *, width: int, sources: Iterable[str], outputs: int = 1) -> Served:
        """Before the first answer.

        Parameters
        ----------
        requests
            Length of the timeline.
        width, outputs
            Number of features, and of what the model gives for a request.
        """
        shape = requests if outputs == 1 else (requests, outputs)
        return Served(
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.full(requests, -1, np.int32),
            np.full((requests, width), np.nan, np.float32),
            {source: np.zeros(requests, np.int64) for source in sources},
        )

    def keep(self, where: list[int], answers: Answers) -> None:
        """Take in the answers of one arm to the requests at these positions; where it failed, all stays NaN."""
        if answers.error:
            return
        self.champion[where] = answers.outputs
        self.version[where] = self._index(answers.version)
        self.features[where] = answers.features.values
        for source, watermark in answers.features.watermarks.items():
            self.watermarks[source][where] = watermark.seq

    def _index(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)
