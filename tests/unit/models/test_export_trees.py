"""XGBoost, CatBoost, and several outputs: exported exactly, on rows chosen to break it."""

import catboost
import lightgbm as lgb
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor

from trimtab.adapters.models.export import OnnxExporter, check_parity, export
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.tree_ensemble import below32
from trimtab.errors import InputError, ParityError
from trimtab.training.task import binary, multiclass, regression

BINARY, NUMBER = binary(positive="late"), regression(target="delay")
THREE = multiclass(classes=["cash", "card", "voucher"])
PAIR = regression(target=["hours", "cost"])
QUIET = {"verbosity": 0, "nthread": 1, "seed": 1}
SILENT = {"verbose": False, "thread_count": 1, "random_seed": 1, "allow_writing_files": False}


def rows(n=1500, columns=4, *, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, columns)).astype(np.float32)
    X[rng.random(X.shape) < missing] = np.nan
    signal = np.nan_to_num(X[:, 0], nan=1.5) - np.nan_to_num(X[:, 1], nan=-0.5) + 0.3 * rng.normal(size=n)
    return X, signal


def classes_of(signal):
    return np.digitize(signal, [-0.7, 0.7]).astype(float)


def agree(estimator, X, task):
    parity = OnnxExporter().export(estimator, X, task=task).parity
    assert parity.share_beyond == 0.0
    return parity


def grow(X, y, rounds=15, **params):
    return xgboost.train(QUIET | params, xgboost.DMatrix(X, y), rounds)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
@settings(max_examples=300)
def test_below32_turns_less_into_at_most(threshold, x):
    assert (x < threshold) == (x <= below32(threshold))


XGBOOST = [
    ({"objective": "binary:logistic"}, BINARY),
    ({"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3}, BINARY),
    ({"objective": "binary:logistic", "base_score": 0.2}, BINARY),
    ({"objective": "reg:squarederror"}, NUMBER),
    ({"objective": "reg:absoluteerror"}, NUMBER),
    ({"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.6}, NUMBER),
    ({"objective": "reg:pseudohubererror"}, NUMBER),
    ({"objective": "reg:quantileerror", "quantile_alpha": 0.7}, NUMBER),
    ({"objective": "count:poisson"}, NUMBER),
    ({"objective": "reg:gamma"}, NUMBER),
    ({"objective": "reg:tweedie"}, NUMBER),
    ({"objective": "multi:softprob", "num_class": 3}, THREE),
    ({"objective": "reg:squarederror"}, PAIR),
]


@pytest.mark.parametrize(
    ("params", "task"), XGBOOST, ids=lambda one: one.get("objective") if isinstance(one, dict) else ""
)
@pytest.mark.parametrize("tree_method", ["hist", "exact"])
def test_xgboost_agrees(params, task, tree_method):
    if tree_method == "exact" and task is PAIR:
        tree_method = "approx"
    X, signal = rows(missing=0.15)
    y = {"binary": (signal > 0).astype(float), "regression": np.exp(signal), "multiclass": classes_of(signal)}[
        task.kind
    ]
    y = np.stack([signal, np.exp(signal)], 1) if task is PAIR else y
    agree(grow(X, y, tree_method=tree_method, **params), X, task)


@pytest.mark.parametrize("base", [0.1, 0.3, 1.5, -0.7, 1e-30, -1e-20, 1e30, -3e37, 123456.7])
def test_xgboost_trained_on_adjacent_float32_values_loses_no_row(base):
    rng = np.random.default_rng(0)
    low = np.float32(base)
    high = np.nextafter(low, np.float32(np.inf))
    x = np.where(rng.random(2000) < 0.5, low, high).astype(np.float32)
    X = np.stack([x, rng.normal(size=2000).astype(np.float32)], axis=1)
    booster = grow(X, (x == high).astype(float), 3, objective="binary:logistic", tree_method="exact", max_depth=2)
    probe = np.stack(
        [
            np.array([low, high, np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))]),
            np.zeros(4, np.float32),
        ],
        axis=1,
    )
    said = agree(booster, np.concatenate([probe, X]).astype(np.float32), BINARY)
    assert said.flipped == 0


def test_xgboost_asks_less_than_and_not_at_most():
    """The trap is set: some rows lie exactly on a threshold."""
    X = np.round(rows(3000)[0] * 4) / 4
    booster = grow(X, (X[:, 0] >= 0.25).astype(float), 5, objective="binary:logistic", tree_method="exact")
    thresholds = {float(t) for t in booster.trees_to_dataframe()["Split"].dropna()}
    probes = np.array([[t, 0, 0, 0] for t in thresholds], np.float32)
    agree(booster, np.concatenate([X, probes]).astype(np.float32), BINARY)


def test_xgboost_with_early_stopping_counts_as_predict_does():
    X, signal = rows()
    noise = np.random.default_rng(9).normal(size=len(X)) > 0
    model = xgboost.XGBClassifier(n_estimators=200, early_stopping_rounds=3, n_jobs=1, learning_rate=0.5)
    model.fit(X[:1000], (signal > 0)[:1000].astype(int), eval_set=[(X[1000:], noise[1000:].astype(int))], verbose=False)
    assert model.best_iteration < 100
    agree(model, X, BINARY)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"booster": "gblinear"}, "no trees"),
        ({"objective": "survival:cox"}, "an objective without"),
        ({"multi_strategy": "multi_output_tree"}, "leaves of several values"),
    ],
)
def test_what_xgboost_has_no_exact_form_for_is_refused(params, sentence):
    X, signal = rows()
    y = np.stack([signal, signal], 1) if "multi_strategy" in params else np.abs(signal)
    booster = grow(X, y, 3, **params)
    with pytest.raises(InputError, match=sentence):
        export(booster, 4, PAIR if "multi_strategy" in params else NUMBER)


