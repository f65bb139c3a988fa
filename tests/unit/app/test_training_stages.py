"""Stages of a project through a training job: what travels, what is refused, and whose stages a champion goes through."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.e2e.live_house import MODEL, make_project

from trimtab.adapters.blobs.directory import DirectoryBlobs
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.app.jobs import TrainingOrder, held_out, read_inputs, train_job
from trimtab.app.loading import answering
from trimtab.app.results import _against
from trimtab.core.clock import DAY, instant
from trimtab.errors import BundleCorrupt, ProjectError
from trimtab.loop.outcome import Scored
from trimtab.registry.bundle import load
from trimtab.stats.metrics import evaluate, losses

END = instant("2024-03-11")
SCALING = "import numpy as np\n\ndef preprocess(values):\n    return np.log1p(np.nan_to_num(values))\n"
CALIBRATE = "def postprocess(outputs):\n    return 0.1 + 0.6 * outputs\n"
DECLARED = 'preprocess="features.scaling", postprocess="features.calibrate", holdout='


def stage(root, *, scaling=SCALING, calibrate=CALIBRATE):
    """Put stages into the small project."""
    (root / "features" / "scaling.py").write_text(scaling)
    (root / "features" / "calibrate.py").write_text(calibrate)
    text = (root / "project.py").read_text()
    (root / "project.py").write_text(text if DECLARED in text else text.replace("holdout=", DECLARED))
    read_inputs.cache_clear()
    return root


@pytest.fixture
def root(tmp_path):
    yield stage(make_project(tmp_path / "clicks", until=END))
    read_inputs.cache_clear()


def order(root, *, cutoff=END, champion=""):
    return TrainingOrder(
        project=str(root / "project.py"),
        model=MODEL,
        cutoff=cutoff,
        seed=0,
        blobs=str(root / "blobs"),
        champion=champion,
    )


def trained(root, **changes):
    return train_job(**order(root, **changes).job("one").arguments)


def by_hand(bundle, values, *, scale=0.6):
    """Stage by stage, with nothing of the platform but the model's runtime."""
    made = np.log1p(np.nan_to_num(values)).astype(np.float32)
    return 0.1 + scale * OnnxModel(bundle.model).run(made)[:, 0].astype(np.float64)


def test_what_is_judged_is_what_serves(root):
    result = trained(root)
    bundle = load(DirectoryBlobs(root / "blobs"), result["version"])
    assert (bundle.manifest.preprocess, bundle.manifest.postprocess) == ("features.scaling", "features.calibrate")
    assert bundle.modules["features.scaling"] == SCALING
    assert bundle.modules["features.calibrate"] == CALIBRATE
    tail = held_out(order(root)).holdout
    said = by_hand(bundle, tail.X)
    np.testing.assert_allclose(answering(bundle)(tail.X), said, atol=1e-7)
    assert result["metrics"] == pytest.approx(evaluate("binary", tail.y, said), abs=1e-6)
    assert result["parity"]["flipped"] == 0
    assert '- preprocess: `"features.scaling"`' in bundle.card
    assert result["p99_ms"] > 0


def test_the_same_again_is_the_same_version_and_another_stage_another(root):
    first = trained(root)["version"]
    read_inputs.cache_clear()
    assert trained(root)["version"] == first
    assert trained(stage(root, calibrate=CALIBRATE.replace("0.6", "0.7")))["version"] != first


def test_a_champion_is_scored_through_its_own_stages(root):
    first = trained(root, cutoff=END - 2 * DAY)
    stage(root, scaling="def preprocess(values):\n    return values * 2\n", calibrate=CALIBRATE.replace("0.6", "0.8"))
    second = trained(root, champion=first["version"])
    assert second["champion_skipped"] == ""
    tail = held_out(order(root)).holdout
    said = by_hand(load(DirectoryBlobs(root / "blobs"), first["version"]), tail.X)
    assert second["champion_metrics"] == pytest.approx(evaluate("binary", tail.y, said), abs=1e-6)


def test_the_version_before_in_a_report_of_a_replay_is_asked_through_its_own_stages(root):
    result = trained(root)
    tail = held_out(order(root)).holdout
    blobs = DirectoryBlobs(root / "blobs")
    staging = SimpleNamespace(
        spec=SimpleNamespace(task=SimpleNamespace(loss="log_loss")),
        home=SimpleNamespace(blobs=lambda: blobs),
        replay=SimpleNamespace(served=SimpleNamespace(features=tail.X)),
    )
    rows = np.arange(len(tail))
    half = np.full(len(tail), 0.5)
    scored = Scored(tail.at, tail.y, half, half, rows, rows)
    found = _against(staging, scored, rows, other=result["version"])
    said = by_hand(load(blobs, result["version"]), tail.X)
    assert found["mean"] == pytest.approx(float(np.mean(losses("log_loss", tail.y, said)) - np.log(2)), abs=1e-6)


def test_a_changed_byte_of_a_stage_is_refused(root):
    result = trained(root)
    blobs = DirectoryBlobs(root / "blobs")
    name = load(blobs, result["version"]).manifest.files["modules/features.calibrate.py"]
    [file] = [path for path in (root / "blobs").rglob("*") if path.name.endswith(name[4:]) or path.name == name]
    file.chmod(0o644)
    file.write_text(CALIBRATE.replace("0.6", "0.9"))
    with pytest.raises(BundleCorrupt, match=r"modules/features\.calibrate\.py is not the file that was packed"):
        load(DirectoryBlobs(root / "blobs"), result["version"])


def test_a_version_without_stages_says_nothing_of_them(root):
    text = (root / "project.py").read_text()
    (root / "project.py").write_text(text.replace(DECLARED, "holdout="))
    read_inputs.cache_clear()
    bundle = load(DirectoryBlobs(root / "blobs"), trained(root)["version"])
    assert (bundle.manifest.preprocess, bundle.manifest.postprocess) == ("", "")
    assert sorted(bundle.modules) == ["features.basket"]
    tail = held_out(order(root)).holdout
    said = OnnxModel(bundle.model).run(tail.X)[:, 0].astype(np.float64)
    np.testing.assert_array_equal(answering(bundle)(tail.X), said)


def test_one_module_may_be_both_and_change_the_matrix_it_is_given(root):
    both = "def preprocess(values):\n    values[:, 0] = 0\n    return values\n\n\ndef postprocess(outputs):\n    return 1 - outputs\n"
    stage(root, scaling=both)
    text = (root / "project.py").read_text()
    (root / "project.py").write_text(text.replace("features.calibrate", "features.scaling"))
    read_inputs.cache_clear()
    bundle = load(DirectoryBlobs(root / "blobs"), trained(root)["version"])
    assert "features.scaling" in bundle.modules
    tail = held_out(order(root)).holdout
    kept = tail.X.copy()
    answering(bundle)(tail.X)
    np.testing.assert_array_equal(tail.X, kept)


def test_a_training_with_a_stage_that_cannot_be_read_says_so(root):
    (root / "features" / "scaling.py").unlink()
    read_inputs.cache_clear()
    with pytest.raises(ProjectError, match=r"names no module of the project: 'features\.scaling'"):
        trained(root)
