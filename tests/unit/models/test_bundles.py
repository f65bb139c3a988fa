import json
import threading

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.unit.registry.memory import MemoryBlobs

from trimtab.adapters.models.bundle_directory import export_directory, import_directory
from trimtab.adapters.models.export import export
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.register import register
from trimtab.errors import BundleCorrupt, InputError
from trimtab.registry.bundle import load
from trimtab.training.task import binary, regression

TASK = binary(positive="buys")


@pytest.fixture
def blobs():
    return MemoryBlobs()


def fitted(n=600):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2)).astype(np.float32)
    y = (X[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(float)
    return lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lgb.Dataset(X, y), 10), X


def test_an_estimator_is_registered_without_a_project(blobs):
    booster, X = fitted()
    version = register(blobs, booster, name="visits", task=TASK, feature_names=["a", "b"], rows=X)
    bundle = load(blobs, version)
    np.testing.assert_allclose(OnnxModel(bundle.model).run(X)[:, 0], booster.predict(X), atol=1e-6)
    assert bundle.plan.parts == ()
    assert list(bundle.plan.requests.inputs) == ["a", "b"]
    assert bundle.manifest.inputs[0].shape == (-1, 2)
    assert bundle.manifest.parity.rows == len(X)
    assert version == register(blobs, booster, name="visits", task=TASK, feature_names=["a", "b"], rows=X)


def test_an_onnx_file_is_registered_as_it_is(blobs):
    booster, _ = fitted()
    data = export(booster, 2, TASK)
    files = {"profile.json": b"{}", "card.md": b"# mine"}
    bundle = load(blobs, register(blobs, data, name="visits", task=TASK, feature_names=["a", "b"], files=files))
    assert (bundle.model, bundle.profile, bundle.card) == (data, b"{}", "# mine")


def test_two_columns_of_probabilities_give_the_positive_one(blobs):
    from skl2onnx import to_onnx

    _, X = fitted()
    estimator = LogisticRegression().fit(X, X[:, 0] > 0)
    data = to_onnx(estimator, X[:1], options={"zipmap": False}, target_opset=17).SerializeToString()
    bundle = load(blobs, register(blobs, data, name="visits", task=TASK, feature_names=["a", "b"]))
    np.testing.assert_allclose(OnnxModel(bundle.model).run(X)[:, 0], estimator.predict_proba(X)[:, 1], atol=1e-6)


def test_a_map_of_probabilities_is_refused_with_the_option_that_mends_it(blobs):
    from skl2onnx import to_onnx

    _, X = fitted()
    data = to_onnx(LogisticRegression().fit(X, X[:, 0] > 0), X[:1], target_opset=17).SerializeToString()
    with pytest.raises(InputError, match="zipmap=False"):
        register(blobs, data, name="visits", task=TASK, feature_names=["a", "b"])


@pytest.mark.parametrize(
    ("names", "sentence"), [(["a"], "another number of columns"), (["a", "b", "c"], "3 feature names")]
)
def test_names_must_fit_the_file(blobs, names, sentence):
    booster, _ = fitted()
    with pytest.raises(InputError, match=sentence):
        register(blobs, export(booster, 2, TASK), name="visits", task=TASK, feature_names=names)


def test_an_estimator_needs_real_rows(blobs):
    with pytest.raises(InputError, match="real rows of shape"):
        register(blobs, fitted()[0], name="visits", task=TASK, feature_names=["a", "b"])


def test_a_model_may_be_asked_from_several_threads(blobs):
    booster, X = fitted()
    model = OnnxModel(export(booster, 2, TASK))
    expected = model.run(X)
    wrong = []

    def ask(rows):
        wrong.extend(rows for _ in range(50) if not np.array_equal(model.run(X[rows]), expected[rows]))

    threads = [threading.Thread(target=ask, args=(slice(i, i + 5),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_row_and_many_say_the_same():
    booster, X = fitted()
    model = OnnxModel(export(booster, 2, TASK))
    alone = np.concatenate([model.run(X[i : i + 1]) for i in range(50)])
    np.testing.assert_array_equal(alone, model.run(X)[:50])


def test_rows_of_another_width_are_refused():
    booster, _ = fitted()
    with pytest.raises(InputError, match=r"\(n, 2\)"):
        OnnxModel(export(booster, 2, TASK)).run(np.zeros((1, 3), np.float32))


@pytest.fixture
def version(blobs):
    booster, X = fitted()
    return register(blobs, booster, name="visits", task=regression(target="spend"), feature_names=["a", "b"], rows=X)


def test_a_bundle_goes_through_a_directory_unchanged(blobs, version, tmp_path):
    where = export_directory(blobs, version, tmp_path / "out")
    assert sorted(path.name for path in where.iterdir()) == ["card.md", "manifest.json", "model.onnx", "plan.json"]
    other = type(blobs)()
    assert import_directory(other, where) == version
    assert load(other, version).files == load(blobs, version).files


def test_a_changed_file_in_a_directory_is_refused_and_named(blobs, version, tmp_path):
    where = export_directory(blobs, version, tmp_path / "out")
    (where / "card.md").write_text("# better\n")
    with pytest.raises(BundleCorrupt, match=r"card\.md"):
        import_directory(blobs, where)


def test_a_manifest_that_points_outside_is_refused(blobs, version, tmp_path):
    where = export_directory(blobs, version, tmp_path / "out")
    (tmp_path / "secret").write_text("s")
    manifest = json.loads((where / "manifest.json").read_text())
    manifest["files"]["../secret"] = "0" * 64
    (where / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleCorrupt, match="not in the bundle"):
        import_directory(blobs, where)


def test_a_directory_that_is_no_bundle_is_refused(blobs, tmp_path):
    with pytest.raises(InputError, match="not a bundle"):
        import_directory(blobs, tmp_path)


def test_an_existing_directory_is_not_overwritten(blobs, version, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        export_directory(blobs, version, tmp_path)
