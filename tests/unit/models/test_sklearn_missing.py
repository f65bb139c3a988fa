"""Trees of scikit-learn send missing values where they did in training, also where no row of the check has one."""

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from trimtab.adapters.models.export import OnnxExporter, predict_original
from trimtab.training.task import binary, multiclass, regression

rng = np.random.default_rng(0)
X = rng.normal(size=(800, 3)).astype(np.float32)
HOLES = np.where(np.abs(X) < 0.3, np.nan, X).astype(np.float32)
SIGNAL = X[:, 0] + np.where(np.abs(X[:, 1]) < 0.3, 2, X[:, 1])
LATE, NUMBER, THREE = binary(positive="late"), regression(target="x"), multiclass(classes=["a", "b", "c"])
SMALL = {"n_estimators": 5, "max_depth": 5, "random_state": 0}

KINDS = {
    "tree": (lambda: DecisionTreeClassifier(max_depth=5), LATE),
    "tree-number": (lambda: DecisionTreeRegressor(max_depth=5), NUMBER),
    "forest": (lambda: RandomForestClassifier(**SMALL), LATE),
    "forest-three": (lambda: RandomForestClassifier(**SMALL), THREE),
    "forest-number": (lambda: RandomForestRegressor(**SMALL), NUMBER),
    "extra": (lambda: ExtraTreesClassifier(**SMALL), LATE),
    "extra-number": (lambda: ExtraTreesRegressor(**SMALL), NUMBER),
    "bagging": (lambda: BaggingClassifier(DecisionTreeClassifier(max_depth=4), random_state=0), LATE),
    "pipeline": (
        lambda: make_pipeline(StandardScaler(with_mean=False, with_std=False), ExtraTreesClassifier(**SMALL)),
        LATE,
    ),
    "search": (lambda: GridSearchCV(ExtraTreesClassifier(**SMALL), {"max_depth": [4]}, cv=2), LATE),
    "stumps": (lambda: ExtraTreesClassifier(n_estimators=30, max_depth=1, random_state=0), LATE),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [X, HOLES], ids=["whole", "holes"])
def test_missing_values_go_where_they_went_in_training(kind, trained):
    make, task = KINDS[kind]
    labels = {"binary": SIGNAL > 0, "regression": SIGNAL, "multiclass": np.digitize(SIGNAL, [-0.5, 1])}[task.kind]
    model = make().fit(trained, labels if task is NUMBER else labels.astype(int))
    whole = X[(np.abs(X) >= 0.3).all(axis=1)]
    exported = OnnxExporter().export(model, whole, task=task)
    np.testing.assert_allclose(exported.predict(HOLES), predict_original(model, HOLES, task), atol=1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["check rows without holes", "with holes"])
def test_trees_that_ask_the_same_and_send_what_is_missing_elsewhere_are_told_apart(whole):
    draw = np.random.default_rng(0)
    flags = draw.integers(0, 2, (400, 3)).astype(np.float32)
    late = (flags[:, 0] + draw.random(400) > 1).astype(int)
    holes = np.where(draw.random((400, 3)) < 0.3, np.nan, flags).astype(np.float32)
    model = RandomForestClassifier(20, max_depth=2, random_state=0).fit(holes, late)
    exported = OnnxExporter().export(model, flags[:100] if whole else holes[:100], task=LATE)
    np.testing.assert_allclose(exported.predict(holes), predict_original(model, holes, LATE), atol=1e-5)


def test_what_cannot_take_missing_values_is_exported_as_before():
    model = StackingClassifier([("a", DecisionTreeClassifier(max_depth=3)), ("b", LogisticRegression())])
    exported = OnnxExporter().export(model.fit(X, SIGNAL > 0), X, task=LATE)
    assert exported.parity.share_beyond == 0.0


def test_a_sum_over_many_trees_is_no_more_than_certain():
    model = RandomForestClassifier(30, max_depth=9, random_state=2).fit(X, X[:, 0] > 0)
    said = OnnxExporter().export(model, X, task=LATE).predict(X)
    assert said.max() == 1.0
    np.testing.assert_allclose(said, predict_original(model, X, LATE), atol=1e-5)


def test_an_answer_that_is_no_number_stays_none():
    model = LogisticRegression().fit(X, SIGNAL > 0)
    assert np.isnan(OnnxExporter().export(model, X, task=LATE).predict(HOLES[np.isnan(HOLES).any(axis=1)])).all()
