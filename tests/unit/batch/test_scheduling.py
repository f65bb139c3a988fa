"""What is scheduled, in which home, and what is seen of it."""

from __future__ import annotations

import logging

import pyarrow.parquet as pq
import pytest
from tests.e2e.live_house import cli
from tests.unit.batch.batch_house import frame, registered
from tests.unit.batch.test_schedules import beat_until, told

from trimtab import app
from trimtab.app.home import Home
from trimtab.app.overview import log_events
from trimtab.app.schedules import Schedules, read_schedules, schedules_status
from trimtab.cli.status import _batch
from trimtab.core.clock import HOUR, MINUTE
from trimtab.errors import InputError, Unavailable


@pytest.fixture
def shop(tmp_path):
    """A project's directory, where a version is in the home of the project."""
    version = registered(tmp_path / "shop" / ".trimtab")
    Home(tmp_path / "shop" / ".trimtab").ledger()
    pq.write_table(frame(20), tmp_path / "r.parquet")
    return tmp_path / "shop", version


@pytest.fixture
def elsewhere(tmp_path):
    """A home that is named: another model of that name is there."""
    version = registered(tmp_path / "elsewhere", bias=0.7)
    home = Home(tmp_path / "elsewhere").made()
    home.ledger()
    return home, version


def schedule(shop, rows, out, **more):
    project, version = shop
    given = {"every": HOUR, "options": {"version": version}} | more
    return app.schedule_batch(project, "m", str(rows), out=str(out), **given)


# -- which home


def test_the_home_that_is_named_scores(shop, elsewhere, tmp_path, monkeypatch):
    project, version = shop
    home, other = elsewhere
    asked = {"rows": frame(10), "out": tmp_path / "a.parquet", "options": {"version": other}}
    with pytest.raises(Exception, match="no such version"):
        app.batch(project, "m", **asked)
    assert app.batch(project, "m", home=home.root, **asked)["version"] == other
    monkeypatch.setenv("TRIMTAB_HOME", str(home.root))
    assert app.batch(project, "m", **asked | {"out": tmp_path / "b.parquet"})["version"] == other
    own = asked | {"out": tmp_path / "c.parquet", "options": {"version": version}}
    assert app.batch(project, "m", home=project / ".trimtab", **own)["version"] == version  # an option wins


def test_a_named_home_without_models_is_not_made(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="TRIMTAB_HOME"):
        app.batch(shop[0], "m", frame(10), out=tmp_path / "a.parquet")
    assert not (tmp_path / "none").exists()


def test_a_schedule_is_kept_in_the_named_home_and_scored_there(shop, elsewhere, tmp_path):
    home, other = elsewhere
    out = tmp_path / "scores" / "{time}.parquet"
    schedule(shop, tmp_path / "r.parquet", out, home=home.root, options={"version": other})
    assert read_schedules(Home(shop[0] / ".trimtab")) == []
    [kept] = read_schedules(home)
    schedules = Schedules(shop[0], home, home.ledger(), epoch=1)
    beat_until(schedules, kept.since + HOUR, lambda: told(home))
    [event] = told(home)
    assert (event.type, event.data["version"]) == ("BatchRan", other)
    [scored] = (tmp_path / "scores").glob("*.parquet")
    assert len(pq.read_table(scored)) == 20


def test_the_command_line_obeys_the_setting(shop, elsewhere, tmp_path):
    home, other = elsewhere
    asked = ("batch", "m", "-p", shop[0], "--in", tmp_path / "r.parquet", "--out", tmp_path / "s.parquet")
    done = cli(*asked, "--version", other, TRIMTAB_HOME=str(home.root))
    assert done.returncode == 0, done.stderr
    assert other[:12] in done.stdout


# -- what can be scheduled


