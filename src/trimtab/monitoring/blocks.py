"""What monitoring tells the loop: one block per day of asking, once its labels have matured.

Visits, sales or clicks of one day depend on each other, so the day is the unit of evidence: a block carries sums,
and every test counts blocks, not rows.
"""

from __future__ import annotations

import msgspec

from trimtab.core.clock import Micros

SCORE_BINS = 100
"""Bins of the score histograms (equal width on [0, 1] for a binary task; empty for others)."""


class DayBlock(msgspec.Struct, frozen=True):
    """How one version did on the requests asked on one day, all of them matured."""

    version: str
    day: Micros
    """Start of the day (UTC)."""
    answered: int
    """Requests that the version predicted, in any arm."""
    labelled: int
    """Those of them whose label arrived within the horizon; coverage is ``labelled / answered``."""
    loss: float
    """Sum of the loss over labelled rows."""
    label: float
    """Sum of the label over labelled rows; of classes their position, of several numbers their mean."""
    prediction: float
    """Sum of the prediction over labelled rows."""
    positives: tuple[int, ...] = ()
    """Labelled positives by score bin, :data:`SCORE_BINS` long."""
    negatives: tuple[int, ...] = ()


class PairBlock(msgspec.Struct, frozen=True):
    """Two versions on the same matured, labelled rows of one day of one rollout."""

    rollout: str
    champion: str
    challenger: str
    day: Micros
    rows: int
    gain: float
    """Sum over rows of champion's loss minus challenger's loss; positive when the challenger is better."""
    canary_rows: int
    """Rows of these that the challenger answered."""


class ArmCount(msgspec.Struct, frozen=True):
    """What an answering arm did since the rollout step began (cumulative)."""

    rollout: str
    arm: str
    version: str
    answered: int
    errors: int
    slow: int
    together: int = 0
    """Those of the answers and errors that fell to the arm together with others: it was not drawn for each of them."""
    repeats: tuple[int, int, int] = (0, 0, 0)
    """Of the requests (answers and errors), the errors and the slow answers, those that say nothing new: the arm was
    drawn for their unit once, and it has been counted (see :mod:`trimtab.monitoring.units`)."""


class FeatureDrift(msgspec.Struct, frozen=True):
    """The verdict on one feature, or on the predictions (``feature == "prediction"``), over one window."""

    feature: str
    severity: str
    """``insufficient_data``, ``ok``, ``warning`` or ``critical``."""
    rows: int
    psi: float
    ks: float
    jsd: float
    p_value: float
    alarm_psi: float
    """PSI above which this window would not be ordinary for this feature (from the reference blocks)."""
    mean: float
    mean_change: float
    """Relative change of the mean against the reference."""


class DriftReport(msgspec.Struct, frozen=True):
    """Drift of everything a version sees and says, over one window."""

    version: str
    start: Micros
    end: Micros
    features: tuple[FeatureDrift, ...]
    prediction: FeatureDrift
    confident: float = 0.0
    """Share of predictions that are confident (probability at least 0.9 or at most 0.1), and the same share in the
    reference; more than usual points at the model or its data. 0 for regression."""
    confident_reference: float = 0.0
