"""Int8-dynamic: what a row is answered depends on that row only, whoever is in its batch."""

import itertools

import numpy as np
import pytest
from google.protobuf import text_format
from onnx import helper
from sklearn.neural_network import MLPClassifier
from tests.unit.models.test_tensors import graph
from tritonclient.grpc import model_config_pb2 as pb

from trimtab import app
from trimtab.adapters.models.onnx_runtime import OnnxModel, ranges_over_batch
from trimtab.adapters.models.onnx_tensors import OnnxTensors, open_model
from trimtab.adapters.models.quantise import quantise
from trimtab.app.alone import register_model
from trimtab.app.home import Home
from trimtab.app.loading import answering
from trimtab.registry.bundle import load
from trimtab.registry.manifest import Tensor
from trimtab.serving.profile import ModelProfile, ServingProfile, encode_profile
from trimtab.training.task import binary

pytest.importorskip("onnxruntime.quantization")
ROWS = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0).astype(float)
EXTREME = np.full((1, 8), 3000, np.float32)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("quantised") / "home"


@pytest.fixture(scope="module")
def made(home):
    """By mode, what was made of one net."""
    net = MLPClassifier((32, 32), max_iter=60, tol=1.0, n_iter_no_change=20, random_state=0).fit(ROWS, LABELS)
    version = register_model(home, net, name="m", task=binary(positive="yes"), columns=list("abcdefgh"), rows=ROWS)
    common = {"rows": ROWS, "calibration": ROWS, "timer": itertools.count(0, 1_000_000).__next__}
    return {mode: quantise(Home(home).blobs(), version, mode=mode, **common) for mode in ("dynamic", "static")}


def same_alone_and_in_company(ask):
    alone = np.concatenate([ask(ROWS[at : at + 1]) for at in range(60)])
    together = ask(np.concatenate([EXTREME, ROWS[:60], -EXTREME]))[1:-1]
    return alone.tobytes() == together.tobytes()


def test_an_extreme_neighbour_changes_no_answer(home, made):
    bundle = load(Home(home).blobs(), made["dynamic"].after.version)
    runtime = open_model(bundle.manifest, bundle.model)
    assert isinstance(runtime, OnnxModel)
    assert same_alone_and_in_company(runtime.run)
    assert same_alone_and_in_company(answering(bundle))
    assert runtime.note == "cpu, row by row"


def test_what_was_measured_is_what_rows_are_answered_alone(home, made):
    blobs, found = Home(home).blobs(), made["dynamic"]
    before, after = (answering(load(blobs, one.version)) for one in (found.before, found.after))
    gaps = [float(abs(after(row[None]) - before(row[None]))[0]) for row in ROWS]
    assert found.difference.largest_difference == pytest.approx(max(gaps), abs=1e-6)


def test_ranges_that_are_fixed_let_rows_run_together(home, made):
    bundle = load(Home(home).blobs(), made["static"].after.version)
    assert not ranges_over_batch(bundle.model)
    assert open_model(bundle.manifest, bundle.model).note == "cpu"


def test_several_tensors_are_run_row_by_row_too():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        helper.make_node("Identity", ["code"], ["same"]),
    ]
    inputs = [("x", "float32", ("n", 7)), ("code", "int64", ("n",))]
    outputs = [("y", "float32", ("n", 7)), ("same", "int64", ("n",))]
    taken, given = (tuple(Tensor(n, d, (-1, *s[1:])) for n, d, s in found) for found in (inputs, outputs))
    runtime = OnnxTensors(graph(nodes, inputs, outputs), inputs=taken, outputs=given)
    whole = np.column_stack([ROWS[:, :7], np.arange(len(ROWS))]).astype(np.float32)
    alone = np.concatenate([runtime.run(whole[at : at + 1]) for at in range(20)])
    together = runtime.run(np.concatenate([EXTREME, whole[:20]]))[1:]
    assert alone.tobytes() == together.tobytes()


def test_triton_takes_one_row_at_a_time(home, made, tmp_path):
    profile = ServingProfile({"m": ModelProfile(max_batch=256, max_wait_ms=1.5)})
    (home / "serving.json").write_bytes(encode_profile(profile))
    for mode, most in (("dynamic", 1), ("static", 256)):
        out = tmp_path / mode
        found = app.export(home.parent, made[mode].after.version, triton=out, home=home)
        config = text_format.Parse((out / "m" / "config.pbtxt").read_text("ascii"), pb.ModelConfig())
        assert found["max_batch_size"] == config.max_batch_size == most
