"""Int8 variants of a version with its own code before and after the model."""

import itertools

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from tests.unit.registry.memory import MemoryBlobs

from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.quantise import quantise
from trimtab.adapters.models.register import register
from trimtab.registry.bundle import load
from trimtab.stats.metrics import evaluate
from trimtab.training.task import binary

pytest.importorskip("onnxruntime.quantization")
ROWS = np.random.default_rng(0).gamma(2.0, 2000.0, (600, 8)).astype(np.float32)
LABELS = (np.log(ROWS[:, 0]) > np.log(ROWS[:, 1])).astype(float)
STAGES = {
    "preprocess": "import numpy as np\n\ndef preprocess(values):\n    return np.log1p(values) - 8\n",
    "postprocess": "def postprocess(outputs):\n    return 0.2 + 0.6 * outputs\n",
}


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_it_is_calibrated_compared_and_measured_through_its_stages(mode):
    blobs = MemoryBlobs()
    net = MLPClassifier((32,), max_iter=90, tol=1.0, n_iter_no_change=60, random_state=0).fit(
        np.log1p(ROWS[:400]) - 8, LABELS[:400]
    )
    version = register(
        blobs,
        net,
        name="net",
        task=binary(positive="yes"),
        feature_names=[f"f{n}" for n in range(8)],
        rows=ROWS,
        stages=STAGES,
    )
    found = quantise(
        blobs,
        version,
        mode=mode,
        rows=ROWS[400:],
        labels=LABELS[400:],
        calibration=ROWS[:400],
        timer=itertools.count(0, 1_000_000).__next__,
    )
    made = load(blobs, found.after.version)
    assert (made.manifest.preprocess, made.manifest.postprocess) == ("preprocess", "postprocess")
    for measured in (found.before, found.after):
        model = OnnxModel(load(blobs, measured.version).model)
        said = 0.2 + 0.6 * model.run((np.log1p(ROWS[400:]) - 8).astype(np.float32))[:, 0].astype(np.float64)
        assert 0.2 <= said.min() < said.max() <= 0.8
        assert measured.metrics == pytest.approx(evaluate("binary", LABELS[400:], said), abs=1e-6)
    assert found.before.metrics["roc_auc"] > 0.8
    assert abs(found.after.metrics["roc_auc"] - found.before.metrics["roc_auc"]) < 0.03
    assert 0 < found.difference.largest_difference < 0.1
