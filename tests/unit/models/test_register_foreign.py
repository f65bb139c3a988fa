"""Handlers and pyfunc models become versions, and a version is served through the pipeline like any other."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from tests.unit.models.test_isolated import until
from tests.unit.serving.parts import MemoryRecords

import trimtab as tt
from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.models.foreign import decode_foreign, own_files, read_directory
from trimtab.app.home import Home
from trimtab.app.loading import Runtimes, load_deployed
from trimtab.app.registering import register_handler, register_onnx, register_pyfunc
from trimtab.cli.main import trimtab
from trimtab.errors import BundleCorrupt, InputError, MissingExtra, ModelFailed
from trimtab.registry.bundle import load
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.engine import Engine
from trimtab.serving.pipeline import Pipeline
from trimtab.serving.residency import Residency
from trimtab.serving.routing import Arm, Route, RouteTable

NUMBER, CHANCE = tt.regression(target="price"), tt.binary(positive="yes")
HANDLER = """
class Price:
    def initialize(self, context):
        with open(context.system_properties["model_dir"] + "/factor.txt") as file:
            self.factor = float(file.read())
    def preprocess(self, data):
        return [one["body"] for one in data]
    def inference(self, rows):
        if any(row["size"] == 13 for row in rows):
            raise LookupError("no house has 13 rooms")
        return [self.factor * row["size"] + (row["age"] or 0.0) for row in rows]
    def postprocess(self, outputs):
        return outputs
"""


@pytest.fixture
def directory(tmp_path):
    place = tmp_path / "price"
    (place / "deep").mkdir(parents=True)
    (place / "handler.py").write_text(HANDLER)
    (place / "factor.txt").write_text("3")
    (place / "deep" / "note.txt").write_text("read by nobody")
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "x.pyc").write_bytes(b"\0")
    return place


def register(tmp_path, directory, **more):
    given = {"name": "price", "task": NUMBER, "columns": ["size", "age"], "optional": ["age"]} | more
    return register_handler(tmp_path / "home", directory, **given)


def dispatcher(home, version, runtimes=None, model="price"):
    place = Home(home)
    place.online().close()
    rows = place.online(readonly=True)
    runtimes = runtimes or Runtimes(scratch=place.run / "models")
    engine = Engine(Pipeline(lambda: 0))
    table = RouteTable(1, {model: Route(model, (Arm("champion", version, 1.0),))})
    error = engine.swap(table, lambda one: load_deployed(place.blobs(), rows, one, runtimes=runtimes))
    assert error is None, error
    return Dispatcher(engine, MemoryRecords(), clock=SystemClock(), new_id=lambda: "r")


def ask(serving, *bodies, model="price"):
    found = []
    for body in bodies:
        serving.submit(model, json.dumps(body).encode(), found.append)
    while serving.step():
        pass
    return [msgspec.json.decode(one) if isinstance(one, bytes) else one for one in found]


def close(serving):
    for one in serving.engine.live.deployed.values():
        one.runtime.close()


def test_a_handler_is_a_version_with_every_file_of_it(tmp_path, directory):
    version = register(tmp_path, directory)
    bundle = load(Home(tmp_path / "home").blobs(), version)
    assert own_files(bundle.files) == {
        "handler.py": HANDLER.encode(), "factor.txt": b"3", "deep/note.txt": b"read by nobody",
    }  # fmt: skip
    assert bundle.manifest.runtime == "handler"
    assert bundle.manifest.libraries["numpy"] == np.__version__
    assert decode_foreign(bundle.model).outputs == ("output",)
    assert register(tmp_path, directory) == version
    (directory / "factor.txt").write_text("4")
    assert register(tmp_path, directory) != version
    assert not list((tmp_path / "home" / "run" / "models").glob("model-*"))


def test_it_answers_through_the_pipeline_and_its_error_is_recorded_by_name(tmp_path, directory):
    serving = dispatcher(tmp_path / "home", register(tmp_path, directory))
    good, bad, late = ask(serving, {"size": 2, "age": 1}, {"size": 13}, {"size": 5})
    assert (good["prediction"], late["prediction"]) == (7, 15)
    assert bad.got == "LookupError"
    statuses = [row.status for batch in serving.settling._records.batches for row in batch]
    assert sorted(statuses) == ["error:LookupError", "ok", "ok"]
    assert "handler" not in sys.modules
    close(serving)


@pytest.mark.parametrize(
    ("code", "task", "words"),
    [
        ("def handle(data, context): return [[0.2, 0.8] for _ in data]", CHANCE, "do not fit the task"),
        ("def handle(data, context): return [[] for _ in data]", NUMBER, "do not fit the task"),
        ("def handle(data, context): return [[1, 2] for _ in data]", NUMBER, "a regression answers with one number"),
    ],
)
def test_answers_that_do_not_fit_the_task_are_refused(tmp_path, code, task, words):
    (tmp_path / "h.py").write_text(code)
    with pytest.raises(InputError, match=words):
        register_handler(tmp_path / "home", tmp_path / "h.py", name="m", task=task, columns=["a"])


def test_several_named_outputs(tmp_path):
    (tmp_path / "h.py").write_text(
        "def handle(data, context): return [{'low': d['body']['a'] - 1, 'high': d['body']['a'] + 1} for d in data]"
    )
    task = tt.regression(target=["high", "low"])
    version = register_handler(tmp_path / "home", tmp_path / "h.py", name="m", task=task, columns=["a"])
    bundle = load(Home(tmp_path / "home").blobs(), version)
    assert [(one.name, one.shape) for one in bundle.manifest.outputs] == [("output", (-1, 2))]
    assert bundle.manifest.classes == ("high", "low")
    serving = dispatcher(tmp_path / "home", version, model="m")
    assert ask(serving, {"a": 5}, model="m")[0]["prediction"] == [6, 4]
    close(serving)


def test_a_handler_that_fails_is_not_registered(tmp_path, directory):
    with pytest.raises(ModelFailed, match="LookupError"):
        register(tmp_path, directory, rows=np.array([[13, 0]], np.float32))
    with pytest.raises(InputError, match="no such option"):
        register(tmp_path, directory, colour="red")


def test_links_out_of_the_directory_are_refused(tmp_path, directory):
    (directory / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="leads out"):
        read_directory(directory)


def test_what_a_version_says_of_its_model_is_checked():
    with pytest.raises(BundleCorrupt):
        decode_foreign(b'{"kind": "pickle"}')


def test_a_budget_moves_handlers_in_and_out(tmp_path, directory):
    """Two handlers, room for one: each answers, and only one has a process."""
    first = register(tmp_path, directory)
    (directory / "factor.txt").write_text("10")
    second = register(tmp_path, directory, name="dear")
    runtimes = Runtimes(Residency(100_000_000), scratch=tmp_path / "models")
    place = Home(tmp_path / "home")
    place.online().close()
    rows = place.online(readonly=True)
    engine = Engine(Pipeline(lambda: 0))
    routes = {name: Route(name, (Arm("champion", one, 1.0),)) for name, one in (("price", first), ("dear", second))}
    assert (
        engine.swap(RouteTable(1, routes), lambda v: load_deployed(place.blobs(), rows, v, runtimes=runtimes)) is None
    )
    serving = Dispatcher(engine, MemoryRecords(), clock=SystemClock(), new_id=lambda: "r")
    assert runtimes.residency.loads == 1
    for _ in range(2):
        assert ask(serving, {"size": 2}, model="price")[0]["prediction"] == 6
        assert ask(serving, {"size": 2}, model="dear")[0]["prediction"] == 20
        until(lambda: len(list((tmp_path / "models").glob("model-*"))) == 1)
    assert runtimes.residency.evictions >= 3
    close(serving)


def small_venv(place: Path) -> Path:
    """An interpreter with our numpy and a package ``mlflow`` of a few lines: as much of it as the child asks for."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    libraries = place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (libraries / "ours.pth").write_text(sysconfig.get_paths()["purelib"])
    (libraries / "mlflow" / "pyfunc").mkdir(parents=True)
    (libraries / "mlflow" / "__init__.py").write_text("")
    (libraries / "mlflow" / "pyfunc" / "__init__.py").write_text(STAND_IN)
    return place / "bin" / "python"


