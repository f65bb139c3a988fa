"""The child process of :class:`trimtab.adapters.compute.processes.ProcessCompute`.

``python -m trimtab.adapters.compute.child <job dir>`` does one job and ends. Without an argument it is *warm*: it
reads job directories from standard input, one a line, does them in turn, and ends with its input.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trimtab.adapters.compute.jobdir import JobDirectory, mark
from trimtab.core.ids import Json
from trimtab.errors import JobFailed, TrimtabError

_ALLOWED = "trimtab."
_HINT = "name a function of Trimtab as package.module:function"


def check_function(function: str) -> None:
    """Refuse a function that is not Trimtab's, without importing anything.

    Raises
    ------
    JobFailed
        When it is not named ``trimtab.….module:function``.
    """
    module, _, name = function.partition(":")
    if not module.startswith(_ALLOWED) or not name.isidentifier():
        raise JobFailed("a job may only call a function of Trimtab", got=repr(function), hint=_HINT)


def resolve(function: str) -> Callable[..., Any]:
    """The function that ``package.module:name`` names; only Trimtab's own.

    Raises
    ------
    JobFailed
        When there is none, or it is not Trimtab's.

    Examples
    --------
    >>> resolve("trimtab.core.clock:duration")("3h")
    10800000000
    """
    check_function(function)
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise JobFailed("there is no such module", got=f"{function!r}: {error}", hint=_HINT) from None
    # What a module merely imports is not Trimtab's to offer.
    if not callable(found) or not str(getattr(found, "__module__", "")).startswith(_ALLOWED):
        raise JobFailed("there is no such function", got=repr(function), hint=_HINT)
    return found  # type: ignore[no-any-return]


def work(directory: JobDirectory, *, timeout_s: float) -> None:
    """Do the job of a directory, unless another process has it in hand or it is over."""
    with directory.locked("work.lock", wait=False) as ours:
        if not ours or directory.over:
            return
        directory.assign(mark(os.getpid()), attempt=max(1, directory.attempts()), begun=True)
        _log_to(directory.path / "log.txt")
        # Ends the job even when nobody is left to poll it.
        alarm = threading.Timer(timeout_s, _out_of_time, (directory, timeout_s))
        alarm.daemon = True
        alarm.start()
        try:
            _attempt(directory)
        finally:
            alarm.cancel()
            sys.stdout.flush()


def _attempt(directory: JobDirectory) -> None:
    try:
        job = directory.job()
        result = resolve(job.function)(**job.arguments)
        directory.finish("result.json", json.loads(json.dumps(result, allow_nan=False)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a project's code raises must become error.json
        traceback.print_exc()
        directory.finish("error.json", _describe(error))


def _describe(error: BaseException) -> Json:
    known = error.to_json() if isinstance(error, TrimtabError) else {"error": str(error), "kind": type(error).__name__}
    return {**known, "message": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _out_of_time(directory: JobDirectory, timeout_s: float) -> None:
    directory.finish("error.json", timed_out(timeout_s))
    os._exit(1)


def timed_out(timeout_s: float) -> Json:
    """The error of a job that took too long."""
    error = JobFailed("the job ran out of time", got=f"more than {timeout_s:g} s", hint="raise the setting job_time")
    return {**error.to_json(), "message": f"JobFailed: {error}"}


def _log_to(path: Path) -> None:
    """Send standard output and error, native libraries' too, to the job's log."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def main(arguments: list[str]) -> None:
    """Do the job named, or those named on standard input; the first argument is the time limit in seconds."""
    timeout_s = float(arguments[0])
    if len(arguments) > 1:
        work(JobDirectory(Path(arguments[1])), timeout_s=timeout_s)
        return
    for line in sys.stdin:
        work(JobDirectory(Path(line.rstrip("\n"))), timeout_s=timeout_s)


if __name__ == "__main__":
    main(sys.argv[1:])
