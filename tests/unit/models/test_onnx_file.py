"""An ONNX file is asked before it is a version: one that does not say what its task means is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from tests.unit.registry.memory import MemoryBlobs

from trimtab.adapters.models.register import register
from trimtab.errors import InputError
from trimtab.training.task import binary, multiclass, regression

CHANCE = binary(positive="yes")
THREE = multiclass(classes=["x", "y", "z"])
NUMBER = regression(target="price")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 2)).astype(np.float32)


def net(last, *, outputs=3, rows="n", slope_rows=2, scale=0.3):
    """``last(x @ w)`` of two columns; with ``slope_rows`` other than 2 it fails when it is run."""
    slope = np.linspace(-scale, scale, slope_rows * outputs, dtype=np.float32).reshape(slope_rows, outputs)
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Reshape", ["same", "shape"], ["open"]),
            helper.make_node("MatMul", ["open", "w"], ["z"]),
            helper.make_node(last, ["z"], ["y"]),
        ],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, outputs])],
        [numpy_helper.from_array(slope, "w"), numpy_helper.from_array(np.array([-1, slope_rows], np.int64), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def classifier():
    from skl2onnx import to_onnx

    estimator = LogisticRegression().fit(X, X[:, 0] > 0)
    return to_onnx(estimator, X[:1], options={"zipmap": False}, target_opset=17).SerializeToString()


def registered(data, task, **more):
    return register(MemoryBlobs(), data, name="m", task=task, feature_names=["a", "b"], **more)


@pytest.mark.parametrize(
    ("data", "task"),
    [
        (lambda: net("Identity", outputs=1), CHANCE),
        (lambda: net("Identity", outputs=1, scale=1e-5), CHANCE),
        (lambda: net("Identity", outputs=2), CHANCE),
        (lambda: net("Identity"), THREE),
    ],
)
def test_numbers_are_no_probabilities(data, task):
    with pytest.raises(InputError, match="gives no probabilities") as refused:
        registered(data(), task)
    assert "300 generated rows" in refused.value.got
    assert "--task regression" in refused.value.hint


def test_a_sigmoid_for_each_class_does_not_add_up_to_one():
    with pytest.raises(InputError, match="do not add up to 1"):
        registered(net("Sigmoid"), THREE)


@pytest.mark.parametrize(
    ("data", "task"),
    [
        (lambda: net("Sigmoid", outputs=1), CHANCE),
        (lambda: net("Softmax", outputs=2), CHANCE),
        (lambda: net("Softmax"), THREE),
        (lambda: net("Identity", outputs=1), NUMBER),
        (lambda: net("Identity"), regression(target=["a", "b", "c"])),
        (lambda: net("Identity", outputs=2), regression(target=["a", "b"])),
        (classifier, CHANCE),
    ],
)
def test_what_answers_as_its_task_says_is_registered(data, task):
    made = data()
    assert registered(made, task) == registered(made, task)


def test_given_rows_are_what_counts():
    """Within the unit square this line stays between 0 and 1; nobody asks it elsewhere."""
    rows = RNG.uniform(0.2, 0.3, size=(50, 2)).astype(np.float32)
    data = net("Abs", outputs=1)
    registered(data, CHANCE, rows=rows)
    with pytest.raises(InputError, match="gives no probabilities") as refused:
        registered(data, CHANCE, rows=rows * 1000)
    assert "50 given rows" in refused.value.got
    with pytest.raises(InputError, match="the rows do not fit the columns"):
        registered(data, CHANCE, rows=rows[:, :1])


@pytest.mark.parametrize("data", [classifier, lambda: net("Softmax", outputs=2)])
def test_a_classifier_is_no_regression(data):
    with pytest.raises(InputError, match=r"is a classifier|one number"):
        registered(data(), NUMBER)


def test_a_model_that_takes_whole_numbers_of_a_table_is_asked_zeros():
    """A generated row names places that the table does not have."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "i"], ["found"]),
            helper.make_node("ReduceMean", ["found"], ["p"], axes=[1], keepdims=1),
        ],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([0.1, 0.9], np.float32), "table")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    registered(made, CHANCE)


@pytest.mark.parametrize("names", [["a", "b"], []])
def test_weights_in_another_file_are_told_and_how_to_save_them(tmp_path, names, monkeypatch, capfd):
    model = onnx.load_from_string(net("Softmax"))
    place = tmp_path / "big.onnx"
    onnx.save_model(model, str(place), save_as_external_data=True, size_threshold=0, location="big.weights")
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime would find them, and a worker would not
    with pytest.raises(InputError, match="lie in another file") as refused:
        register(MemoryBlobs(), place.read_bytes(), name="m", task=THREE if names else None, feature_names=names)
    assert refused.value.got == "'big.weights'"
    assert "save_as_external_data=False" in refused.value.hint
    assert capfd.readouterr().err == ""
    onnx.save_model(onnx.load(str(place)), str(tmp_path / "one.onnx"), save_as_external_data=False)
    registered((tmp_path / "one.onnx").read_bytes(), THREE)


@pytest.mark.parametrize("shape", [["n"], ["n", 2, 2], []])
def test_a_matrix_has_two_axes(shape):
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["y"])],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    with pytest.raises(InputError, match="does not take one float32 matrix"):
        registered(data, CHANCE)