STAND_IN = """
import os, pickle, types
import numpy

class Column:
    def __init__(self, name, kind):
        self.name, self.type = name, types.SimpleNamespace(to_numpy=lambda: numpy.dtype(kind))

class Schema:
    inputs = [Column("size", "int64"), Column("age", "float64")]
    def is_tensor_spec(self): return False
    def has_input_names(self): return True

class Model:
    metadata = types.SimpleNamespace(get_input_schema=Schema)
    def __init__(self, directory):
        with open(os.path.join(directory, "python_model.pkl"), "rb") as file:
            self.factor = pickle.load(file)
    def predict(self, frame):
        assert [str(kind) for kind in frame.dtypes] == ["int64", "float64"]
        return frame["size"] * self.factor + frame["age"]

def load_model(directory):
    return Model(directory)
"""


@pytest.fixture(params=["stand-in", "mlflow"])
def pyfunc(request, tmp_path):
    """A directory that MLflow wrote and an interpreter that has it; beside it, always, a stand-in of a few lines."""
    place = tmp_path / "model"
    if request.param == "stand-in":
        import pickle

        place.mkdir()
        (place / "MLmodel").write_text("flavors: {}")
        (place / "python_model.pkl").write_bytes(pickle.dumps(2.0))
        return place, small_venv(tmp_path / "venv")
    python = os.environ.get("TRIMTAB_TEST_MLFLOW_PYTHON", "")
    if not python:
        pytest.skip("TRIMTAB_TEST_MLFLOW_PYTHON names no interpreter with mlflow")
    write = (
        "import mlflow, pandas, sys\n"
        "class M(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None): return model_input['size'] * 2.0 + model_input['age']\n"
        "rows = pandas.DataFrame({'size': [1, 2], 'age': [0.5, 1.5]})\n"
        "signature = mlflow.models.infer_signature(rows, rows['age'])\n"
        "mlflow.pyfunc.save_model(sys.argv[1], python_model=M(), signature=signature)\n"
    )
    subprocess.run([python, "-c", write, place], check=True, capture_output=True)
    return place, Path(python)


