"""The metric of a test from its records and labels."""

from types import SimpleNamespace

import numpy as np
import pytest

from trimtab.app.abtests import _check_metric, _rows
from trimtab.core.clock import HOUR
from trimtab.errors import InputError
from trimtab.monitoring.days import Labels
from trimtab.serving.record import PredictionRecord

SPEC = SimpleNamespace(
    name="m",
    label=SimpleNamespace(matures=HOUR, columns=("bought",)),
    task=SimpleNamespace(kind="binary", loss="log_loss"),
)


def record(name, *, at=0, outputs=(0.5,), status="ok"):
    return PredictionRecord(
        name, "p" + name, at, "m", "v", "a", "t", {}, b"", b"", {}, outputs, (0,) * 6, status, {}, "unit-" + name
    )


@pytest.fixture
def labels():
    made = Labels()
    made.add(["r1", "r2", "r3", "late"], [1.0, 0.0, 1.0, 1.0], [1, 2, 3, 2 * HOUR])
    return made


def test_only_matured_labels_count(labels):
    found = [record("r1"), record("r2"), record("r3", at=HOUR), record("late"), record("never")]
    rows = _rows(found, labels, SPEC, metric="outcome", now=HOUR + 5)
    np.testing.assert_array_equal(rows.values, [1.0, 0.0, np.nan, np.nan, np.nan])
    assert rows.units == ["unit-r1", "unit-r2", "unit-r3", "unit-late", "unit-never"]


def test_a_failed_answer_has_an_outcome_and_no_loss(labels):
    found = [record("r1"), record("r2", outputs=(np.nan,), status="error:RuntimeError")]
    assert _rows(found, labels, SPEC, metric="outcome", now=9 * HOUR).values.tolist() == [1.0, 0.0]
    lost = _rows(found, labels, SPEC, metric="loss", now=9 * HOUR)
    assert lost.errors == 1
    np.testing.assert_allclose(lost.values, [np.log(2), np.nan])
    assert _rows([], labels, SPEC, metric="loss", now=0).values.tolist() == []


def test_the_loss_of_classes(labels):
    found = [record("r1", outputs=(0.2, 0.8)), record("r2", outputs=(0.5, 0.5))]
    values = _rows(found, labels, SPEC, metric="loss", now=9 * HOUR).values
    np.testing.assert_allclose(values, [-np.log(0.8), -np.log(0.5)])


@pytest.mark.parametrize(("kind", "columns"), [("multiclass", ("a",)), ("regression", ("a", "b"))])
def test_what_has_no_mean_is_refused(kind, columns):
    spec = SimpleNamespace(name="m", label=SimpleNamespace(columns=columns), task=SimpleNamespace(kind=kind))
    with pytest.raises(InputError):
        _check_metric(spec, "outcome")