def test_xgboost_categories_are_refused():
    X, signal = rows()
    X[:, 2] = np.random.default_rng(3).integers(0, 8, len(X))
    data = xgboost.DMatrix(
        X, np.where(X[:, 2] % 3 == 0, signal, -signal), feature_types=["q", "q", "c", "q"], enable_categorical=True
    )
    booster = xgboost.train(QUIET | {"max_cat_to_onehot": 1, "tree_method": "hist"}, data, 5)
    with pytest.raises(InputError, match="categorical splits"):
        export(booster, 4, NUMBER)


@pytest.mark.parametrize("missing", [-999.0, -999, 0.0, 0.1, 1e30, np.float32(0.1), float("inf"), float("nan")])
@pytest.mark.parametrize("outputs", [1, 3])
def test_what_xgboost_was_told_counts_as_missing_does_so_when_served(missing, outputs):
    X, signal = rows()
    filled = np.where(np.abs(X) < 0.3, np.float32(missing), X)
    y = (signal > 0).astype(int) if outputs == 1 else classes_of(signal).astype(int)
    model = xgboost.XGBClassifier(n_estimators=9, n_jobs=1, missing=missing).fit(filled, y)
    task = BINARY if outputs == 1 else THREE
    usual = X[(np.abs(X) >= 0.3).all(axis=1)]
    exported = OnnxExporter().export(model, usual, task=task)
    other = np.nextafter(np.float32(missing), np.float32(0))
    probes = np.array([[one, 0.5, -0.5, 1.0] for one in (missing, np.nan, 0.0, -0.0, other, 2.0)], np.float32)
    if not np.isinf(missing):
        probes = probes[~np.isinf(probes).any(axis=1)]
    said = model.predict_proba(probes)
    np.testing.assert_allclose(exported.predict(probes), said[:, 1] if outputs == 1 else said, atol=1e-5)
    assert exported.data == OnnxExporter().export(model, usual, task=task).data


def test_each_of_several_xgboost_models_has_its_own_missing():
    X, signal = rows()
    filled = np.where(np.abs(X) < 0.3, np.float32(-999), X)
    y = np.stack([signal, 3 * signal + X[:, 2]], axis=1)
    kind = xgboost.XGBRegressor
    pair = [
        kind(n_estimators=9, n_jobs=1, missing=-999.0).fit(filled, y[:, 0]),
        kind(n_estimators=9, n_jobs=1).fit(X, y[:, 1]),
    ]
    exported = OnnxExporter().export(pair, X[:50], task=PAIR)
    said = np.stack([one.predict(filled) for one in pair], axis=1)
    np.testing.assert_allclose(exported.predict(filled), said, rtol=1e-5, atol=1e-5)


CATBOOST = [
    (catboost.CatBoostClassifier, {}, BINARY),
    (catboost.CatBoostClassifier, {"loss_function": "CrossEntropy"}, BINARY),
    (catboost.CatBoostClassifier, {"grow_policy": "Lossguide"}, BINARY),
    (catboost.CatBoostClassifier, {"nan_mode": "Max"}, BINARY),
    (catboost.CatBoostClassifier, {"loss_function": "MultiClass"}, THREE),
    (catboost.CatBoostClassifier, {"loss_function": "MultiClass", "grow_policy": "Depthwise"}, THREE),
    (catboost.CatBoostRegressor, {}, NUMBER),
    (catboost.CatBoostRegressor, {"loss_function": "MAE"}, NUMBER),
    (catboost.CatBoostRegressor, {"loss_function": "Poisson"}, NUMBER),
    (catboost.CatBoostRegressor, {"loss_function": "Tweedie:variance_power=1.5"}, NUMBER),
    (catboost.CatBoostRegressor, {"loss_function": "MultiRMSE"}, PAIR),
]


@pytest.mark.parametrize(
    ("kind", "params", "task"), CATBOOST, ids=lambda one: str(one) if isinstance(one, dict) else ""
)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_catboost_agrees(kind, params, task, missing):
    X, signal = rows(missing=missing)
    y = {
        "binary": (signal > 0).astype(int),
        "regression": np.exp(signal),
        "multiclass": classes_of(signal).astype(int),
    }[task.kind]
    y = np.stack([signal, np.exp(signal)], 1) if task is PAIR else y
    model = kind(iterations=15, depth=4, **SILENT, **params).fit(X, y)
    agree(model, X, task)


