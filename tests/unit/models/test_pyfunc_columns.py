"""Integer columns of an MLflow model get the integers that were sent, or the request is refused."""

import os
import pickle
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.unit.models.test_register_foreign import NUMBER, STAND_IN, ask, close, dispatcher, small_venv

from trimtab.adapters.models.isolated_child import MOST_WHOLE, Refused, as_kind
from trimtab.app.home import Home
from trimtab.app.registering import register_pyfunc
from trimtab.errors import InputError, SchemaError
from trimtab.registry.bundle import load
from trimtab.serving.scoring import Intake
from trimtab.serving.tensors import TensorRequest

TYPES = {"size": "float64", "n": "int64", "small": "int8", "flag": "bool"}
KNOWN = {"size": 1.0, "n": 0, "small": 0, "flag": 0}
MODEL = """
import mlflow, pandas, sys
from mlflow.types import ColSpec, Schema

class M(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["size"] * 0.0 + model_input["n"] + model_input["small"] + model_input["flag"]

columns = [ColSpec("double", "size"), ColSpec("long", "n"), ColSpec("integer", "small"), ColSpec("boolean", "flag")]
signature = mlflow.models.ModelSignature(inputs=Schema(columns))
mlflow.pyfunc.save_model(sys.argv[1], python_model=M(), signature=signature)
"""


@pytest.fixture(scope="module", params=["stand-in", "mlflow"])
def served(request, tmp_path_factory):
    """A dispatcher that serves a model of a double, two integers and a boolean, which answers their sum."""
    root = tmp_path_factory.mktemp(request.param)
    place = root / "model"
    if request.param == "stand-in":
        place.mkdir()
        (place / "MLmodel").write_text("flavors: {}")
        (place / "python_model.pkl").write_bytes(pickle.dumps(0.0))
        python = small_venv(root / "venv")
        package = next((root / "venv").rglob("mlflow/pyfunc/__init__.py"))
        columns = ", ".join(f"Column({name!r}, {kind!r})" for name, kind in TYPES.items())
        code = STAND_IN.replace('Column("size", "int64"), Column("age", "float64")', columns)
        code = code.replace('["int64", "float64"]', repr(list(TYPES.values())))
        package.write_text(code.replace('+ frame["age"]', '+ frame["n"] + frame["small"] + frame["flag"]'))
    else:
        python = Path(os.environ.get("TRIMTAB_TEST_MLFLOW_PYTHON", ""))
        if not python.name:
            pytest.skip("TRIMTAB_TEST_MLFLOW_PYTHON names no interpreter with mlflow")
        subprocess.run([python, "-c", MODEL, place], check=True, capture_output=True)
    version = register_pyfunc(root / "home", place, name="m", task=NUMBER, python=str(python))
    serving = dispatcher(root / "home", version, model="m")
    yield serving, load(Home(root / "home").blobs(), version)
    close(serving)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"n": 3}, 3),
        ({"n": 3.0, "small": -2.0, "flag": 1}, 2),
        ({"n": MOST_WHOLE}, MOST_WHOLE),
        ({"n": -MOST_WHOLE}, -MOST_WHOLE),
    ],
)
def test_whole_numbers_arrive_as_they_are(served, sent, said):
    assert ask(served[0], KNOWN | sent, model="m")[0]["prediction"] == said


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"n": 2.5}, "n is an integer"),
        ({"n": 2.9}, "n is an integer"),
        ({"n": 8388609.5}, "n is an integer"),
        ({"n": 2**24 + 1}, "between -16777215 and 16777215"),
        ({"n": 2.0**24 + 1}, "n is an integer"),
        ({"small": 2**40}, "small is an integer"),
        ({"flag": 2}, "flag is an integer between 0 and 1"),
        ({"n": None}, "n is an integer"),
    ],
)
def test_another_number_than_was_sent_is_never_given_to_the_model(served, sent, words):
    with pytest.raises(SchemaError) as refused:
        ask(served[0], KNOWN | sent, model="m")
    assert words in refused.value.hint


def test_the_process_refuses_what_reaches_it_as_a_matrix_and_lives_on(served):
    runtime = next(iter(served[0].engine.live.deployed.values())).runtime
    good = np.array([[1, 3, 0, 1]], np.float32)
    for place, value, words in (
        (1, 2.5, "'n' is no whole number"),
        (1, 2.0**24, "'n' is past what is carried exactly"),
        (1, np.nan, "'n' is missing"),
        (3, 2, "'flag' is past"),
    ):
        bad = good.copy()
        bad[0, place] = value
        with pytest.raises(InputError, match=words):
            runtime.run(bad)
    assert runtime.run(good).tolist() == [[4]]


def test_one_bad_tensor_is_refused_and_those_beside_it_are_answered(served):
    found = []
    for number in (2.0, 2.5, 3.0):
        values = np.array([[1, number, 0, 0]], np.float32)
        served[0].submit_tensors("m", TensorRequest("r", values, ()), lambda answer: answer.values, found.append)
    while served[0].step():
        pass
    assert [one.what if isinstance(one, InputError) else one.tolist() for one in found] == [
        [[2]], "column 'n' is no whole number", [[3]],
    ]  # fmt: skip


def test_a_table_is_read_as_requests_are(served):
    intake = Intake(served[1].plan)
    columns = {name: np.zeros(4) for name in TYPES} | {"n": np.array([2.0, 2.5, 2.0**24 + 1, np.nan])}
    taken = intake.take(columns, 4, ids=list("abcd"), at=0)
    assert {row: fault[:2] for row, fault in taken.faults.items()} == {
        1: ("n", "wrong type"), 2: ("n", "out of range"), 3: ("n", "missing"),
    }  # fmt: skip
    assert taken.batch.inputs["n"].tolist() == [2]


def test_the_plan_is_read_as_it_was_written(served):
    bundle = served[1]
    assert bundle.plan.digest == bundle.manifest.plan_digest
    assert msgspec.json.decode(bundle.plan.to_json())["requests"]["inputs"]["n"] == "int"


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (300, "uint8", "send whole numbers from 0 to 255"),
        (-1, "uint16", "send whole numbers from 0"),
        (0.5, "bool", "no whole number"),
        (70000, "float16", "past the range of float16"),
    ],
)
def test_a_tensor_of_another_type_is_not_wrapped_around(value, kind, words):
    with pytest.raises(Refused) as refused:
        as_kind("a value", np.array([[value]], np.float32), np.dtype(kind))
    assert words in " ".join(refused.value.args)
