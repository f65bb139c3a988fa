"""What waits to be scored in the shadow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trimtab.serving.answers import Answers


@dataclass(frozen=True, slots=True)
class ShadowWork:
    """Answers that a version has still to score, and the features it may reuse."""

    version: str
    answers: Answers
    plan_digest: str
    raw: bool
    """The caller brought features, and no keys to read others by."""


def knows_more(shadow: Answers, given: Answers) -> bool:
    """Whether a score was made of events that the answer beside it could not have seen."""
    asked = int(np.min(given.requests.at)) if len(given.requests) else 0
    seen = given.features.watermarks
    return any(
        mark.known > (seen[source].known if source in seen else asked)
        for source, mark in shadow.features.watermarks.items()
    )
