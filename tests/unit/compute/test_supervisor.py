"""Posts: filled, adopted, given up and filled again, by real processes."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from trimtab.adapters.compute.jobdir import mark
from trimtab.adapters.compute.supervisor import Supervisor, claim, read_post

# What a worker does about its post, and nothing else: claim it, then wait.
CHILD = """
import sys, time
from pathlib import Path
from trimtab.adapters.compute.supervisor import claim
run, name, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if how == "dies":
    sys.exit(1)
post = claim(run, name, sys.argv[1:])
if post is None:
    sys.exit(3)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "post_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    (tmp_path / "run").mkdir()
    made = []

    def supervisor(**more):
        made.append(Supervisor(tmp_path / "run", "post_child", drain_s=2, **more))
        return made[-1]

    supervisor.path = tmp_path / "run"
    yield supervisor
    for one in made:
        one.stop()


def until(holds, within=10.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def command(run, name, how="lives"):
    return [str(run.path), name, how]


def held(run, name="w-1"):
    post = read_post(run.path, name)
    return post.process.pid if post.held else None


def test_a_post_is_filled_and_refilled_and_given_up(run):
    supervisor = run()
    supervisor.keep({"w-1": command(run, "w-1")})
    first = until(lambda: held(run))
    assert os.getsid(first) == first  # in a session of its own
    assert [state.state for state in supervisor.states()] == ["running"]
    os.kill(first, signal.SIGKILL)

    def again():
        supervisor.check()
        return held(run) not in (None, first)

    until(again)
    supervisor.stop()
    assert held(run) is None


def test_a_new_supervisor_adopts_what_fits_and_ends_what_does_not(run):
    one = run()
    one.keep({"w-1": command(run, "w-1"), "w-2": command(run, "w-2"), "w-3": command(run, "w-3")})
    pids = [until(lambda name=name: held(run, name)) for name in ("w-1", "w-2", "w-3")]
    other = run()
    other.keep({"w-1": command(run, "w-1"), "w-2": command(run, "w-2", "otherwise")}, among="w-*")
    assert held(run, "w-1") == pids[0]
    assert other.states()[0].adopted
    assert until(lambda: held(run, "w-2")) != pids[1]
    assert held(run, "w-3") is None
    other.stop(started_only=True)
    assert held(run, "w-1") == pids[0]
    assert held(run, "w-2") is None


def test_a_process_id_that_was_given_to_somebody_else_is_not_taken_for_the_worker(run):
    ours = {"pid": os.getpid(), "started": "1", "command": command(run, "w-1")}
    (run.path / "w-1.pid").write_text(json.dumps(ours))
    assert not read_post(run.path, "w-1").held
    supervisor = run()
    supervisor.keep({"w-1": command(run, "w-1")}, among="w-*")  # and this process lives on
    assert until(lambda: held(run)) != os.getpid()


def test_a_torn_post_is_an_empty_one(run):
    (run.path / "w-1.pid").write_text('{"pid": 12')
    assert read_post(run.path, "w-1").process is None


def test_two_cannot_hold_one_post(run):
    ours = claim(run.path, "w-1", ["a"])
    assert ours is not None
    assert claim(run.path, "w-1", ["b"]) is None
    assert read_post(run.path, "w-1").command == ("a",)
    assert read_post(run.path, "w-1").process == mark(os.getpid())
    ours.__exit__()


def test_what_dies_at_once_is_started_again_after_growing_pauses(run):
    now = [0.0]
    supervisor = run(monotonic=lambda: now[0], longest_s=1.0)
    supervisor.keep({"w-1": command(run, "w-1", "dies")})
    starts = 1
    seen = []
    for _ in range(4):
        until(lambda: supervisor.states()[0].state == "waiting")
        child = supervisor._duties["w-1"].child
        supervisor.check()  # notices the death, and waits
        pause = supervisor._duties["w-1"].next_try - now[0]
        seen.append(round(pause, 6))
        now[0] += pause + 0.001
        supervisor.check()
        starts += supervisor._duties["w-1"].child != child
    assert seen == [0.1, 0.2, 0.4, 0.8]
    assert starts == 5


def test_it_is_started_with_trimtab_importable_and_without_the_token(run, monkeypatch):
    monkeypatch.setenv("TRIMTAB_TOKEN", "secret")
    supervisor = run()
    supervisor.keep({"w-1": command(run, "w-1")})
    pid = until(lambda: held(run))
    assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