def test_catboost_borders_are_kept_on_adjacent_float32_values():
    rng = np.random.default_rng(0)
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(np.inf))
    x = np.where(rng.random(2000) < 0.5, low, high).astype(np.float32)
    X = np.stack([x, rng.normal(size=2000).astype(np.float32)], axis=1)
    model = catboost.CatBoostClassifier(iterations=3, depth=2, **SILENT).fit(X, (x == high).astype(int))
    assert agree(model, X, BINARY).flipped == 0
    assert len(np.unique(model.predict_proba(X)[:, 1] > 0.5)) == 2, "the trap is set: the two are told apart"


def test_rows_on_a_border_of_catboost_agree():
    X, signal = rows()
    model = catboost.CatBoostRegressor(iterations=10, depth=3, **SILENT).fit(X, signal)
    borders = np.array([b for column in model.get_borders().values() for b in column], np.float32)
    probes = np.repeat(borders[:, None], 4, axis=1)
    agree(model, np.concatenate([probes, np.nextafter(probes, np.float32(np.inf)), X]), NUMBER)


def test_catboost_categories_are_refused():
    X, signal = rows()
    frame = [[str(int(value > 0)), *row] for value, row in zip(X[:, 0], X[:, 1:].tolist(), strict=True)]
    model = catboost.CatBoostRegressor(iterations=3, cat_features=[0], **SILENT).fit(frame, signal)
    with pytest.raises(InputError, match="categorical features"):
        export(model, 4, NUMBER)


@pytest.mark.parametrize(
    "make",
    [
        lambda X, y: lgb.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1).fit(X, y),
        lambda X, y: lgb.train(
            {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, lgb.Dataset(X, y), 10
        ),
        lambda X, y: lgb.train(
            {
                "objective": "multiclass",
                "num_class": 3,
                "verbose": -1,
                "num_threads": 1,
                "boosting": "rf",
                "bagging_freq": 1,
                "bagging_fraction": 0.7,
            },
            lgb.Dataset(X, y),
            10,
        ),
        lambda X, y: HistGradientBoostingClassifier(max_iter=10).fit(X, y),
        lambda X, y: RandomForestClassifier(10, max_depth=5, random_state=0).fit(np.nan_to_num(X), y),
        lambda X, y: LogisticRegression().fit(np.nan_to_num(X), y),
        lambda X, y: xgboost.XGBClassifier(n_estimators=10, n_jobs=1).fit(X, y.astype(int)),
        lambda X, y: catboost.CatBoostClassifier(iterations=10, loss_function="MultiClass", **SILENT).fit(X, y),
    ],
    ids=["LGBM", "lightgbm", "lightgbm-rf", "hist", "forest", "logistic", "XGB", "CatBoost"],
)
def test_several_classes_agree(make):
    X, signal = rows(missing=0.1)
    estimator = make(X, classes_of(signal))
    probe = np.nan_to_num(X) if type(estimator).__name__ in ("RandomForestClassifier", "LogisticRegression") else X
    exported = OnnxExporter().export(estimator, probe, task=THREE)
    said = exported.predict(probe)
    assert said.shape == (len(X), 3)
    np.testing.assert_allclose(said.sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda X, y: [lgb.LGBMRegressor(n_estimators=9, verbose=-1, n_jobs=1).fit(X, y[:, one]) for one in (0, 1)],
        lambda X, y: MultiOutputRegressor(Ridge()).fit(X, y),
        lambda X, y: Ridge().fit(X, y),
        lambda X, y: RandomForestRegressor(5, max_depth=4, random_state=0).fit(X, y),
        lambda X, y: [Ridge().fit(X, y[:, 0]), xgboost.XGBRegressor(n_estimators=9, n_jobs=1).fit(X, y[:, 1])],
    ],
    ids=["list", "MultiOutputRegressor", "ridge", "forest", "mixed"],
)
def test_several_numbers_agree(make):
    X, signal = rows()
    estimator = make(X, np.stack([signal, 3 * signal + X[:, 2]], axis=1))
    exported = OnnxExporter().export(estimator, X, task=PAIR)
    assert exported.predict(X).shape == (len(X), 2)
    assert exported.data == OnnxExporter().export(estimator, X, task=PAIR).data


def test_an_estimator_that_has_not_seen_every_class_is_refused():
    X, signal = rows()
    y = np.where(signal > 0, 2.0, 0.0)
    with pytest.raises(InputError, match="has not seen every class"):
        export(LogisticRegression().fit(X, y), 4, THREE)


def test_a_list_needs_one_estimator_for_each_number():
    X, signal = rows()
    with pytest.raises(InputError, match="does not fit the task"):
        export([Ridge().fit(X, signal)], 4, PAIR)


def test_another_order_of_classes_is_no_parity():
    X, signal = rows()
    one = LogisticRegression().fit(X, classes_of(signal))
    other = LogisticRegression().fit(X, (classes_of(signal) + 1) % 3)
    with pytest.raises(ParityError, match="flipped decisions"):
        check_parity(one, OnnxModel(export(other, 4, THREE)), X, THREE)
