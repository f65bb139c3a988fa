import json
import sys

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from trimtab.adapters.models.export import OnnxExporter, check_parity, export, predict_original
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.tree_ensemble import TreeEnsemble, floor32
from trimtab.errors import InputError, MissingExtra, ParityError
from trimtab.training.task import binary, regression

BINARY, REGRESSION = binary(positive="late"), regression(target="delay")
QUIET = {"verbose": -1, "num_threads": 1, "seed": 1, "min_data_in_leaf": 5}
finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rows(n=1500, columns=4, *, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, columns)).astype(np.float32)
    X[rng.random(X.shape) < missing] = np.nan
    signal = np.nan_to_num(X[:, 0], nan=1.5) - np.nan_to_num(X[:, 1], nan=-0.5) + 0.3 * rng.normal(size=n)
    return X, signal


def boost(X, y, rounds=20, **params):
    return lgb.train(QUIET | params, lgb.Dataset(X, y, params={"verbose": -1}), rounds)


@given(st.floats(allow_nan=False), finite32)
@settings(max_examples=500)
def test_floor32_asks_every_float32_the_same_question(threshold, x):
    lowered = floor32(threshold)
    assert float(np.float32(lowered)) == lowered
    assert (x <= lowered) == (x <= threshold)


@given(st.floats(allow_nan=False))
@settings(max_examples=500)
def test_floor32_is_the_largest_float32_not_above(threshold):
    lowered = np.float32(floor32(threshold))
    assert float(lowered) <= threshold
    with np.errstate(over="ignore", under="ignore"):
        above = np.nextafter(lowered, np.float32(np.inf))
    assert float(above) > threshold or above == lowered


@given(finite32, st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_a_threshold_between_two_adjacent_float32_keeps_both_on_their_sides(low, between):
    low = np.float32(low)
    with np.errstate(over="ignore", under="ignore"):
        high = np.nextafter(low, np.float32(np.inf))
    assume(np.isfinite(high))
    threshold = float(low) + between * (float(high) - float(low))
    ensemble = TreeEnsemble()
    ensemble.add_split(0, 0, feature=0, threshold=threshold, children=(1, 2), missing_left=False)
    ensemble.add_leaf(0, 1, value=-1.0)
    ensemble.add_leaf(0, 2, value=1.0)
    model = OnnxModel(ensemble.to_onnx(features=1, link="identity"))
    said = model.run(np.array([[low], [high]], np.float32))[:, 0].tolist()
    assert said == [-1.0, -1.0 if float(high) <= threshold else 1.0]


@pytest.mark.parametrize("base", [0.1, 0.3, 1.5, -0.7, 1e-30, -1e-20, 1e30, -3e38, 123456.7])
def test_lightgbm_trained_on_adjacent_float32_values_loses_no_row(base):
    rng = np.random.default_rng(0)
    low = np.float32(base)
    high = np.nextafter(low, np.float32(np.inf))
    x = np.where(rng.random(2000) < 0.5, low, high).astype(np.float32)
    X = np.stack([x, rng.normal(size=2000).astype(np.float32)], axis=1)
    booster = boost(X, (x == high).astype(float), 3, objective="binary")
    threshold = booster.dump_model()["tree_info"][0]["tree_structure"]["threshold"]
    assert float(low) < threshold < float(high), "the trap is set: the threshold lies between two float32"
    parity = check_parity(booster, OnnxModel(export(booster, 2, BINARY)), X, BINARY)
    assert (parity.share_beyond, parity.flipped) == (0.0, 0)


@pytest.mark.parametrize("objective", ["regression", "poisson", "huber", "regression_l1", "quantile", "tweedie"])
@pytest.mark.parametrize("use_missing", [True, False])
def test_missing_values_go_where_lightgbm_sends_them(objective, use_missing):
    X, y = rows(missing=0.2)
    booster = boost(
        X, np.exp(y) if objective in ("poisson", "tweedie") else y, objective=objective, use_missing=use_missing
    )
    check_parity(booster, OnnxModel(export(booster, 4, REGRESSION)), X, REGRESSION)


def test_a_value_that_was_never_missing_in_training_may_be_missing_later():
    X, y = rows()
    booster = boost(X, y, objective="regression")
    holes, _ = rows(missing=0.5, seed=2)
    check_parity(booster, OnnxModel(export(booster, 4, REGRESSION)), holes, REGRESSION)


def test_infinite_inputs_agree():
    X, y = rows()
    booster = boost(X, (y > 0).astype(float), objective="binary")
    X[:50, 0], X[50:100, 1] = np.inf, -np.inf
    check_parity(booster, OnnxModel(export(booster, 4, BINARY)), X, BINARY)


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "binary", "sigmoid": 2.5},
        {"objective": "cross_entropy"},
        {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
        {"objective": "binary", "boosting": "dart"},
        {"objective": "binary", "is_unbalance": True},
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
        {"objective": "regression", "reg_sqrt": True},
    ],
)
def test_variants_of_lightgbm_agree(params):
    X, y = rows(missing=0.1)
    task = REGRESSION if params["objective"] == "regression" else BINARY
    booster = boost(X, y if task is REGRESSION else (y > 0).astype(float), **params)
    check_parity(booster, OnnxModel(export(booster, 4, task)), X, task)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"objective": "regression", "linear_tree": True}, "linear leaves"),
        ({"objective": "multiclass", "num_class": 2}, "another number of outputs"),
        ({"objective": "regression", "zero_as_missing": True}, "zeros that count as missing"),
        ({"objective": "cross_entropy_lambda"}, "an objective"),
        ({"objective": "regression", "categorical_feature": [2]}, "categorical splits"),
    ],
)
def test_what_has_no_exact_form_is_refused_with_what_to_use_instead(params, sentence):
    X, y = rows(missing=0.1)
    X[:, 2] = np.random.default_rng(3).integers(0, 5, len(X))
    y = np.where(np.isin(X[:, 2], (1, 3)), y, -y)
    params = dict(params)
    data = lgb.Dataset(
        X,
        y if params["objective"] == "regression" else (y > 0).astype(float),
        categorical_feature=params.pop("categorical_feature", "auto"),
        params={"verbose": -1, "linear_tree": params.get("linear_tree", False)},
    )
    booster = lgb.train(QUIET | params, data, 20)
    with pytest.raises(InputError, match=sentence) as raised:
        export(booster, 4, REGRESSION)
    assert raised.value.hint


