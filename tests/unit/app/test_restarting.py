"""Who asked for a rolling restart hears of its end, whatever came of it."""

import json
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from trimtab.app import restarting
from trimtab.app.restarting import RollingRestart, restart_workers
from trimtab.errors import Unavailable


class Posts:
    """Stands in for the supervisor and its processes; ``stuck`` never gets ready again."""

    def __init__(self, run, *names, stuck=()):
        self.pids, self.stuck, self.next = {}, stuck, 100
        for name in names:
            self.add(name)
        for number in (1, 2, 3):
            (run / f"worker-{number}.pid").write_text("{}")

    def add(self, name, _command=()):
        if self.pids.get(name) is None:
            self.next += 1
            self.pids[name] = self.next

    def renew(self, name):
        before = self.pids[name]
        self.pids[name] = None
        if name not in self.stuck:
            self.add(name)
        return before

    def drop(self, name):
        self.pids[name] = None


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Makes posts, and a control process (this one) that restarts them when it is asked."""
    over = threading.Event()
    threads = []
    before = signal.getsignal(restarting.ASK)
    (tmp_path / restarting.CONTROL).write_text(json.dumps({"pid": os.getpid()}))
    monkeypatch.setattr(restarting, "control_runs", lambda _: True)
    monkeypatch.setattr(restarting, "_PATIENCE_S", 0.2)

    def made(*names, stuck=()):
        posts = Posts(tmp_path, *names, stuck=stuck)
        monkeypatch.setattr(restarting, "ready", lambda _, name: posts.pids.get(name))
        monkeypatch.setattr(restarting, "read_post", lambda _, name: SimpleNamespace(held=posts.pids.get(name)))
        rolling = RollingRestart(posts, tmp_path, names=["worker-1", "worker-2"], spare=("worker-3", []))
        signal.signal(restarting.ASK, lambda *_: rolling.ask())

        def steps():
            while not over.wait(0.01):
                rolling.step()

        threads.append(threading.Thread(target=steps))
        threads[-1].start()
        return posts

    yield made
    over.set()
    for thread in threads:
        thread.join()
    signal.signal(restarting.ASK, before)


def test_every_worker_is_replaced(world, tmp_path):
    world("worker-1", "worker-2")
    for _ in range(2):
        told = restart_workers(tmp_path, within_s=20)["workers"]
        assert [one["name"] for one in told] == ["worker-1", "worker-2"]
        assert all(one["before"] < one["after"] for one in told)


def test_one_that_does_not_get_ready_is_said_at_once(world, tmp_path):
    posts = world("worker-1", "worker-2", stuck=("worker-2",))
    with pytest.raises(Unavailable, match="worker-2 does not get ready"):
        restart_workers(tmp_path, within_s=20)
    assert posts.pids["worker-3"]  # it goes on


def test_the_additional_worker_of_a_restart_that_ended_early_goes_with_the_next(world, tmp_path):
    posts = world("worker-1", "worker-2", "worker-3")
    told = restart_workers(tmp_path, within_s=20)["workers"]
    assert [one["name"] for one in told] == ["worker-1", "worker-2"]
    assert posts.pids["worker-3"] is None


def test_no_end_is_said_too(world, tmp_path, monkeypatch):
    world("worker-1", "worker-2")
    monkeypatch.setattr(RollingRestart, "ask", lambda _: None)
    with pytest.raises(Unavailable, match=r"no end after 0\.3 s"):
        restart_workers(tmp_path, within_s=0.3)
