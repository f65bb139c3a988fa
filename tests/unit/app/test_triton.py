"""A version as a model repository of Triton: read back as Triton reads it, and run stage by stage beside our own pipeline."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from google.protobuf import json_format, text_format
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.unit.models.test_onnx_file import classifier, net
from tests.unit.models.test_tensors import TYPES as ONNX_TYPES
from tests.unit.models.test_tensors import echo, graph, mixed
from tests.unit.registry.memory import MemoryBlobs
from tritonclient.grpc import model_config_pb2 as pb

from trimtab import app
from trimtab.adapters.models.register import register
from trimtab.app.alone import register_model
from trimtab.app.batches import NoRows
from trimtab.app.home import Home
from trimtab.app.loading import live_pipeline, load_deployed
from trimtab.app.registering import register_handler
from trimtab.cli.main import trimtab
from trimtab.errors import InputError, UnknownName
from trimtab.features.batch import FeatureBatch
from trimtab.registry.bundle import load
from trimtab.registry.manifest import Tensor
from trimtab.serving.profile import ModelProfile, ServingProfile, encode_profile
from trimtab.serving.triton import FileTensor, OnnxFile, quoted, repository
from trimtab.training.task import binary, multiclass, regression

TWICE = """
import numpy as np
from dataclasses import dataclass


@dataclass
class Factor:
    value: float = 2.0


def preprocess(values):
    values[:, 0] *= Factor().value  # in place, as it may
    return np.nan_to_num(values)
"""
HALF = "def postprocess(outputs):\n    return outputs[:, 0].astype('float64') / 3\n"
FAILS = "def postprocess(outputs):\n    if outputs.max() > 0.9:\n        raise KeyError('no \"such\" row')\n    return outputs\n"
TASKS = {
    "binary": binary(positive="yes"),
    "three": multiclass(classes=["x", "y", "z"]),
    "number": regression(target="p"),
}


def registered(home, data, *, task="binary", columns=("a", "b"), name="buys", **code):
    """A version of an ONNX file, with code around it by stage."""
    files = {stage: home.parent / f"{stage}.own.py" for stage in code}
    for stage, path in files.items():
        path.write_text(code[stage], "utf-8")
    return register_model(home, data, name=name, task=TASKS[task], columns=columns, stages=files)


def exported(home, version, directory, **more):
    return app.export(home.parent, version, triton=directory, home=home, **more)


def config_of(directory, model):
    """The configuration of a model, read by Triton's own message; its name must be that of its directory."""
    found = text_format.Parse((directory / model / "config.pbtxt").read_text("ascii"), pb.ModelConfig())
    assert found.name == model
    return found


def session_of(directory, model, number=1):
    return onnxruntime.InferenceSession(
        directory / model / str(number) / "model.onnx", providers=["CPUExecutionProvider"]
    )


def assert_as_in_the_file(config, session, *, outputs=None):
    """Names, types and dims are those of the ONNX file; Triton's dims leave the rows out."""
    for ports, tensors in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        there = {one.name: one for one in tensors}
        assert sorted(port.name for port in ports) == sorted(
            set(there) if ports is config.input or not outputs else outputs
        )
        for port in ports:
            tensor = there[port.name]
            elements = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(float16)": "FP16"}
            said = elements.get(tensor.type, tensor.type.removeprefix("tensor(").removesuffix(")").upper())
            assert pb.DataType.Name(port.data_type) == f"TYPE_{said}"
            assert not isinstance(tensor.shape[0], int)
            dims = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
            assert list(port.dims) == (dims or [1])
            assert port.HasField("reshape") == (not dims)
            assert list(port.reshape.shape) == []


# -- a stand-in for what Triton's Python backend puts in the way of a model


class StandInTensor:
    def __init__(self, name, values):
        self._name, self._values = name, values

    def name(self):
        return self._name

    def as_numpy(self):
        return self._values


class StandInResponse:
    def __init__(self, output_tensors, error=None):
        self.output_tensors, self.error = output_tensors, error


