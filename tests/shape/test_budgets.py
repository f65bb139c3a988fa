"""Shape: files, functions and classes stay small enough to be read in one go."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "trimtab"
FILE_LINES, FUNCTION_LINES, CLASS_METHODS, PARAMETERS = 400, 60, 20, 8
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}

REASONS = {
    "app/__init__.py: lines": "one function for each command, and most of each is its documentation",
    "cli/up.py:up: parameters": "one for each option of the command",
    "adapters/models/register.py:register: parameters": "each parameter is a fact about a model made elsewhere",
    "adapters/models/register.py:register: lines": "its length is that of its documentation",
    "app/alone.py:register_model: lines": "its length is that of its documentation",
    "app/registering.py:register_onnx: parameters": "each parameter is a fact about a model made elsewhere",
    "app/alone.py:register_model: parameters": "each parameter is a fact about a model made elsewhere",
    "app/__init__.py:replay: parameters": "each parameter is an option of the command, and the checkpoint",
    "app/__init__.py:up: parameters": "each parameter is an option of the command",
    "cli/replay.py:replay: parameters": "each parameter is an option of the command",
    "features/views.py:windows: parameters": "a declaration: each keyword is one word of the user's language",
    "loop/model.py:Model: parameters": "a declaration: everything the loop needs to know, in one object",
    "loop/model.py:Model: lines": "a declaration: its length is that of its documentation",
}
"""What is allowed to be larger, and why. A reason that is no longer needed fails too."""


def findings(path: Path, name: str) -> Iterator[str]:
    """Everything in a file that is over budget, as keys of REASONS."""
    text = path.read_text(encoding="utf-8")
    if DRAWERS & {part.removesuffix(".py").strip("_") for part in Path(name).parts}:
        yield f"{name}: drawer"
    if text.count("\n") > FILE_LINES:
        yield f"{name}: lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.end_lineno - node.lineno + 1 > FUNCTION_LINES:
                yield f"{name}:{node.name}: lines"
            if len(node.args.args) + len(node.args.kwonlyargs) > PARAMETERS:
                yield f"{name}:{node.name}: parameters"
        if isinstance(node, ast.ClassDef) and methods(node) > CLASS_METHODS:
            yield f"{name}:{node.name}: methods"


def methods(node: ast.ClassDef) -> int:
    return sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body)


def everything() -> list[str]:
    return [
        found for path in sorted(SOURCE.rglob("*.py")) for found in findings(path, path.relative_to(SOURCE).as_posix())
    ]


def test_nothing_is_over_budget_without_a_reason():
    assert [found for found in everything() if found not in REASONS] == []


def test_every_reason_is_still_needed():
    assert sorted(set(REASONS) - set(everything())) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(a, b, c, d, e, f, g, h, i): ...", "x.py:f: parameters"),
        ("def f():\n" + "    a = 1\n" * 60, "x.py:f: lines"),
        ("\n" * 401, "x.py: lines"),
        ("class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(21)), "x.py:C: methods"),
    ],
)
def test_the_budget_can_be_broken(code, found, tmp_path):
    path = tmp_path / "x.py"
    path.write_text(code)
    assert list(findings(path, "x.py")) == [found]


def test_a_drawer_is_found(tmp_path):
    path = tmp_path / "utils.py"
    path.write_text("")
    assert list(findings(path, "core/utils.py")) == ["core/utils.py: drawer"]
