"""``trimtab register`` of tensors, and ``trimtab quantise``, from the shell."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from tests.unit.models.test_onnx_file import net
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
        (["--task", "multiclass", "--outputs", "x,y,z", "--columns", "a,b,c"], 2),
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


TWO_COLUMNS = ["--columns", "a,b"]
OF_THREE = [*TWO_COLUMNS, "--task", "multiclass", "--outputs", "x,y,z"]


@pytest.mark.parametrize(
    ("file", "arguments", "said"),
    [
        (lambda: net("Identity", outputs=1), [*TWO_COLUMNS, "--task", "binary"], "gives no probabilities"),
        (lambda: net("Identity"), OF_THREE, "gives no probabilities"),
        (lambda: net("Softmax", rows=1), OF_THREE, "a fixed number of rows"),
        (lambda: net("Softmax", rows=1), [], "no open first axis"),
        (lambda: net("Softmax", slope_rows=3), OF_THREE, "ONNX Runtime cannot run the model"),
        (lambda: net("Softmax", slope_rows=3), [], "ONNX Runtime cannot run the model"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_in_one_line(tmp_path, file, arguments, said):
    (tmp_path / "m.onnx").write_bytes(file())
    command = [sys.executable, "-m", "trimtab", "register", "m", "m.onnx", "--kind", "onnx", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert ". Got " in done.stderr
    assert ". Hint: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("a/../b", [], "not a name"),
        ("two", ["--outputs", "x,y"], "are named"),
        ("two", ["--task", "multiclass", "--columns", "a,b,c"], "the classes are not named. Hint"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path, name, arguments, said):
    (tmp_path / "two.onnx").write_bytes(echo("float32", ("n", 3)))
    done = run("register", name, str(tmp_path / "two.onnx"), "--kind", "onnx", "-p", str(tmp_path), *arguments)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize("limit", [("--start-s", "-4"), ("--start-s", "nan"), ("--call-s", "0"), ("--memory-mb", "-1")])
def test_a_limit_that_makes_no_sense_is_refused(tmp_path, limit):
    (tmp_path / "handler.py").write_text("def handle(data, context): return [1.0 for _ in data]\n")
    done = run(
        "register", "one", str(tmp_path / "handler.py"), "--kind", "handler", "-p", str(tmp_path),
        "--columns", "a", "--task", "regression", *limit,
    )  # fmt: skip
    assert done.exit_code == 2
    assert "makes no sense" in done.output


def test_a_variant_is_told_by_the_number_that_deploys_it():
    from trimtab.cli.quantise import _text

    names = ("one_row_p50_ms", "one_row_p99_ms", "batch_p50_ms", "model_bytes", "size_bytes")
    measured = {"metrics": {}, **dict.fromkeys(names, 1.0)}
    result = {"before": measured, "after": measured, "passed": True, "registered": True, "rows": 9}
    told = _text(result | {"version": "3e" * 32, "number": 4, "variant": "int8-dynamic", "parent": "1f" * 32})
    assert "version 4 (3e3e3e3e3e3e, int8-dynamic of 1f1f1f1f1f1f) passes its floors" in told
    assert "answered row by row, in a batch too: --mode static answers a batch at once" in told
    assert "row by row" not in _text(result | {"version": "3e", "number": 4, "variant": "int8-static", "parent": "1f"})


def test_quantising_needs_a_project(tmp_path):
    assert run("quantise", "buys", "-p", str(tmp_path)).exit_code == 2