@pytest.fixture
def backend(monkeypatch):
    """Loads the model.py of a stage as Triton does, with the configuration that Triton parsed."""
    utils = types.ModuleType("triton_python_backend_utils")
    utils.Tensor, utils.InferenceResponse = StandInTensor, StandInResponse
    utils.TritonError = str
    utils.get_input_tensor_by_name = lambda request, name: next((one for one in request if one.name() == name), None)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)

    def started(directory, model, number=1):
        spec = importlib.util.spec_from_file_location(f"stage_{model}", directory / model / str(number) / "model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        stage = module.TritonPythonModel()
        config = json_format.MessageToJson(config_of(directory, model), preserving_proto_field_name=True)
        stage.initialize({"model_config": config, "model_name": model})
        return stage

    yield started
    for name in ("trimtab_preprocess", "trimtab_postprocess"):
        sys.modules.pop(name, None)


def frozen(values):
    values.setflags(write=False)  # Triton's tensors are its own memory
    return values


class Ensemble:
    """Runs an ensemble's steps as its configuration says: Python stages in the stand-in, the model in ONNX Runtime."""

    def __init__(self, directory, model, backend, number=1):
        self.config = config_of(directory, model)
        assert (directory / model / str(number)).is_dir()
        self.steps = []
        for step in self.config.ensemble_scheduling.step:
            config = config_of(directory, step.model_name)
            assert config.max_batch_size == self.config.max_batch_size
            assert set(step.input_map) == {port.name for port in config.input}
            assert set(step.output_map) <= {port.name for port in config.output}
            run = (
                backend(directory, step.model_name, number)
                if config.backend == "python"
                else session_of(directory, step.model_name, number)
            )
            self.steps.append((step, config, run))

    def ask(self, *requests):
        """The answers to requests of (n, columns) rows each, or the error of each."""
        [entry], [leaving] = self.config.input, self.config.output
        held = [{entry.name: frozen(np.array(rows, np.float32))} for rows in requests]
        for step, config, run in self.steps:
            for values, found in zip(held, self._outputs(step, config, run, held), strict=True):
                values.update(found)
        return [values.get(leaving.name, values.get("error")) for values in held]

    def _outputs(self, step, config, run, held):
        if config.backend == "onnxruntime":
            [(there, name)], outputs = step.input_map.items(), dict(step.output_map)
            for values in held:
                said = run.run(list(outputs), {there: values[name]})
                # Without dims of its own, a number a row is passed on as one column.
                yield {outputs[key]: block.reshape(len(block), -1) for key, block in zip(outputs, said, strict=True)}
            return
        requests = [[StandInTensor(there, values[name]) for there, name in step.input_map.items()] for values in held]
        for response in run.execute(requests):
            made = {step.output_map[one.name()]: frozen(one.as_numpy()) for one in response.output_tensors}
            assert all(block.dtype == np.float32 and block.flags.c_contiguous for block in made.values())
            yield {"error": response.error} if response.error else made
        run.finalize()


def our_answers(home, version, rows):
    """What the pipeline that serves says of rows, shape (n, outputs)."""
    ready = load_deployed(Home(home).blobs(), NoRows(), version)
    values = np.array(rows, np.float32)
    found = live_pipeline().score(ready, FeatureBatch(values, np.empty((len(values), 0), np.float32), {}, ()))
    return found.reshape(len(values), -1)


# -- one model


@pytest.mark.parametrize(("data", "task"), [(lambda: net("Softmax"), "three"), (classifier, "binary")])
def test_an_onnx_version_is_one_model_with_the_tensors_of_its_file(tmp_path, data, task):
    data, home, out = data(), tmp_path / "served", tmp_path / "out"
    version = registered(home, data, task=task)
    result = exported(home, version[:8], out)
    assert result["models"] == [{"name": "buys", "backend": "onnxruntime"}]
    assert (result["version"], result["number"], result["written"]) == (version, None, True)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == result["files"] == ["buys/1/model.onnx", "buys/config.pbtxt"]
    assert (out / "buys" / "1" / "model.onnx").read_bytes() == data
    config = config_of(out, "buys")
    assert (config.backend, config.platform, config.max_batch_size) == ("onnxruntime", "", 64)
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.parameters["trimtab_version"].string_value == version
    assert_as_in_the_file(config, session_of(out, "buys"))


def test_the_deployment_profile_says_how_triton_batches(tmp_path):
    home = tmp_path / "served"
    version = registered(home, net("Softmax"), task="three")
    profile = ServingProfile({"buys": ModelProfile(max_batch=256, max_wait_ms=1.5, threads=3)})
    (home / "serving.json").write_bytes(encode_profile(profile))
    assert exported(home, version, tmp_path / "out")["max_batch_size"] == 256
    config = config_of(tmp_path / "out", "buys")
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (256, 1500)
    assert config.parameters["intra_op_thread_count"].string_value == "3"


@pytest.mark.parametrize("dtype", sorted(ONNX_TYPES))
def test_every_type_is_said_in_tritons_words(tmp_path, dtype):
    version = register_model(tmp_path / "served", echo(dtype), name="m")
    exported(tmp_path / "served", version, tmp_path / "out")
    assert_as_in_the_file(config_of(tmp_path / "out", "m"), session_of(tmp_path / "out", "m"))


def test_several_tensors_and_one_without_dims_of_its_own(tmp_path):
    version = register_model(tmp_path / "served", mixed(), name="m")
    exported(tmp_path / "served", version, tmp_path / "out")
    config = config_of(tmp_path / "out", "m")
    assert {port.name for port in config.input} == {"image", "code", "flag"}
    assert_as_in_the_file(config, session_of(tmp_path / "out", "m"))


def test_an_input_that_the_file_leaves_open_is_as_it_was_registered(tmp_path):
    data = echo("float32", ("n", "length", 3))
    signature = ((Tensor("x", "float32", (-1, 5, 3)),), (Tensor("y", "float32", (-1, 5, 3)),))
    version = register_model(tmp_path / "served", data, name="m", signature=signature)
    exported(tmp_path / "served", version, tmp_path / "out")
    config = config_of(tmp_path / "out", "m")
    assert [list(port.dims) for port in config.input] == [[5, 3]]
    assert [list(port.dims) for port in config.output] == [[-1, 3]]  # Triton compares outputs exactly


def test_only_the_outputs_that_were_registered_go(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("y", "unwanted")]
    shape = ("n", 2)
    data = graph(nodes, [("x", "float32", shape)], [("y", "float32", shape), ("unwanted", "float32", shape)])
    signature = ((Tensor("x", "float32", (-1, 2)),), (Tensor("y", "float32", (-1, 2)),))
    version = register_model(tmp_path / "served", data, name="m", signature=signature)
    exported(tmp_path / "served", version, tmp_path / "out")
    assert_as_in_the_file(config_of(tmp_path / "out", "m"), session_of(tmp_path / "out", "m"), outputs=["y"])


EVIL = 'x" } ] backend: "python" input [ { name: "\\\n\té☃'


def test_a_tensor_cannot_write_into_the_configuration(tmp_path):
    shape = ("n", 2)
    data = graph([helper.make_node("Identity", [EVIL], ["y"])], [(EVIL, "float32", shape)], [("y", "float32", shape)])
    version = register_model(tmp_path / "served", data, name="m")
    exported(tmp_path / "served", version, tmp_path / "out")
    config = config_of(tmp_path / "out", "m")
    assert ([port.name for port in config.input], config.backend) == ([EVIL], "onnxruntime")


@given(st.text())
def test_any_text_comes_back_from_the_text_format(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a character is no text for protobuf
    assert text_format.Parse(f"name: {quoted(text)}", pb.ModelConfig()).name == text


# -- an ensemble


def of_open_width():
    """Probabilities of two classes, of which the file does not say how many they are."""
    node = helper.make_node("Softmax", ["x"], ["y"])
    return graph([node], [("x", "float32", ("n", 2))], [("y", "float32", ("n", "k"))])


def one_number():
    """One number a row, and no axis for it."""
    node = helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)
    axis = helper.make_node("Constant", [], ["axis"], value_ints=[1])
    return graph([axis, node], [("x", "float32", ("n", 2))], [("y", "float32", ("n",))])


ROWS = np.random.default_rng(5).normal(size=(97, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("data", "task", "code", "stages"),
    [
        (
            classifier,
            "binary",
            {"preprocess": TWICE, "postprocess": HALF},
            ["preprocessing", "model", "postprocessing"],
        ),
        (classifier, "binary", {"preprocess": TWICE}, ["preprocessing", "model", "postprocessing"]),
        (classifier, "binary", {"postprocess": HALF}, ["model", "postprocessing"]),
        (lambda: net("Softmax"), "three", {"preprocess": TWICE}, ["preprocessing", "model"]),
        (lambda: net("Identity", outputs=1), "number", {"preprocess": TWICE, "postprocess": HALF}, None),
        (of_open_width, "binary", {"preprocess": TWICE}, ["preprocessing", "model", "postprocessing"]),
        (one_number, "number", {"preprocess": TWICE}, ["preprocessing", "model"]),
        (one_number, "number", {"postprocess": HALF}, ["model", "postprocessing"]),
    ],
)
def test_an_ensemble_answers_what_we_answer(tmp_path, backend, data, task, code, stages):
    home, out = tmp_path / "served", tmp_path / "out"
    version = registered(home, data(), task=task, **code)
    result = exported(home, version, out)
    ensemble = Ensemble(out, "buys", backend)
    assert (ensemble.config.platform, ensemble.config.backend) == ("ensemble", "")
    names = [f"buys_{stage}" for stage in stages or ["preprocessing", "model", "postprocessing"]]
    assert [step.model_name for step in ensemble.config.ensemble_scheduling.step] == names
    assert [one["name"] for one in result["models"]] == ["buys", *names]
    assert sorted(path.name for path in out.iterdir()) == sorted(["buys", *names])
    [onnx] = [config for _, config, _ in ensemble.steps if config.backend == "onnxruntime"]
    assert_as_in_the_file(onnx, session_of(out, "buys_model"), outputs=[onnx.output[0].name])
    manifest = load(Home(home).blobs(), version).manifest
    for ports, tensors in ((ensemble.config.input, manifest.inputs), (ensemble.config.output, manifest.outputs)):
        assert [(one.name, pb.DataType.Name(one.data_type), tuple(one.dims)) for one in ports] == [
            (tensor.name, "TYPE_FP32", tensor.shape[1:]) for tensor in tensors
        ]
    rows = ROWS.copy()
    if "preprocess" in code:
        rows[3, 1] = np.nan
    pieces = [rows[:1], rows[1:40], rows[40:]]
    answers = ensemble.ask(*pieces)
    ours = np.concatenate([our_answers(home, version, piece) for piece in pieces])
    assert [len(answer) for answer in answers] == [1, 39, 57]
    np.testing.assert_array_equal(np.concatenate(answers), ours.astype(np.float32))
    assert len(np.unique(ours)) > 50


def test_a_row_that_fails_does_not_harm_its_neighbours(tmp_path, backend):
    home, out = tmp_path / "served", tmp_path / "out"
    version = registered(home, net("Softmax"), task="three", postprocess=FAILS.replace("0.9", "0.5"))
    exported(home, version, out)
    good, bad = np.zeros((2, 2)), np.full((2, 2), 60.0)
    first, failed, last = Ensemble(out, "buys", backend).ask(good, bad, good)
    np.testing.assert_array_equal(first, our_answers(home, version, good).astype(np.float32))
    assert isinstance(failed, str)
    assert failed.startswith("the postprocess code failed: KeyError: ")
    np.testing.assert_array_equal(first, last)


@pytest.mark.parametrize("code", ["return outputs[:-1]", "return outputs[:, :2]", "return outputs[None]"])
def test_answers_of_another_shape_are_an_error_and_no_answer(tmp_path, backend, code):
    home, out = tmp_path / "served", tmp_path / "out"
    version = registered(
        home, net("Softmax"), task="three", postprocess="def postprocess(outputs):\n    return outputs\n"
    )
    exported(home, version, out)
    (out / "buys_postprocessing" / "1" / "postprocess.py").write_text(f"def postprocess(outputs):\n    {code}\n")
    [said] = Ensemble(out, "buys", backend).ask(np.zeros((4, 2)))
    assert said.startswith("the postprocess code failed: ValueError: it gave shape")


# -- what does not go


def test_a_handler_stays_here(tmp_path):
    (tmp_path / "handler.py").write_text("def handle(data, context):\n    return [0.5 for _ in data]\n")
    version = register_handler(
        tmp_path / "served", tmp_path / "handler.py", name="h", task=TASKS["binary"], columns=["a"]
    )
    with pytest.raises(InputError, match="a process of its own") as refused:
        exported(tmp_path / "served", version, tmp_path / "out")
    assert refused.value.got == "a handler model"
    assert refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_directory_with_something_else_is_left_alone(tmp_path):
    home, out = tmp_path / "served", tmp_path / "out"
    version = registered(home, net("Softmax"), task="three")
    out.mkdir()
    assert exported(home, version, out)["written"]  # an empty one is free
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert not exported(home, version, out)["written"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        exported(home, version, out)
    with pytest.raises(InputError, match="must be a directory"):
        exported(home, version, out / "notes.txt")
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "served"]


def test_nothing_half_written_stays_behind(tmp_path, monkeypatch):
    home = tmp_path / "served"
    version = registered(home, net("Softmax"), task="three")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    done = run(tmp_path, version, "--triton", str(tmp_path / "deep" / "out"), "--home", str(home))
    assert (done.exit_code, "No space left" in done.stderr) == (1, True)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_repository_may_be_read_by_another_user(tmp_path):
    home, out = tmp_path / "served", tmp_path / "out"
    exported(home, registered(home, net("Softmax"), task="three"), out)
    (tmp_path / "plain").mkdir()
    assert {path.stat().st_mode for path in (out, out / "buys")} == {(tmp_path / "plain").stat().st_mode}


def test_a_foreign_name_makes_no_path(tmp_path):
    from trimtab.registry.bundle import pack

    home = tmp_path / "served"
    blobs = Home(home).made().blobs()
    bundle = load(blobs, registered(home, net("Softmax"), task="three"))
    for name in ("../../x", "a/b", 'a" backend: "b', ""):
        version = pack(blobs, bundle.files, manifest=msgspec.structs.replace(bundle.manifest, model=name))
        with pytest.raises(InputError, match="not a name of a model"):
            exported(home, version, tmp_path / "out")


def test_a_file_with_an_output_that_is_no_tensor_is_refused():
    outputs = (FileTensor("y", "tensor(float)", (None, 1)), FileTensor("z", "seq(map(int64,tensor(float)))", ()))
    file = OnnxFile((FileTensor("x", "tensor(float)", (None, 2)),), outputs)
    blobs = MemoryBlobs()
    bundle = load(blobs, register(blobs, net("Softmax"), name="m", task=TASKS["three"], feature_names=["a", "b"]))
    with pytest.raises(InputError, match="'z' is no tensor"):
        repository(bundle, file, ModelProfile(), number=1, code=b"")


def test_an_output_without_rows_is_refused(tmp_path):
    node = helper.make_node("ReduceSum", ["y0"], ["total"], keepdims=0)
    data = helper.make_model(
        helper.make_graph(
            [helper.make_node("Softmax", ["x"], ["y0"]), helper.make_node("Identity", ["y0"], ["y"]), node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
            [
                helper.make_tensor_value_info("total", TensorProto.FLOAT, []),
                helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString()
    version = registered(tmp_path / "served", data, task="three", columns=("a", "b", "c"))
    with pytest.raises(InputError, match="'total' has no open first axis"):
        exported(tmp_path / "served", version, tmp_path / "out")


# -- the command


def run(folder, *arguments):
    return CliRunner().invoke(trimtab, ["export", *arguments, "-p", str(folder)])


def test_the_command_says_what_it_wrote(tmp_path):
    home, out = tmp_path / "served", tmp_path / "out"
    version = registered(home, classifier(), preprocess=TWICE)
    done = run(tmp_path, version[:12], "--triton", str(out), "--home", str(home), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["models"][0] == {"name": "buys", "backend": "ensemble"}
    assert sorted(told["files"]) == sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    again = run(home, version[:12], "--triton", str(out))
    assert (again.exit_code, "written: no" in again.stdout) == (0, True)


@pytest.mark.parametrize("given", ["1", "00000000", "x"])
def test_a_version_that_is_not_there_ends_with_2(tmp_path, given):
    registered(tmp_path / "served", net("Softmax"), task="three")
    done = run(tmp_path / "served", given, "--triton", str(tmp_path / "out"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "no such version" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_model_that_was_named_must_be_its(tmp_path):
    version = registered(tmp_path / "served", net("Softmax"), task="three")
    with pytest.raises(UnknownName, match="another model"):
        exported(tmp_path / "served", version, tmp_path / "out", model="other")
