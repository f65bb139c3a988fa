"""The single steps, as far as they need no training: what they look for, and what they leave alone."""

from __future__ import annotations

import pytest

from trimtab import app
from trimtab.app import operations
from trimtab.app.home import Home
from trimtab.app.judging import numbered
from trimtab.errors import ProjectError
from trimtab.loop import events as e


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
    assert app.gate(tmp_path, "m", "1f")["version"] == "1f" * 32
    assert numbered(ledger, "m", "2") == "1f" * 32
    assert numbered(ledger, "m", "7") == "7"