def test_a_pyfunc_model_answers_from_its_own_interpreter(tmp_path, pyfunc):
    directory, python = pyfunc
    version = register_pyfunc(tmp_path / "home", directory, name="price", task=NUMBER, python=str(python))
    bundle = load(Home(tmp_path / "home").blobs(), version)
    assert bundle.columns == ("size", "age")
    serving = dispatcher(tmp_path / "home", version)
    assert ask(serving, {"size": 3, "age": 0.5})[0]["prediction"] == 6.5
    assert "mlflow" not in sys.modules
    close(serving)


def test_a_pyfunc_model_needs_its_library_and_its_directory(tmp_path, directory):
    with pytest.raises(InputError, match="MLmodel"):
        register_pyfunc(tmp_path / "home", directory, name="m", task=NUMBER)
    (directory / "MLmodel").write_text("")
    with pytest.raises(
        MissingExtra, match=r"the interpreter of the model has no mlflow\. Got .*--python venv/bin/python"
    ):
        register_pyfunc(tmp_path / "home", directory, name="m", task=NUMBER)
    code, said = cli("price", directory, "--kind", "pyfunc", "--task", "regression", "--home", tmp_path / "home")
    assert (code, "has no mlflow" in said, "own code" in said) == (1, True, False)


def test_a_library_that_the_models_own_code_lacks(tmp_path, directory):
    (directory / "handler.py").write_text("import a_library_of_its_own\n")
    with pytest.raises(ModelFailed, match=r"ModuleNotFoundError: .*a_library_of_its_own.*--python venv/bin/python"):
        register(tmp_path, directory)


def cli(*arguments):
    done = CliRunner().invoke(trimtab, ["register", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_command(tmp_path, directory):
    common = ["price", directory, "--task", "regression", "--home", tmp_path / "home"]
    code, text = cli(*common, "--kind", "handler", "--columns", "size, age", "--json")
    assert code == 0
    assert json.loads(text)["version"] == register(tmp_path, directory, optional=[])
    assert cli(*common, "--kind", "handler")[0] == 2
    assert "--takes" in cli(*common, "--kind", "onnx", "--columns", "a", "--takes", "rows")[1]
    (directory / "two.py").write_text("def handle(data, context): return [[0.25, 0.75] for _ in data]")
    more = ["--kind", "handler", "--columns", "size", "--entry", "two.py", "--outputs", "yes,no"]
    code, text = cli("m", directory, "--task", "multiclass", "--home", tmp_path / "home", *more, "--json")
    assert (code, load(Home(tmp_path / "home").blobs(), json.loads(text)["version"]).manifest.classes) == (
        0,
        ("yes", "no"),
    )
    (directory / "handler.py").write_text("raise OSError('no such luck')")
    code, text = cli(*common, "--kind", "handler", "--columns", "size")
    assert (code, "OSError: no such luck" in text) == (1, True)


def test_an_onnx_file(tmp_path):
    from tests.e2e.worker_house import onnx_model

    (tmp_path / "m.onnx").write_bytes(onnx_model(0.0))
    arguments = ["m", tmp_path / "m.onnx", "--kind", "onnx", "--task", "binary", "--columns", "a,b"]
    code, text = cli(*arguments, "--home", tmp_path / "home", "--json")
    version = register_onnx(tmp_path / "home", tmp_path / "m.onnx", name="m", task=CHANCE, columns=["a", "b"])
    assert (code, json.loads(text)["version"]) == (0, version)
    with pytest.raises(InputError, match="cannot be read"):
        register_onnx(tmp_path / "home", tmp_path / "no.onnx", name="m", task=CHANCE, columns=["a", "b"])


@pytest.mark.parametrize("entry", ["../../x.py", "../x.py:Price", "deep/../../x.py", "nowhere.py", "deep"])
def test_an_entry_that_is_no_file_of_the_directory_is_refused_before_anything_runs(directory, tmp_path, entry):
    (tmp_path / "x.py").write_text("raise SystemExit('it ran')\n")
    done = CliRunner().invoke(
        trimtab,
        ["register", "price", str(directory), "--kind", "handler", "--columns", "size,age", "--task", "regression",
         "--entry", entry, "--home", str(tmp_path / "home"), "-p", str(tmp_path), "--json"],
    )  # fmt: skip
    assert done.exit_code == 2
    assert "no file of the model's directory" in json.loads(done.output)["error"]
