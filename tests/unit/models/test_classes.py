"""Estimators that were fitted on texts: their outputs are those of the task, or they are refused in words."""

import catboost
import lightgbm as lgb
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from trimtab.adapters.models.export import OnnxExporter, export
from trimtab.errors import InputError
from trimtab.training.task import binary, multiclass, regression

rng = np.random.default_rng(0)
X = rng.normal(size=(600, 3)).astype(np.float32)
SIGNAL = X[:, 0] + 0.3 * rng.normal(size=600)
YES = np.where(SIGNAL > 0, "y", "n")
PAID = np.array(["voucher", "cash", "card"])[np.digitize(SIGNAL, [-0.5, 0.5])]
THREE = multiclass(classes=["cash", "voucher", "card"])

KINDS = {
    "logistic": LogisticRegression,
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(5, max_depth=4, random_state=0),
    "hist": lambda: HistGradientBoostingClassifier(max_iter=5),
    "lightgbm": lambda: lgb.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1),
    "catboost": lambda: catboost.CatBoostClassifier(
        iterations=5, verbose=False, thread_count=1, allow_writing_files=False
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positive", ["y", "n"])
def test_the_positive_class_may_be_either_of_two_texts(kind, positive):
    model = KINDS[kind]().fit(X, YES)
    exported = OnnxExporter().export(model, X, task=binary(positive=positive))
    wanted = model.predict_proba(X)[:, list(model.classes_).index(positive)]
    np.testing.assert_allclose(exported.predict(X), wanted, atol=1e-5)
    assert exported.data == export(model, 3, binary(positive=positive))


@pytest.mark.parametrize("kind", KINDS)
def test_several_texts_are_brought_in_the_order_of_the_task(kind):
    model = KINDS[kind]().fit(X, PAID)
    exported = OnnxExporter().export(model, X, task=THREE)
    places = [list(model.classes_).index(name) for name in ("cash", "voucher", "card")]
    np.testing.assert_allclose(exported.predict(X), model.predict_proba(X)[:, places], atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "task", "what", "hint"),
    [
        (
            YES,
            binary(positive="late"),
            "other classes than 0 and 1, and 'late' is none of them",
            "binary(positive='y')",
        ),
        (PAID, binary(positive="cash"), "other classes than 0 and 1", "data.y as it is"),
        (PAID, multiclass(classes=["cash", "card"]), "has not seen every class", "every class of cash, card"),
        (YES, THREE, "has not seen every class", "every class of cash, voucher, card"),
        (YES, regression(target="x"), "is a classifier", ""),
    ],
)
def test_texts_that_are_not_those_of_the_task_are_refused(labels, task, what, hint):
    with pytest.raises(InputError) as caught:
        export(LogisticRegression().fit(X, labels), 3, task)
    assert what in caught.value.what
    assert hint in caught.value.hint


def test_the_classes_of_several_labels_at_once_are_refused():
    both = np.stack([SIGNAL > 0, X[:, 1] > 0], axis=1).astype(int)
    with pytest.raises(InputError, match="other classes than 0 and 1"):
        export(RandomForestClassifier(2).fit(X, both), 3, binary(positive="late"))


@pytest.mark.parametrize(
    "around",
    [
        CalibratedClassifierCV,
        lambda inner: GridSearchCV(inner, {"n_estimators": [3]}),
        lambda inner: StackingClassifier([("a", inner), ("b", LogisticRegression())]),
        lambda inner: make_pipeline(StandardScaler(), inner),
    ],
    ids=["calibrated", "search", "stack", "pipeline"],
)
@pytest.mark.parametrize("inner", [lgb.LGBMClassifier, XGBClassifier])
def test_trees_of_another_library_inside_of_scikit_learn_are_refused_with_what_to_do(around, inner):
    more = {"verbose": -1} if inner is lgb.LGBMClassifier else {}
    model = around(inner(n_estimators=3, n_jobs=1, **more)).fit(X, (SIGNAL > 0).astype(int))
    with pytest.raises(InputError, match="skl2onnx cannot export this estimator") as caught:
        export(model, 3, binary(positive="late"))
    assert inner.__name__ in caught.value.got
    assert "return that one by itself" in caught.value.hint
