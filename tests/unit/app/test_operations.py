"""The single steps, as far as they need no training: what they look for, and what they leave alone."""

from __future__ import annotations

import pytest

from trimtab import app
from trimtab.app import operations
from trimtab.app.asked import read_arms, read_request
from trimtab.app.home import Home, named_home
from trimtab.errors import ProjectError, Unavailable, UnknownName
from trimtab.loop import events as e
from trimtab.loop.state import Version

PREDICTS = """
import trimtab as tt

shop = tt.Entity("shop")
sales = tt.Events("sales", time="at", known="at", keys=[shop], schema={"bought": bool, "visit": str})
visits = tt.Requests("visits", id="visit", at="asked", keys=[shop], inputs={})
model = tt.Model(
    "m", task=tt.binary(positive="bought"), requests=visits, train=lambda data, params: None,
    features=[tt.windows(sales, by=[shop], over=["3h"], count="*")],
    label=tt.label(sales, "bought", on="visit", matures="3h"),
)
"""


def logged(type, **data):
    return {"type": type, "data": data, "text": f"{type} of {data.get('version')}"}


def test_a_training_tells_what_the_loop_decided_about_its_version():
    events = [
        logged(e.REJECTED, version="v1"),
        logged(e.TRAINING_FINISHED, version="v2", job="j2"),
        logged(e.VERSION_REGISTERED, version="v2"),
        logged(e.FLOORS_JUDGED, version="v2"),
        logged(e.PROMOTED, version="v1"),
        logged(e.REJECTED, version="v2"),
    ]
    ended, followed = operations._wait("j2", lambda: events)
    assert ended["data"]["version"] == "v2"
    assert [event["text"] for event in followed] == ["FloorsJudged of v2", "Rejected of v2"]


