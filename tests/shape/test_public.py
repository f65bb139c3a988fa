"""The public surface: the names that a project file uses, sorted, complete and explained."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trimtab
from trimtab import errors

CASES = [(trimtab, name) for name in trimtab.__all__] + [(errors, name) for name in errors.__all__]


def test_the_names_are_sorted_and_few():
    assert trimtab.__all__ == sorted(trimtab.__all__)
    assert errors.__all__ == sorted(errors.__all__)
    assert len(trimtab.__all__) == len(set(trimtab.__all__)) <= 30


@pytest.mark.parametrize(("module", "name"), CASES, ids=[name for _, name in CASES])
def test_a_public_name_is_there_and_explained(module, name):
    assert inspect.getdoc(getattr(module, name))


def test_nothing_else_is_public():
    modules = {name for name, value in vars(trimtab).items() if inspect.ismodule(value)}
    public = {name for name in vars(trimtab) if not name.startswith("_")} - modules
    assert public == set(trimtab.__all__)


def test_every_error_is_in_the_drawn_tree():
    found = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert found == set(errors.__all__)
    assert all(name in errors.__doc__ for name in found)


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'numpy', 'pyarrow', 'onnxruntime', 'lmdb', 'sqlite3', 'asyncio', 'starlette', 'lightgbm', 'sklearn'}"
    code = f"import sys, trimtab; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_name_that_hints_and_pages_give_a_user_is_public():
    root = Path(__file__).resolve().parents[2]
    texts = [*(root / "src").rglob("*.py"), *(root / "docs").rglob("*.md"), root / "README.md"]
    named = {name for path in texts for name in re.findall(r"\btt\.(\w+)", path.read_text("utf-8"))}
    assert {"Model", "at_least"} <= named <= set(trimtab.__all__)
