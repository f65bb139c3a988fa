"""The port of compute: where jobs run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from trimtab.core.ids import Json


@dataclass(frozen=True, slots=True)
class Job:
    """Work for another process: the import path of a function ``f(**arguments) -> result``, all JSON."""

    id: str
    """Names the work: submitting the same id again is the same job."""
    function: str
    """``package.module:function`` inside Trimtab."""
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job stands."""

    status: Literal["unknown", "running", "done", "failed"]
    result: Json = None
    error: str = ""


class Compute(Protocol):
    """Runs jobs in other processes.

    Contract: ``submit`` is idempotent by job id: a running job is left alone, a finished one keeps its result, and
    one that was lost (its process died without a result) is run again. Results outlive this process: a new
    object over the same place sees them. A job that raises is ``failed`` with its message, and is not retried.
    """

    def submit(self, job: Job) -> None:
        """Start a job unless it is running or finished."""
        ...

    def poll(self, job_id: str) -> JobState:
        """Where a job stands; never blocks."""
        ...

    def wait(self, job_id: str, *, timeout_s: float) -> JobState:
        """Block until the job is over or the time is up."""
        ...

    def cancel(self, job_id: str) -> None:
        """End a job; no effect when it is over."""
        ...
