"""PyTorch modules: exported as they are in eval mode, refused when they say something else than the task."""

import numpy as np
import onnx
import pytest

from trimtab.adapters.models.export import OnnxExporter, export
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.errors import InputError
from trimtab.training.task import binary, multiclass, regression

torch = pytest.importorskip("torch", reason="PyTorch is not among the pinned packages: make torch")
nn = torch.nn

BINARY, NUMBER = binary(positive="late"), regression(target="delay")
THREE, PAIR = multiclass(classes=["a", "b", "c"]), regression(target=["x", "y"])


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


def net(*last, outputs=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, outputs), *last
    )


@pytest.mark.parametrize(
    ("module", "task"),
    [
        (net(nn.Sigmoid()), BINARY),
        (net(nn.Sigmoid(), nn.Flatten(0)), BINARY),
        (net(), NUMBER),
        (net(nn.Softmax(dim=1), outputs=3), THREE),
        (net(outputs=2), PAIR),
    ],
    ids=["binary", "binary-flat", "number", "classes", "numbers"],
)
def test_a_module_agrees_in_any_batch(module, task, rows):
    module.train()
    exported = OnnxExporter().export(module, rows, task=task)
    assert exported.parity.share_beyond == 0.0
    assert module.training, "it is left as it was"
    np.testing.assert_allclose(exported.predict(rows[:1]), exported.predict(rows)[:1], atol=1e-6)
    model = onnx.load_model_from_string(exported.data)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    assert exported.libraries["torch"].startswith("2.")


def test_equal_modules_give_equal_bytes():
    assert export(net(), 4, NUMBER) == export(net(), 4, NUMBER)


def test_a_net_without_its_sigmoid_is_refused(rows):
    with pytest.raises(InputError, match="no probabilities"):
        OnnxExporter().export(net(), rows * 9, task=BINARY)


def test_a_net_with_a_sigmoid_for_each_class_is_refused(rows):
    with pytest.raises(InputError, match="do not add up"):
        OnnxExporter().export(net(nn.Sigmoid(), outputs=3), rows, task=THREE)


def test_a_net_of_another_width_is_refused():
    with pytest.raises(InputError, match="another number of outputs"):
        export(net(outputs=2), 4, NUMBER)


def test_two_numbers_are_not_taken_for_probabilities(rows):
    said = OnnxModel(export(net(outputs=2), 4, PAIR), outputs=2).run(rows)
    assert said.shape == (200, 2)


class Odd(nn.Module):
    def forward(self, rows):
        return torch.linalg.eigvals(rows[:, :4, None] * rows[:, None, :4]).real[:, :1]


def test_an_operator_without_an_onnx_form_is_refused():
    with pytest.raises(InputError, match="PyTorch cannot export"):
        export(Odd(), 4, NUMBER)
