"""What every adapter of :class:`trimtab.training.ports.Compute` must do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from trimtab.training.ports import Compute, Job, JobState

_JOBS = "trimtab.testing.jobs"
_PATIENCE_S = 30.0


class ComputeConformance:
    """Fill in ``make``; ``lose`` as well, where a job is not a process of this machine."""

    def make(self, place: Path) -> Compute:
        """Compute over a place; called twice with one place, it knows the same jobs."""
        raise NotImplementedError

    def lose(self, process: int) -> None:
        """End the process that runs a job, so that no result comes from it."""
        os.kill(process, signal.SIGKILL)

    def test_a_job_runs_and_its_result_is_kept(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        job = Job("sum", f"{_JOBS}:add", {"a": 2, "b": 3.5})
        compute.submit(job)
        assert compute.wait("sum", timeout_s=_PATIENCE_S) == JobState("done", 5.5)
        assert compute.poll("sum") == JobState("done", 5.5)

    def test_an_unknown_job_is_unknown(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        assert compute.poll("none").status == "unknown"
        compute.cancel("none")

    def test_results_outlive_the_object(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        compute.submit(Job("sum", f"{_JOBS}:add", {"a": 2, "b": 3}))
        compute.wait("sum", timeout_s=_PATIENCE_S)
        assert self.make(tmp_path).poll("sum") == JobState("done", 5)

    def test_a_running_job_is_known_to_another_object(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        compute.submit(Job("long", f"{_JOBS}:visit", {"path": str(tmp_path / "visits"), "seconds": 1.5}))
        process = _visitor(tmp_path / "visits", compute, "long")
        other = self.make(tmp_path)
        assert other.poll("long").status == "running"
        other.submit(Job("long", f"{_JOBS}:visit", {"path": str(tmp_path / "visits"), "seconds": 1.5}))
        assert other.wait("long", timeout_s=_PATIENCE_S) == JobState("done", 1)
        assert (tmp_path / "visits").read_text().split() == [str(process)]

    def test_submitting_again_runs_nothing_again(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        job = Job("once", f"{_JOBS}:visit", {"path": str(tmp_path / "visits"), "seconds": 0.3})
        compute.submit(job)
        compute.submit(job)
        assert compute.wait("once", timeout_s=_PATIENCE_S) == JobState("done", 1)
        compute.submit(job)
        self.make(tmp_path).submit(job)
        assert compute.wait("once", timeout_s=_PATIENCE_S) == JobState("done", 1)
        assert len((tmp_path / "visits").read_text().split()) == 1

    def test_a_job_that_raises_has_failed_with_its_message_and_stays_failed(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        job = Job("bad", f"{_JOBS}:refuse", {"what": "the moon is full"})
        compute.submit(job)
        state = compute.wait("bad", timeout_s=_PATIENCE_S)
        assert state.status == "failed"
        assert "the moon is full" in state.error
        compute.submit(job)
        assert compute.poll("bad") == state
        assert self.make(tmp_path).poll("bad") == state

    @pytest.mark.parametrize("function", [f"{_JOBS}:no_such", "trimtab.no_such:f"])
    def test_a_job_that_does_not_exist_has_failed(self, tmp_path: Path, function: str) -> None:
        compute = self.make(tmp_path)
        compute.submit(Job("odd", function, {}))
        state = compute.wait("odd", timeout_s=_PATIENCE_S)
        assert state.status == "failed"
        assert "no_such" in state.error

    def test_a_job_whose_process_was_killed_is_run_again(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        job = Job("lost", f"{_JOBS}:visit", {"path": str(tmp_path / "visits"), "seconds": 60})
        compute.submit(job)
        self.lose(_visitor(tmp_path / "visits", compute, "lost"))
        _until_not_running(compute, "lost")
        compute.submit(job)
        assert compute.wait("lost", timeout_s=_PATIENCE_S) == JobState("done", 2)

    def test_a_lost_job_is_run_again_by_another_object(self, tmp_path: Path) -> None:
        job = Job("lost", f"{_JOBS}:visit", {"path": str(tmp_path / "visits"), "seconds": 60})
        first = self.make(tmp_path)
        first.submit(job)
        self.lose(_visitor(tmp_path / "visits", first, "lost"))
        second = self.make(tmp_path)
        _until_not_running(second, "lost")
        second.submit(job)
        assert second.wait("lost", timeout_s=_PATIENCE_S) == JobState("done", 2)

    def test_a_process_that_ends_without_a_result_is_lost_not_done(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        job = Job("gone", f"{_JOBS}:vanish", {"path": str(tmp_path / "visits"), "times": 1})
        compute.submit(job)
        _visitor(tmp_path / "visits", compute, "gone")
        assert _until_not_running(compute, "gone").status != "done"
        compute.submit(job)
        assert compute.wait("gone", timeout_s=_PATIENCE_S) == JobState("done", 2)

    def test_waiting_ends_when_the_time_is_up(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        compute.submit(Job("long", f"{_JOBS}:pause", {"seconds": 60}))
        assert compute.wait("long", timeout_s=0.2).status == "running"
        compute.cancel("long")

    def test_a_cancelled_job_is_over_and_gives_no_result(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        compute.submit(Job("long", f"{_JOBS}:visit", {"path": str(tmp_path / "visits"), "seconds": 60}))
        process = _visitor(tmp_path / "visits", compute, "long")
        compute.cancel("long")
        state = _until_not_running(compute, "long")
        assert state.status != "done"
        assert not _alive(process)

    def test_cancelling_what_is_over_changes_nothing(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        compute.submit(Job("sum", f"{_JOBS}:add", {"a": 1, "b": 1}))
        compute.wait("sum", timeout_s=_PATIENCE_S)
        compute.cancel("sum")
        assert compute.poll("sum") == JobState("done", 2)

    def test_several_jobs_run_side_by_side(self, tmp_path: Path) -> None:
        compute = self.make(tmp_path)
        for number in range(3):
            compute.submit(Job(f"sum-{number}", f"{_JOBS}:add", {"a": number, "b": 1}))
        results = [compute.wait(f"sum-{number}", timeout_s=_PATIENCE_S).result for number in range(3)]
        assert results == [1, 2, 3]


def _visitor(path: Path, compute: Compute, job_id: str) -> int:
    """The id of the first process that visited, once there is one."""
    for _ in range(int(_PATIENCE_S / 0.02)):
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return int(text.split()[0])
        if (state := compute.poll(job_id)).status == "failed":
            pytest.fail(f"the job failed: {state.error}")
        time.sleep(0.02)
    pytest.fail("the job was not started in time")


def _until_not_running(compute: Compute, job_id: str) -> JobState:
    for _ in range(int(_PATIENCE_S / 0.02)):
        state = compute.poll(job_id)
        if state.status != "running":
            return state
        time.sleep(0.02)
    pytest.fail("the job did not end in time")


def _alive(process: int) -> bool:
    """Whether a process still runs; one that ended but was not yet waited for does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