@pytest.mark.parametrize(
    "step",
    [
        lambda path: app.train(path, "m"),
        lambda path: app.deploy(path, "m", "v", reason="r"),
        lambda path: app.approve(path, "m", "v", reason="r"),
        lambda path: app.rollback(path, "m", reason="r"),
        lambda path: app.predict(path, "m", {}),
    ],
)
def test_a_folder_without_a_project_is_left_as_it_is(step, tmp_path):
    with pytest.raises(ProjectError, match="no project file"):
        step(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_project_is_broken_is_left_as_it_is(tmp_path):
    (tmp_path / "project.py").write_text("1 / 0")
    with pytest.raises(ProjectError, match="raises an error"):
        app.rollback(tmp_path, "m", reason="r")
    assert [item.name for item in tmp_path.iterdir()] == ["project.py"]


def test_a_version_may_be_named_by_its_number(tmp_path):
    ledger = Home(tmp_path / ".trimtab").made().ledger()
    rows = [("3e" * 32, 1), ("1f" * 32, 2)]
    empty = {"job": "j", "metrics": {}, "dataset": "d", "rows": 1, "trained_until": 0}
    empty |= {"reference_weeks": [], "reference_level": None}
    drafts = [
        e.draft("model:m", place, e.VERSION_REGISTERED, empty | {"version": version, "number": number}, at=0)
        for place, (version, number) in enumerate(rows, start=1)
    ]
    ledger.append("model:m", drafts, expected=0, epoch=1)
    assert app.gate(tmp_path, "m", "1")["version"] == "3e" * 32  # the number wins over the first digit of another
    assert app.gate(tmp_path, "m", "1f1f1f1f")["version"] == "1f" * 32
    with pytest.raises(UnknownName, match="no version has that number") as refused:
        app.gate(tmp_path, "m", "3")  # the first digit of version 1
    assert "1 (3e3e3e3e3e3e), 2 (1f1f1f1f1f1f)" in refused.value.hint


VERSIONS = {
    digest: Version(digest, number, 0, (), None, ())
    for number, digest in enumerate(["4f" * 32, "99" * 32, "9900" * 16, "99" * 31 + "00"], start=1)
}


@pytest.mark.parametrize("kind", ["deploy", "force", "approve", "deny"])
@pytest.mark.parametrize(
    ("named", "what", "hint"),
    [
        ("9", "no version has that number", "there are 1 (4f4f4f4f4f4f), 2 (99"),
        ("01", "no version has that number", "name its number"),
        ("4f", "too short to name a version", "at least 8 digits"),
        ("4f4f4f4", "too short to name a version", "at least 8 digits"),
        ("abcdef012345", "no such version", "name its number"),
        ("99999999", "begins several versions", "2 (999999999999), 4 (999999999999)"),
    ],
)
def test_a_name_that_no_version_has_is_never_a_guess(kind, named, what, hint):
    with pytest.raises(UnknownName, match=what) as refused:
        read_request(kind, {"reason": "r", "version": named}, VERSIONS)
    assert refused.value.got == repr(named)
    assert hint in refused.value.hint


def test_the_arms_of_a_test_are_named_like_any_version():
    with pytest.raises(UnknownName, match="no version has that number"):
        read_arms("a=1:0.5,b=9:0.5", VERSIONS)
    assert [arm["version"] for arm in read_arms("a=1:0.5,b=99009900:0.5", VERSIONS)] == ["4f" * 32, "9900" * 16]


def test_a_whole_digest_may_be_new():
    assert read_request("variant", {"reason": "r", "version": "0a" * 32}, VERSIONS).version == "0a" * 32


ON_A_HOME = {
    "gate": lambda path, home: app.gate(path, "m", "v", home=home),
    "deploy": lambda path, home: app.deploy(path, "m", "v", reason="r", home=home),
    "approve": lambda path, home: app.approve(path, "m", "v", reason="r", home=home),
    "rollback": lambda path, home: app.rollback(path, "m", reason="r", home=home),
    "status": lambda path, home: app.status(path, home=home),
    "log": lambda path, home: app.log(path, home=home),
    "send": lambda path, home: app.send(path, "sales", path / "sales.jsonl", home=home),
}


@pytest.mark.parametrize("name", ON_A_HOME)
def test_a_named_home_that_is_none_is_told_and_not_made(name, tmp_path, monkeypatch):
    (tmp_path / "project.py").write_text("")
    place = tmp_path / "elsewhere"
    with pytest.raises(Unavailable, match="no home of a project here") as refused:
        ON_A_HOME[name](tmp_path, place)
    assert refused.value.got == str(place)
    assert "--home" in refused.value.hint
    monkeypatch.setenv("TRIMTAB_HOME", str(place))
    with pytest.raises(Unavailable, match="no home of a project here"):
        ON_A_HOME[name](tmp_path, None)
    assert [item.name for item in tmp_path.iterdir()] == ["project.py"]


def test_a_project_without_a_home_is_told_how_to_name_one(tmp_path):
    with pytest.raises(Unavailable, match="this project has no home yet") as refused:
        app.log(tmp_path)
    assert "TRIMTAB_HOME" in refused.value.hint


def test_a_named_home_is_read_without_its_project(tmp_path, monkeypatch):
    Home(tmp_path / "shop").made().ledger()
    Home(tmp_path / "other").made()
    assert app.log(tmp_path, home=tmp_path / "shop")["events"] == []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIMTAB_HOME", "shop")
    assert app.status(tmp_path)["project"] == "shop"
    assert named_home() == Home(tmp_path / "shop")
    with pytest.raises(Unavailable):
        app.status(tmp_path, home=tmp_path / "other")  # what is given wins


def test_without_a_worker_a_prediction_says_what_to_name(tmp_path):
    (tmp_path / "project.py").write_text(PREDICTS)
    with pytest.raises(Unavailable, match="no serving worker runs") as refused:
        app.predict(tmp_path, "m", {}, home=tmp_path / "elsewhere")
    assert refused.value.got == str(tmp_path / "elsewhere")
    assert "--home" in refused.value.hint
