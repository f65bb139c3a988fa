import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trimtab.adapters.compute.jobdir import JobDirectory, ProcessMark, mark
from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.errors import InputError, JobFailed
from trimtab.training.ports import Job

WAIT = 30


@pytest.fixture(params=[False, True], ids=["child-per-job", "warm-child"])
def reuse(request):
    return request.param


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**options):
        made.append(ProcessCompute(tmp_path / "jobs", **options))
        return made[-1]

    yield make
    for compute in made:
        for pid in (tmp_path / "jobs").glob("*/pid"):
            process = JobDirectory(pid.parent).process()
            if process and process.alive:
                os.killpg(process.pid, signal.SIGKILL)
        compute.close()


def job(name, function, **arguments):
    return Job(name, f"trimtab.testing.jobs:{function}", arguments)


def until(condition, seconds=WAIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_job_gives_its_result_and_keeps_it(make, reuse, tmp_path):
    compute = make(reuse=reuse)
    mine = job("j1", "count", path=str(tmp_path / "count"))
    compute.submit(mine)
    assert compute.wait("j1", timeout_s=WAIT).result == 1
    compute.submit(mine)
    assert compute.wait("j1", timeout_s=WAIT).result == 1
    assert (tmp_path / "count").read_bytes() == b"x"
    assert make().poll("j1").result == 1, "a new object over the same place sees it"


def test_none_is_a_result(make):
    compute = make()
    compute.submit(job("j1", "pause", seconds=0))
    state = compute.wait("j1", timeout_s=WAIT)
    assert (state.status, state.result) == ("done", None)


def test_a_running_job_is_left_alone(make, reuse, tmp_path):
    compute = make(reuse=reuse)
    mine = job("j1", "count", path=str(tmp_path / "count"), seconds=0.5)
    for _ in range(3):
        compute.submit(mine)
        assert compute.poll("j1").status == "running"
    assert compute.wait("j1", timeout_s=WAIT).result == 1


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("refuse", {"what": "the sky is not blue"}, "InputError: the sky is not blue. Got nothing. Hint: none."),
        ("divide", {"over": 0}, "ZeroDivisionError"),
        ("leave", {}, "SystemExit"),
        ("echo", {"value": 1, "unknown": 2}, "TypeError"),
        ("nonesuch", {}, "no such function"),
        ("os", {}, "no such function"),
    ],
)
def test_a_job_that_raises_is_failed_with_its_message_and_not_retried(make, tmp_path, function, arguments, message):
    compute = make()
    compute.submit(job("j1", function, **arguments))
    state = compute.wait("j1", timeout_s=WAIT)
    assert state.status == "failed"
    assert message in state.error
    compute.submit(job("j1", function, **arguments))
    assert compute.poll("j1").status == "failed"
    if function == "divide":
        assert "Traceback" in (tmp_path / "jobs/j1/log.txt").read_text()


def test_a_warm_child_goes_on_after_a_job_that_raises(make):
    compute = make(reuse=True)
    compute.submit(job("bad", "leave"))
    compute.submit(job("good", "echo", value=[1, {"a": None}]))
    assert compute.wait("bad", timeout_s=WAIT).status == "failed"
    assert compute.wait("good", timeout_s=WAIT).result == [1, {"a": None}]


def test_a_warm_child_does_jobs_in_turn_in_one_process(make):
    compute = make(reuse=True)
    for name in ("a", "b", "c"):
        compute.submit(job(name, "process"))
    assert len({compute.wait(name, timeout_s=WAIT).result for name in ("a", "b", "c")}) == 1


def test_a_warm_child_ends_when_it_is_closed(make):
    compute = make(reuse=True)
    compute.submit(job("a", "process"))
    child = mark(compute.wait("a", timeout_s=WAIT).result)
    assert child.alive
    compute.close()
    until(lambda: not child.alive)
    compute.submit(job("b", "process"))
    assert compute.wait("b", timeout_s=WAIT).status == "done"


def test_kill_nine_loses_the_process_but_not_the_job(make, reuse, tmp_path):
    compute = make(reuse=reuse)
    mine = job("j1", "count", path=str(tmp_path / "count"), seconds=1.0)
    compute.submit(mine)
    until((tmp_path / "count").exists)
    os.kill(JobDirectory(tmp_path / "jobs/j1").process().pid, signal.SIGKILL)
    state = compute.wait("j1", timeout_s=WAIT)
    assert (state.status, state.error) == ("unknown", "its process died without a result")
    compute.submit(mine)
    assert compute.wait("j1", timeout_s=WAIT).result == 2, "it was run again"


def test_a_job_that_kills_its_process_every_time_fails_in_the_end(make):
    compute = make()
    mine = job("j1", "die")
    for _ in range(6):
        compute.submit(mine)
        state = compute.wait("j1", timeout_s=WAIT)
        if state.status == "failed":
            break
    assert "again and again" in state.error


