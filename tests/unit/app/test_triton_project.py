"""Versions of a project on their way to Triton: by their numbers, and only where nothing but the request is needed."""

import json

import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from tests.unit.models.test_onnx_file import net
from tritonclient.grpc import model_config_pb2 as pb

from trimtab import app
from trimtab.cli.main import trimtab
from trimtab.errors import InputError, UnknownName

PROJECT = """
import trimtab as tt

shop = tt.Entity("shop")
sales = tt.Events("sales", time="at", known="at", keys=[shop], schema={"price": float, "visit": str})
visits = tt.Requests("visits", id="visit", at="asked", keys=[shop], inputs={"basket": float, "age": float})
counts = tt.windows(sales, by=[shop], over=["3h", "9h"], count="*")
label = tt.label(sales, "price", on="visit", matures="3h")


def model(name, features):
    return tt.Model(
        name, task=tt.regression(target="price"), requests=visits, train=lambda data, params: None,
        features=features, label=label,
    )


buys, form, moment = model("buys", [counts]), model("form", [counts]), model("moment", ["double"])
"""
DOUBLE = """
FEATURES = ("double", "half")


def compute(columns):
    return {"double": columns["basket"] * 2, "half": columns["basket"] / 2}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two versions of each model, the first of which takes features, and the second inputs of the request."""
    root = tmp_path_factory.mktemp("project")
    (root / "project.py").write_text(PROJECT)
    (root / "double.py").write_text(DOUBLE)
    (root / "model.onnx").write_bytes(net("Identity", outputs=1))
    (root / "other.onnx").write_bytes(net("Sigmoid", outputs=1))
    made = {}
    for name in ("buys", "form", "moment"):
        first = app.register(root, name, root / "model.onnx", "onnx")
        columns = {"options": {"columns": "basket,age"}}
        second = app.register(
            root, name, root / ("other.onnx" if name == "form" else "model.onnx"), "onnx", said=columns
        )
        assert (first["number"], second["number"]) == (1, 2)
        made[name] = (first["version"], second["version"])
    return root, made


def run(root, *arguments):
    return CliRunner().invoke(trimtab, ["export", *arguments, "-p", str(root), "--json"])


def test_a_version_keeps_its_number(project, tmp_path):
    root, made = project
    done = run(root, "2", "--model", "buys", "--triton", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["version"], told["number"]) == (made["buys"][1], 2)
    assert told["files"] == ["buys/2/model.onnx", "buys/config.pbtxt"]
    config = text_format.Parse((tmp_path / "out" / "buys" / "config.pbtxt").read_text(), pb.ModelConfig())
    assert [(port.name, list(port.dims)) for port in config.input] == [("x", [2])]


def test_a_number_of_several_models_needs_the_model(project, tmp_path):
    root, made = project
    with pytest.raises(UnknownName, match="several models") as refused:
        app.export(root, "2", triton=tmp_path / "out")
    assert refused.value.hint == "--model buys or --model form or --model moment"
    by_digits = app.export(root, made["form"][1][:8], triton=tmp_path / "out")
    assert (by_digits["model"], by_digits["number"]) == ("form", 2)
    for wrong in (("9", None), ("2", "none"), (made["buys"][1], "form")):
        with pytest.raises(UnknownName):
            app.export(root, wrong[0], model=wrong[1], triton=tmp_path / "none")


@pytest.mark.parametrize(("model", "said"), [("buys", "the online store"), ("moment", "computes features on request")])
def test_features_do_not_go_and_nothing_is_written(project, tmp_path, model, said):
    root, made = project
    with pytest.raises(InputError, match=said) as refused:
        app.export(root, made[model][0], triton=tmp_path / "out")
    assert refused.value.got
    assert refused.value.hint
    done = run(root, "1", "--model", model, "--triton", str(tmp_path / "out"))
    assert (done.exit_code, json.loads(done.stdout)["kind"]) == (2, "InputError")
    assert not list(tmp_path.iterdir())