def test_directories_of_answers_are_made(shop, tmp_path):
    schedule(shop, tmp_path / "r.parquet", tmp_path / "a" / "b" / "{time}.parquet")
    assert (tmp_path / "a" / "b").is_dir()
    schedule(shop, tmp_path / "r.parquet", tmp_path / "c" / "{time}" / "s.parquet")
    assert list((tmp_path / "c").iterdir()) == []
    schedule(shop, tmp_path / "r.parquet", f"sqlite:///{tmp_path}/d/{{time}}.db#scored")
    home = Home(shop[0] / ".trimtab")
    schedules = Schedules(shop[0], home, home.ledger(), epoch=1)
    beat_until(schedules, read_schedules(home)[2].since + HOUR, lambda: len(told(home)) == 3)
    assert len(list((tmp_path / "d").glob("*.db"))) == 1
    assert {event.type for event in told(home)} == {"BatchRan"}


@pytest.mark.parametrize(
    ("rows", "out", "more", "words"),
    [
        ("none.parquet", "s/{time}.parquet", {}, "no file holds the rows"),
        ("r.parquet", "r.parquet/{time}.parquet", {}, "cannot be made"),
        ("r.parquet", "s/{time}.parquet", {"options": {"as_of": "2026-11-10", "precompute": HOUR}}, "as of now"),
        ("r.parquet", "s/{time}.parquet", {"every": 1}, "a minute"),
        ("s/{time}.parquet", "s/{time}.parquet", {}, "where the rows come from"),
    ],
)
def test_what_would_fail_each_time_is_refused(shop, tmp_path, rows, out, more, words):
    with pytest.raises(InputError, match=words):
        schedule(shop, tmp_path / rows, tmp_path / out, **more)
    assert read_schedules(Home(shop[0] / ".trimtab")) == []


def test_rows_that_the_time_names_may_come_later(shop, tmp_path):
    assert schedule(shop, tmp_path / "in-{time}.parquet", tmp_path / "{time}.parquet")["scheduled"]


def test_a_directory_of_models_without_a_project_has_no_schedules(tmp_path):
    version = registered(tmp_path / "served")
    pq.write_table(frame(20), tmp_path / "r.parquet")
    with pytest.raises(InputError, match="no project is kept"):
        schedule((tmp_path / "served", version), tmp_path / "r.parquet", tmp_path / "{time}.parquet")
    with pytest.raises(InputError, match="no such schedule"):
        schedule((tmp_path / "served", version), tmp_path / "r.parquet", tmp_path / "{time}.parquet", every=0)
    assert not (tmp_path / "served" / "batches.json").exists()


# -- what is seen


def test_status_log_and_a_warning_tell_of_a_schedule_that_fails(shop, tmp_path, caplog):
    project, _ = shop
    home = Home(project / ".trimtab")
    schedule(shop, tmp_path / "r.parquet", tmp_path / "{time}.parquet", every=90 * MINUTE)
    [kept] = read_schedules(home)
    [seen] = schedules_status(home, home.ledger(), kept.since)
    assert (seen["model"], seen["every"], seen["last"]) == ("m", "90m", None)
    (tmp_path / "r.parquet").unlink()
    due = (kept.since // (90 * MINUTE) + 1) * 90 * MINUTE
    schedules = Schedules(project, home, home.ledger(), epoch=1)
    with caplog.at_level(logging.WARNING, "trimtab.control"):
        beat_until(schedules, due, lambda: told(home))
        schedules.beat(due + MINUTE)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no file holds the rows" in caplog.text
    [seen] = schedules_status(home, home.ledger(), due)
    assert seen["last"]["result"] == "failed"
    assert "no file holds the rows" in seen["last"]["error"]
    assert seen["last"]["due"] < seen["next"]
    assert "FAILED" in "\n".join(_batch(seen))
    found = app.status(project)
    assert [batch["last"] for batch in found["batches"]] == [seen["last"]]
    assert "FAILED" in cli("status", "-p", project).stdout
    assert [event["type"] for event in app.log(project, model="m")["events"]] == ["BatchFailed"]
    with pytest.raises(Exception, match="nothing is known"):
        log_events(home.ledger(), at=None, model="n", limit=5)
