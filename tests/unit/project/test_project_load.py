"""Loading a project file: afresh each time, without a trace, and with errors that name the user's line."""

from __future__ import annotations

import sys

import pytest

from trimtab.adapters.project.file import load_project
from trimtab.errors import ProjectError, UnknownName

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
import trimtab as tt
from lib.fit import fit, SOURCES

@dataclass
class Option:
    share: float = 0.1

shop = tt.Entity("shop")
sales, hidden = SOURCES
SOURCES = None
del sales
visits = tt.Requests("visits", id="visit", at="at", keys=[shop], inputs={"basket": float})
model = tt.Model("m", task=tt.binary(positive="bought"), requests=visits,
    features=[tt.windows(hidden, by=[shop], over=["1h"], count="*"), "calendar"],
    label=tt.label(hidden, "bought", on="visit", matures="1d"), train=fit)
del hidden
"""
FIT = """
import trimtab as tt
shop = tt.Entity("shop")
def source(name):
    return tt.Events(name, time="at", known="at", keys=[shop], schema={"bought": bool, "visit": str})
SOURCES = source("sales"), source("hidden")
def fit(data, params): return 1
"""
MODULE = "FEATURES = ('a', 'b')\ndef compute(columns): ...\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "project.py").write_text(GOOD)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "fit.py").write_text(FIT)
    (tmp_path / "calendar.py").write_text(MODULE)
    return tmp_path


def test_sources_that_only_a_model_knows_are_found(root):
    project = load_project(root)
    assert sorted(project.sources) == ["hidden", "visits"]
    assert list(project.models) == ["m"]
    assert project.plan("m").names() == ["hidden.shop.count_1h", "calendar.a", "calendar.b"]
    assert project.models["m"].train(None, {}) == 1


def test_nothing_stays_behind(root):
    path, modules, bytecode = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    load_project(root)
    assert sys.path == path
    assert set(sys.modules) - modules == set()
    assert sys.dont_write_bytecode == bytecode
    assert not list(root.glob("**/__pycache__"))


def test_nothing_stays_behind_when_it_raises(root):
    (root / "project.py").write_text("import sys\nsys.path.append('/x')\nfrom lib import fit\n1 / 0\n")
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(ProjectError):
        load_project(root)
    assert sys.path == path
    assert set(sys.modules) - modules == set()


def test_a_module_of_the_same_name_elsewhere_is_given_back(root):
    import tests as before  # noqa: F401 - a package that may clash

    sys.modules["lib"] = elsewhere = type(sys)("lib")
    try:
        load_project(root)
        assert sys.modules["lib"] is elsewhere
    finally:
        del sys.modules["lib"]


def test_every_load_is_fresh(root):
    first = load_project(root)
    second = load_project(root)
    assert first.revision == second.revision
    assert first.models["m"] is not second.models["m"]
    (root / "lib" / "fit.py").write_text(FIT.replace("return 1", "return 2"))  # same size, same second
    third = load_project(root)
    assert third.models["m"].train(None, {}) == 2
    assert third.revision != first.revision


@pytest.mark.parametrize("name", ["project.py", "lib/fit.py", "calendar.py"])
def test_the_revision_covers_every_text(root, name):
    before = load_project(root).revision
    (root / name).write_text((root / name).read_text() + "\n# changed\n")
    assert load_project(root).revision != before


def test_the_revision_does_not_depend_on_the_place(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere") / "p"
    root.rename(other)
    before = load_project(other).revision
    other.rename(root)
    assert load_project(root).revision == before


def test_a_file_may_be_named(root):
    (root / "project.py").rename(root / "shop.py")
    assert list(load_project(root / "shop.py").models) == ["m"]
    with pytest.raises(ProjectError, match="no project file"):
        load_project(root)
    (root / "shop.py").rename(root / "trimtab_project.py")
    assert load_project(root).file == "trimtab_project.py"


@pytest.mark.parametrize(
    ("text", "got", "where"),
    [
        ("x = 1\nraise RuntimeError('no database')\n", "RuntimeError: no database", "project.py:2"),
        ("from lib.fit import fit\n\nfit(1)\n", "TypeError", "project.py:3"),
        ("import json\njson.loads('{')\n", "JSONDecodeError", "project.py:2"),
        ("import nonesuch\n", "ModuleNotFoundError: No module named 'nonesuch'", "project.py:1"),
        ("raise SystemExit(3)\n", "SystemExit: 3", "project.py:1"),
        ("x = (\n", "", "project.py:1"),
        ("import lib.bad\n", "ZeroDivisionError", "lib/bad.py:2"),
        ("import lib.worse\n", "def f(:", "lib/worse.py:2"),
        ("import trimtab as tt\n\nshop = tt.Entity('s', float)\n", "float", "project.py:3"),
        ("import trimtab as tt\ntt.canary(2)\n", "2", "project.py:2"),
        ("import trimtab as tt\n\n\ntt.last('soon')\n", "'soon'", "project.py:4"),
    ],
)
def test_a_file_that_raises(root, text, got, where):
    (root / "lib" / "bad.py").write_text("\n1 / 0\n")
    (root / "lib" / "worse.py").write_text("\ndef f(:\n")
    (root / "project.py").write_text(text)
    with pytest.raises(ProjectError) as raised:
        load_project(root)
    assert got in raised.value.got
    assert raised.value.where == where
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_an_unknown_model(root):
    with pytest.raises(UnknownName, match="did you mean 'm'"):
        load_project(root).plan("mm")


def test_a_plan_without_its_module(root):
    (root / "calendar.py").unlink()
    project = load_project(root)
    with pytest.raises(ProjectError, match="no view and no module is named 'calendar'"):
        project.plan("m")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ProjectError, match="no project file"):
        load_project(tmp_path / "nowhere")
