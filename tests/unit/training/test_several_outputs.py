"""Labels and metrics of several classes and several numbers; scikit-learn is the reference."""

import numpy as np
import pytest
from sklearn import metrics as reference

import trimtab as tt
from trimtab.datasets.profile import confident, summary
from trimtab.errors import InputError, ProjectError
from trimtab.stats.metrics import evaluate, losses
from trimtab.training.labels import label_values
from trimtab.training.task import Label

rng = np.random.default_rng(0)
Y, P = rng.integers(0, 4, 800).astype(float), rng.dirichlet([1, 2, 1, 1], 800)


def test_metrics_of_classes_are_those_of_scikit_learn():
    found = evaluate("multiclass", Y, P)
    assert found["log_loss"] == pytest.approx(reference.log_loss(Y, P))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(Y, P, multi_class="ovr"))
    assert found["f1"] == pytest.approx(reference.f1_score(Y, P.argmax(1), average="macro"))
    assert found["accuracy"] == reference.accuracy_score(Y, P.argmax(1))
    assert losses("log_loss", Y, P).mean() == pytest.approx(found["log_loss"])


def test_two_classes_are_a_binary_task_in_other_words():
    y, p = (Y > 1).astype(float), P[:, 0]
    both, one = evaluate("multiclass", y, np.stack([1 - p, p], 1)), evaluate("binary", y, p)
    for name in ("log_loss", "roc_auc", "accuracy"):
        assert both[name] == pytest.approx(one[name])
    assert both["brier"] == pytest.approx(2 * one["brier"])


def test_metrics_of_several_numbers_are_means():
    truth = rng.normal(size=(300, 3))
    said = truth + rng.normal(size=(300, 3))
    found = evaluate("regression", truth, said)
    assert found["squared_error"] == pytest.approx(reference.mean_squared_error(truth, said))
    assert found["r2"] == pytest.approx(reference.r2_score(truth, said))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, said))


@pytest.mark.parametrize("wrong", [4.0, -1.0, 0.5])
def test_a_label_that_is_no_class_is_refused(wrong):
    with pytest.raises(InputError, match="no class"):
        evaluate("multiclass", np.append(Y[:-1], wrong), P)


def test_labels_of_several_numbers_lack_all_or_none():
    label = Label(None, "a", "id", 1, others=("b",))
    columns = {"a": np.array([1.0, np.nan, 3.0]), "b": np.array([1, 2, 3])}
    found = label_values(tt.regression(target=["a", "b"]), label, columns)
    np.testing.assert_array_equal(found, [[1, 1], [np.nan, np.nan], [3, 3]])


def test_classes_may_be_counted():
    found = label_values(tt.multiclass(classes=["x", "y"]), Label(None, "k", "id", 1), {"k": np.array([1, 0, 2])})
    np.testing.assert_array_equal(found, [1, 0, np.nan])


@pytest.mark.parametrize("classes", ["ab", ["a"], ["a", "a"], []])
def test_classes_are_several_and_different(classes):
    with pytest.raises(ProjectError, match="several different names"):
        tt.multiclass(classes=classes)


def test_the_summary_tells_classes_and_confidence_apart():
    found = summary("multiclass", P)
    np.testing.assert_array_equal(np.ceil(found) - 1, P.argmax(1))
    np.testing.assert_array_equal(confident(found, task="multiclass"), P.max(1) >= 0.9)
