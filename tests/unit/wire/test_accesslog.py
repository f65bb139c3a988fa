"""The access log: every drawn request a line, never in the way, nothing lost without being counted."""

import threading

import msgspec
import pytest

from trimtab.adapters.wire import accesslog
from trimtab.adapters.wire.accesslog import AccessLog, Finished
from trimtab.serving.meter import Counter


def done(request_id="r1", status=200, path="/predict/m"):
    return Finished(0, 950, request_id, "POST", path, "/predict/{model}", status, "m", "v" * 64, "champion", 1)


def lines(path):
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(share=1.0, **more):
        dropped = Counter([0])
        log = AccessLog(tmp_path / "log" / "access.log", share=share, dropped=dropped, **more)
        made.append(log)
        return log, tmp_path / "log" / "access.log", dropped

    yield make
    for log in made:
        log.close()


def test_a_line_per_request(opened):
    log, path, dropped = opened()
    for number in range(100):
        log.add(done(f"r{number}"))
    log.close()
    assert [line["request_id"] for line in lines(path)] == [f"r{number}" for number in range(100)]
    assert lines(path)[0]["version"] == "v" * 12
    assert dropped.value == 0
    assert path.stat().st_mode & 0o077 == 0


def test_a_share_is_drawn_by_request_and_errors_always(opened):
    log, path, _ = opened(share=0.25)
    for number in range(400):
        log.add(done(f"r{number}"))
    log.add(done("broken", status=503))
    log.close()
    found = {line["request_id"] for line in lines(path)}
    assert 60 < len(found) < 140
    assert "broken" in found
    assert found - {"broken"} == {f"r{n}" for n in range(400) if accesslog.drawn(f"r{n}", 0.25)}


def test_what_does_not_fit_is_dropped_and_counted(opened, monkeypatch):
    monkeypatch.setattr(AccessLog, "_run", lambda self: self._stop.wait())  # a disk that hangs
    log, _, dropped = opened(limit=10)
    for _ in range(25):
        log.add(done())
    assert dropped.value == 15


def test_a_file_that_was_moved_away_is_made_anew(opened):
    log, path, _ = opened()
    log.add(done("before"))
    while not lines(path):
        threading.Event().wait(0.01)
    path.rename(path.with_suffix(".1"))
    log.add(done("after"))
    log.close()
    assert [line["request_id"] for line in lines(path)] == ["after"]


def test_a_disk_that_refuses_costs_lines_not_answers(opened, caplog):
    log, path, dropped = opened()
    path.parent.mkdir()
    path.mkdir()
    for _ in range(5):
        log.add(done())
    log.close()
    assert dropped.value == 5
    assert len(caplog.records) == 1


def test_what_a_caller_made_up_stays_one_short_line():
    line = accesslog.access_line(done("r1", path="/" + "x" * 5000 + '\n{"forged": 1}'))
    assert line.count(b"\n") == 1
    assert len(line) < 600
