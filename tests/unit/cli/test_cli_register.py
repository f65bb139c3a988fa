"""``trimtab register`` of tensors, and ``trimtab quantise``, from the shell."""

import json

import pytest
from click.testing import CliRunner
from tests.unit.models.test_tensors import echo, mixed

from trimtab.app.home import Home
from trimtab.cli.main import trimtab
from trimtab.registry.bundle import load


def run(*arguments):
    return CliRunner().invoke(trimtab, arguments)


def test_a_file_is_registered_by_its_tensors(tmp_path):
    (tmp_path / "mix.onnx").write_bytes(mixed())
    done = run(
        "register",
        "mix",
        str(tmp_path / "mix.onnx"),
        "--kind",
        "onnx",
        "-p",
        str(tmp_path),
        "--json",
    )
    assert done.exit_code == 0, done.output
    manifest = load(Home(tmp_path / ".trimtab").blobs(), json.loads(done.output)["version"]).manifest
    assert [(one.name, one.dtype) for one in manifest.inputs] == [
        ("image", "float32"),
        ("code", "int64"),
        ("flag", "bool"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--task", "multiclass", "--outputs", "x,y,z", "--columns", "a,b,c"], 0),
        (["--task", "regression", "--outputs", "x,y,z", "--columns", "a,b,c"], 0),
        (["--task", "regression", "--outputs", "x,y", "--columns", "a,b,c"], 2),
        (["--columns", "a,b,c"], 2),
        (["--task", "multiclass", "--outputs", "x,y,z"], 2),
    ],
)
def test_a_file_is_registered_by_its_columns(tmp_path, arguments, code):
    (tmp_path / "two.onnx").write_bytes(echo("float32", ("n", 3)))
    done = run("register", "two", str(tmp_path / "two.onnx"), "--kind", "onnx", "-p", str(tmp_path), *arguments)
    assert done.exit_code == code, done.output


def test_quantising_needs_a_project(tmp_path):
    assert run("quantise", "buys", "-p", str(tmp_path)).exit_code == 2
