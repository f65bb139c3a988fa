"""The single steps, as far as they need no training: what they look for, and what they leave alone."""

from __future__ import annotations

import pytest

from trimtab import app
from trimtab.app import operations
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