PARENT = """
import sys
from pathlib import Path
from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.training.ports import Job
compute = ProcessCompute(Path(sys.argv[1]), reuse=sys.argv[3] == "True")
compute.submit(Job("j1", "trimtab.testing.jobs:count", {"path": sys.argv[2], "seconds": 1.0}))
import os, signal, time
deadline = time.monotonic() + 30
while not Path(sys.argv[2]).exists() and time.monotonic() < deadline:
    time.sleep(0.005)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_job_outlives_its_parent_and_is_not_started_twice(make, reuse, tmp_path):
    source = str(Path(sys.modules["trimtab"].__file__).parents[1])
    command = [sys.executable, "-c", PARENT, str(tmp_path / "jobs"), str(tmp_path / "count"), str(reuse)]
    assert subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": source}).returncode == -signal.SIGKILL
    compute = make(reuse=reuse)
    compute.submit(job("j1", "count", path=str(tmp_path / "count"), seconds=1.0))
    assert compute.poll("j1").status == "running"
    assert compute.wait("j1", timeout_s=WAIT).result == 1


def test_a_job_that_takes_too_long_is_ended(make, reuse):
    compute = make(reuse=reuse, timeout_s=0.3)
    compute.submit(job("j1", "pause", seconds=60))
    state = compute.wait("j1", timeout_s=WAIT)
    assert state.status == "failed"
    assert "ran out of time" in state.error


def test_a_child_that_cannot_end_itself_is_ended_from_outside(make, tmp_path):
    now = [0.0]
    compute = make(timeout_s=1000, monotonic=lambda: now[0])
    compute.submit(job("j1", "count", path=str(tmp_path / "count"), seconds=60))
    until((tmp_path / "count").exists)
    assert compute.poll("j1").status == "running"
    now[0] = 1100.0
    compute.poll("j1")
    state = compute.poll("j1")
    assert "ran out of time" in state.error
    process = JobDirectory(tmp_path / "jobs/j1").process()
    until(lambda: not process.alive)


def test_wait_gives_up_and_poll_does_not_block(make):
    compute = make()
    compute.submit(job("j1", "pause", seconds=60))
    began = time.monotonic()
    assert compute.poll("j1").status == "running"
    assert time.monotonic() - began < 1
    assert compute.wait("j1", timeout_s=0.05).status == "running"


def test_cancel_ends_a_job_and_what_was_over_stays(make, reuse, tmp_path):
    compute = make(reuse=reuse)
    compute.submit(job("done", "echo", value=1))
    compute.wait("done", timeout_s=WAIT)
    compute.submit(job("j1", "count", path=str(tmp_path / "count"), seconds=60))
    compute.submit(job("next", "echo", value=2))
    until((tmp_path / "count").exists)
    process = JobDirectory(tmp_path / "jobs/j1").process()
    compute.cancel("j1")
    assert "cancelled" in compute.poll("j1").error
    until(lambda: not process.alive)
    compute.cancel("done")
    compute.cancel("never")
    assert compute.poll("done").result == 1
    assert compute.wait("next", timeout_s=WAIT).result == 2, "jobs behind it are not lost"


def test_a_job_never_submitted_is_unknown(make):
    state = make().poll("never")
    assert (state.status, state.error) == ("unknown", "")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "x" * 101, "a b"])
def test_an_id_that_cannot_name_a_directory_is_refused(make, name):
    with pytest.raises(InputError, match="not a job id"):
        make().submit(job(name, "echo", value=1))


def test_an_id_cannot_be_used_for_other_work(make):
    compute = make()
    compute.submit(job("j1", "echo", value=1))
    with pytest.raises(InputError, match="other work"):
        compute.submit(job("j1", "echo", value=2))


@pytest.mark.parametrize(
    "function", ["os:system", "trimtab:x", "trimtabx.y:z", "trimtab.core.clock", "trimtab.core.clock:a.b"]
)
def test_only_functions_of_trimtab_may_be_run(make, function):
    with pytest.raises(JobFailed, match="only call a function of Trimtab"):
        make().submit(Job("j1", function, {}))


def test_a_process_id_that_belongs_to_somebody_else_by_now_is_not_taken_for_the_child(make, tmp_path):
    compute = make()
    mine = job("j1", "echo", value=1)
    directory = JobDirectory(tmp_path / "jobs/j1")
    directory.write_job(mine)
    directory.assign(ProcessMark(os.getpid(), "1"), attempt=1, begun=True)
    assert compute.poll("j1").status == "unknown"
    compute.submit(mine)
    assert compute.wait("j1", timeout_s=WAIT).result == 1


def test_no_child_is_left_a_zombie(make):
    compute = make()
    compute.submit(job("j1", "process"))
    pid = compute.wait("j1", timeout_s=WAIT).result
    until(lambda: compute.poll("j1") and not Path(f"/proc/{pid}").exists())


def test_half_a_file_is_never_read(tmp_path):
    directory = JobDirectory(tmp_path)
    (tmp_path / ".result.json.999").write_text('{"half')
    assert not directory.over
    directory.finish("result.json", {"whole": True})
    directory.finish("error.json", {"message": "late"})
    assert directory.read("result.json") == {"whole": True}
    assert directory.read("error.json") is None, "the first end counts"


@pytest.mark.parametrize(
    ("told", "expected"),
    [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_threads_of_a_child_spin_only_for_a_moment_unless_told(tmp_path, monkeypatch, told, expected):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    compute = ProcessCompute(tmp_path)
    compute.submit(Job("j", "trimtab.testing.jobs:environment", {"name": "GOMP_SPINCOUNT"}))
    assert compute.wait("j", timeout_s=30).result == expected
