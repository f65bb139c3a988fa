"""Files that are not what they should be: one line that says so, the exit code for it, and no traceback."""

from __future__ import annotations

import re

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tests.projects.staged import stage_sales

from trimtab.cli.main import trimtab

BAD_INPUT, FAILED = 2, 1
UNTIL = "2024-05-10"


@pytest.fixture
def root(tmp_path):
    return stage_sales(tmp_path / "sales")


def refused(code, *arguments):
    """What a command says in its one line."""
    done = CliRunner().invoke(trimtab, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def replay(root, code=BAD_INPUT):
    return refused(code, "replay", "--project", root, "--until", UNTIL, "--out", root / "out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import trimtab as tt\n\n1 / 0\n", "project.py:3: the project file raises an error. Got ZeroDivisionError"),
        ("import sys\nsys.exit('bye')\n", "project.py:2: the project file raises an error. Got SystemExit: bye"),
        ("import nowhere\n", "project.py:1: .* ModuleNotFoundError: No module named 'nowhere'"),
        ("def broken(:\n", "project.py:1: not valid Python"),
        ("import trimtab as tt\ntt.canary(7)\n", "project.py:2: "),
        ("open('/nowhere/at/all')\n", "project.py:1: .* FileNotFoundError"),
    ],
)
def test_a_project_file_that_raises(root, text, words):
    (root / "project.py").write_text(text)
    for command in ("replay", "up"):
        assert re.search(words, refused(BAD_INPUT, command, "--project", root))
    done = CliRunner().invoke(trimtab, ["check", "--project", str(root)])
    assert done.exit_code == FAILED  # its answer is no, and lists what is wrong
    assert words.partition(" .*")[0].partition(". Got")[0] in done.stdout


def test_no_project_there(tmp_path):
    assert "no project file" in refused(BAD_INPUT, "check", "--project", tmp_path)


def test_a_history_that_lacks_a_column(root):
    path = root / "data" / "orders.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["quantity"]), path)
    said = replay(root)
    assert "orders.parquet lacks columns that 'orders' declares" in said
    assert "add quantity" in said


def test_a_history_that_is_missing(root):
    (root / "data" / "stock.parquet").unlink()
    assert "no file matches the history of 'stock'" in replay(root)


def test_a_history_that_is_no_parquet(root):
    (root / "data" / "stock.parquet").write_bytes(b"at,shop\n1,2\n")
    assert "cannot be read as Parquet" in replay(root)


def test_a_history_that_was_cut_off(root):
    path = root / "data" / "stock.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read as Parquet" in replay(root)


def test_a_fit_that_raises(root):
    (root / "fit.py").write_text("def fit_ridge(data, params):\n    raise OSError('the oven is cold')\n")
    assert "the oven is cold" in replay(root, FAILED)


def test_a_bundle_with_a_changed_byte(root):
    """The replay is cut off after its first training; the bundle is damaged before it goes on."""
    arguments = ["replay", "--project", str(root), "--until", UNTIL, "--out", str(root / "out")]
    assert CliRunner().invoke(trimtab, arguments).exit_code == 0
    (root / "out" / "finished").unlink()
    files = [path for path in (root / "out" / "blobs").rglob("*") if path.is_file()]
    model = next(path for path in files if b"ai.onnx.ml" in path.read_bytes()[:400])
    data = bytearray(model.read_bytes())
    data[-20] ^= 1
    model.chmod(0o644)
    model.write_bytes(data)
    said = replay(root, FAILED)
    assert "model.onnx is not the file that was packed" in said
    assert CliRunner().invoke(trimtab, arguments).exit_code == 0  # what cannot be gone on with is made anew
