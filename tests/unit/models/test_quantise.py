"""Int8 variants: measured beside their parent, packed with its name, refused where there is nothing to quantise."""

import itertools

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from tests.unit.registry.memory import MemoryBlobs

from trimtab.adapters.models.onnx_tensors import open_model
from trimtab.adapters.models.quantise import quantise
from trimtab.adapters.models.register import register
from trimtab.errors import InputError
from trimtab.registry.bundle import load
from trimtab.training.task import binary, multiclass, regression

torch = pytest.importorskip("torch", reason="PyTorch is not among the pinned packages: make torch")
nn = torch.nn

WIDTH = 64
NAMES = [f"f{n}" for n in range(WIDTH)]
rng = np.random.default_rng(0)
ROWS = rng.normal(size=(1200, WIDTH)).astype(np.float32)
SIGNAL = ROWS[:, :8].sum(axis=1) / 3
LABELS = (SIGNAL + 0.3 * rng.normal(size=1200) > 0).astype(float)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(WIDTH, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1), nn.Sigmoid()
    )
    optimiser, x, y = (
        torch.optim.Adam(module.parameters(), 1e-3),
        torch.from_numpy(ROWS[:800]),
        torch.from_numpy(LABELS[:800]),
    )
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy(module(x)[:, 0], y.float()).backward()
        optimiser.step()
    return module


@pytest.fixture
def blobs():
    return MemoryBlobs()


def ticking():
    return itertools.count(0, 1_000_000).__next__


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_a_net_becomes_four_times_smaller_and_stays_good(blobs, net, mode):
    version = register(blobs, net, name="net", task=binary(positive="yes"), feature_names=NAMES, rows=ROWS)
    found = quantise(
        blobs, version, mode=mode, rows=ROWS[800:], labels=LABELS[800:], calibration=ROWS[:800], timer=ticking()
    )
    assert found.after.model_bytes < found.before.model_bytes / 3
    assert found.before.metrics["roc_auc"] > 0.8
    assert abs(found.after.metrics["roc_auc"] - found.before.metrics["roc_auc"]) < 0.02
    assert 0 < found.difference.largest_difference < 0.2
    assert (found.before.one_row_p50_ms, found.before.batch_p50_ms) == (1.0, 1.0)
    made = load(blobs, found.after.version)
    assert (made.manifest.parent, made.manifest.variant) == (version, f"int8-{mode}")
    assert made.manifest.plan_digest == load(blobs, version).manifest.plan_digest
    assert "not trained again" in made.card
    said = open_model(made.manifest, made.model).run(ROWS[:1])
    assert said.shape == (1, 1)


def test_the_same_variant_is_the_same_version(blobs, net):
    version = register(blobs, net, name="net", task=binary(positive="yes"), feature_names=NAMES, rows=ROWS)
    versions = {
        quantise(blobs, version, mode="dynamic", rows=ROWS[:50], timer=ticking()).after.version for _ in range(2)
    }
    assert len(versions) == 1
    with pytest.raises(InputError, match="a variant already"):
        quantise(blobs, versions.pop(), mode="dynamic", rows=ROWS[:50], timer=ticking())


def test_a_scikit_learn_net_of_several_classes(blobs):
    y = np.digitize(SIGNAL, [-0.5, 0.5]).astype(float)
    model = MLPClassifier((64,), max_iter=300, tol=0.01, random_state=0).fit(ROWS[:800], y[:800])
    task = multiclass(classes=["a", "b", "c"])
    version = register(blobs, model, name="net", task=task, feature_names=NAMES, rows=ROWS)
    found = quantise(blobs, version, mode="dynamic", rows=ROWS[800:], labels=y[800:], timer=ticking())
    assert abs(found.after.metrics["log_loss"] - found.before.metrics["log_loss"]) < 0.05
    assert found.after.size_bytes < found.before.size_bytes


def test_trees_are_refused_with_what_to_do_instead(blobs):
    booster = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(ROWS, SIGNAL), 3)
    version = register(blobs, booster, name="trees", task=regression(target="x"), feature_names=NAMES, rows=ROWS)
    with pytest.raises(InputError, match=r"trees cannot be quantised.*docs/distil\.md"):
        quantise(blobs, version, mode="dynamic", rows=ROWS, timer=ticking())


def test_static_needs_rows_to_calibrate_on(blobs, net):
    version = register(blobs, net, name="net", task=binary(positive="yes"), feature_names=NAMES, rows=ROWS)
    with pytest.raises(InputError, match="calibration rows"):
        quantise(blobs, version, mode="static", rows=ROWS, timer=ticking())


@pytest.fixture
def fitted(blobs):
    model = MLPRegressor(hidden_layer_sizes=(32,), max_iter=60, tol=1.0, n_iter_no_change=2, random_state=0).fit(
        ROWS[:800], SIGNAL[:800]
    )
    return register(blobs, model, name="net", task=regression(target="x"), feature_names=NAMES, rows=ROWS)


@pytest.mark.parametrize("every", [False, True])
def test_calibration_rows_with_holes_are_refused_in_words(blobs, fitted, every):
    holes = ROWS[:800].copy()
    holes[slice(7, None) if every else 7, 2] = np.nan
    with pytest.raises(InputError, match="cannot be quantised from these calibration rows") as caught:
        quantise(blobs, fitted, mode="static", rows=ROWS[800:], calibration=holes, timer=ticking())
    assert f"{793 if every else 1} of 800 rows hold NaN or an infinity, the first is row 7" in caught.value.got
    assert "leave out rows with missing values" in caught.value.hint


def test_holes_that_the_net_fills_itself_do_for_calibration(blobs):
    filled = make_pipeline(
        SimpleImputer(), MLPRegressor(hidden_layer_sizes=(32,), max_iter=60, tol=1.0, random_state=0)
    )
    holes = np.where(rng.random(ROWS.shape) < 0.1, np.nan, ROWS).astype(np.float32)
    model = filled.fit(holes[:800], SIGNAL[:800])
    version = register(blobs, model, name="net", task=regression(target="x"), feature_names=NAMES, rows=holes)
    found = quantise(blobs, version, mode="static", rows=holes[800:], calibration=holes[:800], timer=ticking())
    assert found.difference.largest_difference < 0.5


def test_rows_of_another_width_are_refused_in_words(blobs, fitted):
    for mode, rows, calibration in (
        ("static", ROWS, ROWS[:, :5]),
        ("static", ROWS[:, :5], ROWS),
        ("dynamic", ROWS[:, :5], None),
    ):
        with pytest.raises(InputError, match=r"the rows do not fit the model.*64"):
            quantise(blobs, fitted, mode=mode, rows=rows, calibration=calibration, timer=ticking())


def test_rows_of_float64_will_do(blobs, fitted):
    wide = ROWS.astype(np.float64)
    found = quantise(blobs, fitted, mode="static", rows=wide[800:], calibration=wide[:800], timer=ticking())
    assert found.difference.rows == 400


def test_a_bundle_without_a_variant_keeps_its_digest(blobs):
    booster = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(ROWS, SIGNAL), 3)
    version = register(blobs, booster, name="trees", task=regression(target="x"), feature_names=NAMES, rows=ROWS)
    assert {"parent", "variant", "classes"}.isdisjoint(load(blobs, version).manifest.content())
