"""From prediction records back to answers, and from blocks to mergeable series: all of it can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.errors import IntegrityError
from trimtab.features.batch import FeatureBatch, RequestBatch, Watermark
from trimtab.features.plan import Plan
from trimtab.monitoring.blocks import DayBlock
from trimtab.serving.answers import Answers
from trimtab.serving.record import PredictionRecord

_BATCH = 4096


def answers_from_records(records: Iterable[PredictionRecord], plan: Plan) -> Iterator[Answers]:
    """Put neighbouring records of one version, arm, rollout and watermark back together into batches.

    Records of failed requests are left out (see :func:`failures`); request inputs are not recorded, so they come back
    empty. A record without feature values (recording was sampled) yields a batch of shape (n, 0).

    Parameters
    ----------
    plan
        The feature plan of the versions that wrote the records.

    Raises
    ------
    IntegrityError
        When a record holds another number of features than the plan.
    """
    width = len(plan.names())
    answered = (record for record in records if not record.status.startswith("error"))
    for _, run in groupby(answered, key=_together):
        while batch := list(islice(run, _BATCH)):
            yield _answers(batch, plan, width)


class Failed(NamedTuple):
    """Failed requests of an arm."""

    rows: int
    together: int
    """Those of them that fell to the arm together with others."""
    units: list[str]
    """What the arm was drawn for, per row."""


def failures(records: Iterable[PredictionRecord]) -> dict[tuple[str, str, str], Failed]:
    """Failed requests by ``(rollout, arm, version)``, for :meth:`trimtab.monitoring.observer.Observer.failed`.

    What the observer was told of answers as they were given, it is told of their records: an error, or an output that
    is not finite, has a status that begins with ``error``.
    """
    found: dict[tuple[str, str, str], Failed] = {}
    for record in records:
        if record.status.startswith("error"):
            key = (record.rollout, record.arm, record.version)
            before = found.get(key, Failed(0, 0, []))
            before.units.append(record.unit or record.request_id)
            found[key] = Failed(before.rows + 1, before.together + record.together, before.units)
    return found


def cells(
    model: str, blocks: Iterable[DayBlock], histograms: Mapping[Micros, Mapping[str, NDArray[np.float64]]]
) -> dict[tuple[str, Micros], NDArray[np.float64]]:
    """Blocks and daily count vectors as cells of :class:`trimtab.core.ports.Series`: they add up over days.

    ``<model>/quality/<version>`` holds answered, labelled, loss, label and prediction; ``<model>/positives/<version>``
    and ``negatives`` the score histograms; ``<model>/feature/<name>/<bins id>`` and
    ``<model>/prediction/<version>/<bins id>`` the counts behind drift.

    Parameters
    ----------
    histograms
        By day, from :meth:`trimtab.monitoring.observer.Observer.histograms`.
    """
    found: dict[tuple[str, Micros], NDArray[np.float64]] = {}
    for block in blocks:
        sums = [block.answered, block.labelled, block.loss, block.label, block.prediction]
        found[f"{model}/quality/{block.version}", block.day] = np.array(sums, dtype=np.float64)
        for name in ("positives", "negatives"):
            scores = getattr(block, name)
            if scores:
                found[f"{model}/{name}/{block.version}", block.day] = np.array(scores, dtype=np.float64)
    for day, vectors in histograms.items():
        for name, vector in vectors.items():
            found[f"{model}/{name}", day] = vector
    return found


def _together(record: PredictionRecord) -> tuple[object, ...]:
    marks = tuple(sorted(record.watermarks.items()))
    held = (bool(record.features), bool(record.keys), len(record.outputs))
    return (record.version, record.arm, record.rollout, marks, record.timings, record.status, held)


def _outputs(batch: list[PredictionRecord]) -> NDArray[np.float64]:
    if len(batch[0].outputs) == 1:
        return np.array([record.outputs[0] for record in batch], dtype=np.float64)
    return np.array([record.outputs for record in batch], dtype=np.float64)


def _answers(batch: list[PredictionRecord], plan: Plan, width: int) -> Answers:
    first = batch[0]
    ids = [record.request_id for record in batch]
    values = np.zeros((len(batch), 0), dtype=np.float32)
    if first.features:
        values = np.frombuffer(b"".join(record.features for record in batch), dtype="<f4").reshape(len(batch), -1)
        if values.shape[1] != width or any(len(record.features) != 4 * width for record in batch):
            raise IntegrityError(
                "a prediction record does not fit the feature plan",
                got=f"{len(first.features) // 4} values, {width} features",
                hint="read each version's records with the plan from its bundle",
            )
    ages = np.frombuffer(b"".join(record.ages for record in batch), dtype="<f4").reshape(len(batch), -1)
    stale = first.status.removeprefix("stale:").split(",") if first.status.startswith("stale:") else []
    together = [record.together for record in batch]
    return Answers(
        requests=RequestBatch(
            ids=ids,
            at=np.array([record.asked_at for record in batch], dtype=np.int64),
            keys={key: np.array([record.keys[key] for record in batch]) for key in plan.requests.keys if first.keys},
            inputs={},
        ),
        features=FeatureBatch(
            values=values,
            ages=ages,
            watermarks={source: Watermark(*mark) for source, mark in first.watermarks.items()},
            stale=tuple(stale),
        ),
        version=first.version,
        arm=first.arm,
        rollout=first.rollout,
        outputs=_outputs(batch),
        timings=first.timings,
        units=[record.unit if record.together else "" for record in batch] if any(together) else (),
        together=together if any(together) else (),
    )
