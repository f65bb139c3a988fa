"""Jobs in child processes of this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trimtab.adapters.compute.child import check_function, timed_out
from trimtab.adapters.compute.children import Children
from trimtab.adapters.compute.jobdir import ATTEMPTS, JobDirectory, ProcessMark
from trimtab.errors import InputError, JobFailed, Unavailable
from trimtab.training.ports import Job, JobState

_CHILD = "trimtab.adapters.compute.child"
_LOG = "children.log"
"""What children say before they have a job."""
_POLL_S = 0.005
_GRACE_S = 10.0
"""A child ends itself when its time is up; this much later we do, in case it hangs in native code."""
_SPINS: Final = 1_000
"""How often an OpenMP thread of a child looks before it sleeps while it waits for the others.

LightGBM with 250,000 rows on two cores, seconds a fit, with the cores idle, beside one busy process, and beside another
such fit: 5.1, 14, 58 as the library does it (it spins for milliseconds); 5.1, 13, 14 with 10,000 looks; 5.7, 8.2, 8.8
with 1,000; 7.0, 7.5, 8.5 with none. Something is nearly always at work beside a training: serving, or the replay.
"""


class ProcessCompute:
    """Implements :class:`trimtab.training.ports.Compute` over a directory per job.

    A child runs in a session of its own: it outlives this process, and whoever opens the same directory later sees
    its result. A job whose process died without a result is ``unknown``, says so in its error, and runs again when
    it is submitted again, at most :data:`ATTEMPTS` times. One object is used from one thread at a time.

    Parameters
    ----------
    root
        Where the directories of the jobs are.
    python
        The interpreter.
    reuse
        Keep one warm child that does jobs in turn, so that imports are paid once. It finishes the job in hand and
        ends when this process closes it or dies.
    timeout_s
        A job that takes longer fails.
    """

    def __init__(
        self,
        root: Path,
        *,
        python: str = sys.executable,
        reuse: bool = False,
        timeout_s: float = 3600,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._reuse, self._timeout_s = root, reuse, timeout_s
        self._monotonic = monotonic
        self._environment = _environment()
        self._children = Children(python)
        self._given: dict[str, ProcessMark] = {}
        self._begun: dict[str, float] = {}
        self._warm: ProcessMark | None = None
        self._pipe = -1
        root.mkdir(parents=True, exist_ok=True)

    def submit(self, job: Job) -> None:
        """Start a job unless it is running or over.

        Raises
        ------
        InputError
            When the id cannot name a directory, or names other work already.
        JobFailed
            When the function is not one of Trimtab's.
        Unavailable
            When no process can be started.
        """
        check_function(job.function)
        directory = self._directory(job.id)
        directory.path.mkdir(parents=True, exist_ok=True)
        with directory.locked("submit.lock"):
            directory.write_job(job)
            if directory.over or self._process(job.id) is not None:
                return
            attempt = directory.attempts() + 1
            if attempt > ATTEMPTS:
                error = JobFailed(
                    "the job's process died again and again without a result",
                    got=f"{ATTEMPTS} attempts",
                    hint=f"see {directory.path / 'log.txt'} and {self._root / _LOG}; often memory ran out",
                )
                directory.finish("error.json", {**error.to_json(), "message": f"JobFailed: {error}"})
                return
            child = self._give(directory)
            self._given[job.id] = child
            directory.assign(child, attempt=attempt, begun=False)

    def poll(self, job_id: str) -> JobState:
        """Where a job stands; never blocks. ``unknown`` with an error: it was lost, submit it again."""
        self._children.reap()
        directory = self._directory(job_id)
        state = self._over(directory)
        if state is not None:
            return state
        process = self._process(job_id)
        if process is not None:
            self._check_time(job_id, directory, process)
            return JobState("running")
        # It may have ended between the two looks.
        state = self._over(directory)
        if state is not None:
            return state
        lost = "its process died without a result" if directory.attempts() else ""
        return JobState("unknown", error=lost)

    def wait(self, job_id: str, *, timeout_s: float) -> JobState:
        """Block until the job is over or lost, or the time is up; the state then."""
        deadline = self._monotonic() + timeout_s
        while (state := self.poll(job_id)).status == "running" and self._monotonic() < deadline:
            time.sleep(_POLL_S)
        return state

    def cancel(self, job_id: str) -> None:
        """End a job; no effect when it is over or was never submitted. Other jobs of a warm child start again."""
        directory = self._directory(job_id)
        if not (directory.path / "job.json").exists() or directory.over:
            return
        error = JobFailed("the job was cancelled")
        directory.finish("error.json", {**error.to_json(), "message": f"JobFailed: {error}"})
        process = self._process(job_id)
        if process is None:
            return
        _end(process)
        # Killed is not yet gone, and a job is not started anew while its process lives.
        deadline = self._monotonic() + _GRACE_S
        while process.alive and self._monotonic() < deadline:
            time.sleep(_POLL_S)
        self._children.reap()
        if self._warm == process:
            self._drop_warm()
            for other in [one for one, child in self._given.items() if child == process and one != job_id]:
                if not self._directory(other).over:
                    self.submit(self._directory(other).job())

    def close(self) -> None:
        """Let the warm child end after the jobs it was given; jobs go on, results stay."""
        self._drop_warm()
        self._children.reap()

    def _directory(self, job_id: str) -> JobDirectory:
        if not job_id or not job_id.replace("-", "").replace("_", "").isalnum() or len(job_id) > 100:
            raise InputError("not a job id", got=repr(job_id), hint="use letters, digits, - and _")
        return JobDirectory(self._root / job_id)

    def _over(self, directory: JobDirectory) -> JobState | None:
        error = directory.read("error.json")
        if error is not None:
            return JobState("failed", error=error["message"])
        result_file = directory.path / "result.json"
        return JobState("done", result=directory.read("result.json")) if result_file.exists() else None

    def _process(self, job_id: str) -> ProcessMark | None:
        """The live process that has the job, also one started by an earlier object over the same directory."""
        self._children.reap()
        for known in (self._given.get(job_id), self._directory(job_id).process()):
            if known is not None and known.alive:
                return known
        return None

    def _check_time(self, job_id: str, directory: JobDirectory, process: ProcessMark) -> None:
        if job_id not in self._begun and not directory.begun():
            return
        began = self._begun.setdefault(job_id, self._monotonic())
        if self._monotonic() - began > self._timeout_s + _GRACE_S:
            directory.finish("error.json", timed_out(self._timeout_s))
            _end(process)

    def _give(self, directory: JobDirectory) -> ProcessMark:
        if not self._reuse:
            return self._start([str(directory.path.resolve())], stdin=None)
        for _ in range(2):
            if self._warm is None or not self._warm.alive:
                self._drop_warm()
                self._warm_up()
            assert self._warm is not None
            try:
                os.write(self._pipe, f"{directory.path.resolve()}\n".encode())
            except BrokenPipeError:
                continue
            return self._warm
        raise Unavailable("the warm child does not take jobs", hint="see its log in the last job's directory")

    def _warm_up(self) -> None:
        reader, self._pipe = os.pipe()
        try:
            self._warm = self._start([], stdin=reader)
        finally:
            os.close(reader)

    def _drop_warm(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe, self._warm = -1, None

    def _start(self, arguments: list[str], *, stdin: int | None) -> ProcessMark:
        # -P: a project may hold a module with the name of one of the standard library.
        arguments = ["-P", "-m", _CHILD, repr(float(self._timeout_s)), *arguments]
        return self._children.start(arguments, log=self._root / _LOG, stdin=stdin, environment=self._environment)


def _end(process: ProcessMark) -> None:
    """Kill a child and all that it started: it leads a session, hence a process group, of its own."""
    if process.alive:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _environment() -> dict[str, str]:
    """A fixed order of sets, since a training must be repeatable; and how OpenMP threads wait, unless told."""
    fixed = {"PYTHONHASHSEED": "0"}
    told = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    return fixed if told else fixed | {"GOMP_SPINCOUNT": str(_SPINS)}