def test_the_best_iteration_of_early_stopping_is_exported():
    X, y = rows()
    booster = boost(X, y, 10, objective="regression")
    every = predict_original(booster, X, REGRESSION)
    booster.best_iteration = 4
    assert not np.allclose(predict_original(booster, X, REGRESSION), every)
    check_parity(booster, OnnxModel(export(booster, 4, REGRESSION)), X, REGRESSION)


@pytest.mark.parametrize(
    ("estimator", "task", "missing"),
    [
        (lgb.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1), BINARY, 0.1),
        (lgb.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1), REGRESSION, 0.1),
        (HistGradientBoostingClassifier(max_iter=5), BINARY, 0.2),
        (HistGradientBoostingRegressor(max_iter=5), REGRESSION, 0.2),
        (HistGradientBoostingRegressor(max_iter=5, loss="absolute_error"), REGRESSION, 0.0),
        (RandomForestClassifier(8, random_state=0), BINARY, 0.0),
        (LogisticRegression(), BINARY, 0.0),
        (Ridge(), REGRESSION, 0.0),
        (make_pipeline(StandardScaler(), LogisticRegression()), BINARY, 0.0),
    ],
)
def test_estimators_agree_and_give_the_same_bytes_twice(estimator, task, missing):
    X, y = rows(missing=missing)
    estimator.fit(X, y if task is REGRESSION else y > 0)
    data = export(estimator, 4, task)
    assert data == export(estimator, 4, task)
    model = OnnxModel(data)
    assert model.run(X[:1]).shape == (1, 1)
    assert check_parity(estimator, model, X, task).rows == len(X)


def test_hist_gradient_boosting_keeps_thresholds_between_adjacent_float32():
    rng = np.random.default_rng(0)
    low = np.float32(0.1)
    x = np.where(rng.random(1000) < 0.5, low, np.nextafter(low, np.float32(1))).astype(np.float32)[:, None]
    estimator = HistGradientBoostingClassifier(max_iter=3).fit(x, x[:, 0] > low)
    assert check_parity(estimator, OnnxModel(export(estimator, 1, BINARY)), x, BINARY).flipped == 0


def test_equal_boosters_trained_apart_give_equal_bytes():
    X, y = rows()
    assert len({export(boost(X, y, objective="regression"), 4, REGRESSION) for _ in range(2)}) == 1


def test_a_model_that_says_something_else_is_refused_with_all_three_numbers():
    X, y = rows()
    served = OnnxModel(export(boost(X, (y > 0).astype(float), objective="binary"), 4, BINARY))
    other = boost(X, (y > 0.5).astype(float), objective="binary")
    with pytest.raises(ParityError) as raised:
        check_parity(other, served, X, BINARY)
    for part in ("largest difference", "of 1500 rows beyond", "flipped decisions"):
        assert part in raised.value.got


@pytest.mark.parametrize(
    ("estimator", "task", "sentence"),
    [
        (LinearSVC(), BINARY, "no probabilities"),
        (LogisticRegression(), REGRESSION, "classifier"),
        (RandomForestClassifier(2), "three", "other classes"),
        (lgb.LGBMRegressor(n_estimators=2, verbose=-1, n_jobs=1), BINARY, "gives no probabilities"),
    ],
)
def test_an_estimator_that_does_not_fit_the_task_is_refused(estimator, task, sentence):
    X, y = rows()
    estimator.fit(X, np.digitize(y, (-1, 1)) if task == "three" else y > 0)
    with pytest.raises(InputError, match=sentence):
        export(estimator, 4, BINARY if task == "three" else task)


def test_an_unknown_estimator_is_refused_with_a_hint():
    with pytest.raises(InputError, match="no exporter") as raised:
        export(json.JSONDecoder(), 4, BINARY)
    assert "ONNX" in raised.value.hint


def test_a_missing_library_names_the_extra(monkeypatch):
    X, y = rows()
    booster = boost(X, y, objective="regression")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match="pip install 'trimtab\\[lightgbm\\]'"):
        export(booster, 4, REGRESSION)


def test_the_exporter_port_hands_back_a_model_that_predicts():
    X, y = rows()
    booster = boost(X, (y > 0).astype(float), objective="binary")
    exported = OnnxExporter().export(booster, X, task=BINARY)
    np.testing.assert_allclose(exported.predict(X), predict_original(booster, X, BINARY), atol=1e-6)
    assert exported.parity.rows == len(X)
    assert {"lightgbm", "onnxruntime", "numpy"} <= set(exported.libraries)


@pytest.mark.parametrize("data", [b"", b"not onnx", b"\x08\x09\x12"])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(InputError):
        OnnxModel(data)
