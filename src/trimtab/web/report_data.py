"""What a report shows: plain data, so that it can be kept as JSON and drawn again later.

All times are microseconds since the epoch, all losses are means per labelled request, and a measure that does not
exist for a task (the AUC of a regression) or cannot be computed is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab.core.clock import Micros
from trimtab.core.ids import Json


@dataclass(frozen=True, slots=True)
class Score:
    """How well a model did over some requests."""

    loss: float | None
    """Mean of the task's loss; lower is better."""
    auc: float | None = None
    ece: float | None = None
    """Expected calibration error; lower is better."""


@dataclass(frozen=True, slots=True)
class MonthRow:
    """One month of asking, both policies on the same labelled requests."""

    month: str
    """``2013-03``, or ``total``."""
    requests: int
    labelled: int
    """Requests whose label arrived within its horizon."""
    base_rate: float | None
    """Share of positives among them; the mean of the target for a regression."""
    frozen: Score
    trimtab: Score
    lost: bool = False
    """Whether retraining did worse than leaving the first model alone."""


@dataclass(frozen=True, slots=True)
class WeekPoint:
    """One week of asking."""

    week: Micros
    """Start of the week."""
    labelled: int
    frozen: Score
    trimtab: Score


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that the loop or a person decided, with the evidence it was decided on."""

    when: Micros
    kind: str
    """A key of :data:`trimtab.web.kinds.KINDS`; any other word is shown as it is."""
    sentence: str
    """What was decided and why, for a person."""
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriftCell:
    """One feature in one week."""

    psi: float | None
    """``None``: insufficient data."""
    alarm: float | None
    """The PSI that this feature would have to pass to be out of the ordinary."""
    severity: str = "ok"
    """``insufficient_data``, ``ok``, ``warning`` or ``critical``."""


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One feature over the weeks of the map."""

    feature: str
    cells: tuple[DriftCell, ...]


@dataclass(frozen=True, slots=True)
class DriftMap:
    """Features by weeks; ``prediction`` is the row of what the champion said."""

    weeks: tuple[Micros, ...]
    prediction: DriftRow
    features: tuple[DriftRow, ...]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Requests with about the same predicted probability."""

    predicted: float
    """Mean prediction."""
    observed: float
    """Share of positives."""
    rows: int


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean difference of losses per request, positive when the newer model is better, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Champion:
    """A version that was live, what it cost and what it gained."""

    version: str
    since: Micros
    until: Micros | None
    """``None``: still live at the end."""
    trained_until: Micros
    rows: int
    """Training rows."""
    train_seconds: float
    """Measured."""
    versus_frozen: Gain | None = None
    """Over its own time as champion; ``None`` for the frozen model itself."""
    versus_previous: Gain | None = None
    """Over its own time as champion, against its predecessor scoring the same requests."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Served features recomputed offline at the watermark that each was read at."""

    sampled: int
    """Predictions that were recomputed."""
    values: int
    """Feature values compared."""
    mismatch: int
    missing: int
    extra: int
    largest: float
    """Largest relative difference of a float."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault put on stage, and what became of it."""

    name: str
    started: Micros
    what: str
    """What was broken."""
    detected: Micros | None = None
    detection: str = ""
    """How it showed."""
    contained: Micros | None = None
    containment: str = ""
    """What ended the harm."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Everything that the page of a replay shows (:func:`trimtab.web.report.render_report`)."""

    project: str
    model: str
    task: str
    """``binary`` or ``regression``."""
    outcome: str
    """What the positive class or the target is called: ``late``."""
    start: Micros
    end: Micros
    months: tuple[MonthRow, ...]
    total: MonthRow
    weeks: tuple[WeekPoint, ...]
    decisions: tuple[Decision, ...]
    champions: tuple[Champion, ...]
    """In the order they were live; the first is the frozen model."""
    digest: str
    """The decision digest of the run."""
    gain: Gain | None = None
    """Loss of the frozen model minus that of Trimtab over the whole period."""
    drift: DriftMap | None = None
    calibration_frozen: tuple[CalibrationBin, ...] = ()
    calibration_trimtab: tuple[CalibrationBin, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """What happened how often, in the order to be shown: ``{"events delivered": 812345}``."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage, measured, in the order to be shown."""
    parity: Parity | None = None
    quarantine: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Rows kept out, by source and reason."""
    faults: tuple[Fault, ...] = ()
    loss: str = "log_loss"
