"""``trimtab register`` and ``trimtab quantise`` from the shell."""

import json

from click.testing import CliRunner
from tests.unit.models.test_tensors import echo, mixed

from trimtab.cli.main import trimtab


def run(*arguments):
    return CliRunner().invoke(trimtab, arguments)


def test_a_file_is_registered_by_its_tensors(tmp_path):
    (tmp_path / "mix.onnx").write_bytes(mixed())
    done = run("register", str(tmp_path / "mix.onnx"), "--name", "mix", "-p", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["inputs"] == ["image: float32 [-1, 2, 2]", "code: int64 [-1, 1]", "flag: bool [-1]"]
    assert (tmp_path / ".trimtab" / "blobs").is_dir()


def test_a_file_is_registered_by_its_columns(tmp_path):
    (tmp_path / "two.onnx").write_bytes(echo("float32", ("n", 3)))
    arguments = ["register", str(tmp_path / "two.onnx"), "--name", "two", "-p", str(tmp_path), "--columns", "a,b,c"]
    assert run(*arguments).exit_code == 2, "a model of columns needs a task"
    assert run(*arguments, "--classes", "x,y,z").exit_code == 0
    assert run(*arguments, "--classes", "x,y,z", "--binary", "x").exit_code == 2
    assert run(*arguments, "--regression", "x,y").exit_code == 2, "the file gives three numbers"


def test_quantising_needs_a_project(tmp_path):
    done = run("quantise", "buys", "-p", str(tmp_path))
    assert done.exit_code == 2
