"""A model in a child process: started, watched, started again when it dies, and never trusted with our own process."""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.foreign import Foreign
from trimtab.adapters.models.isolated_child import SHAPE
from trimtab.adapters.models.isolated_process import Gone, IsolatedProcess, Late, last_words
from trimtab.errors import InputError, ModelFailed, TrimtabError, Unavailable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_LOCK = "lock"
_AGAIN = "the process of the model is being started again"
_log = logging.getLogger("trimtab.serving")


class IsolatedModel:
    """A foreign model, implementing :class:`trimtab.serving.ports.ModelRuntime` over a process of its own.

    The files are written to a private directory, and a child loads them there. A child that dies is started again at
    once, and more slowly each time (50 ms to 5 s) as long as it does not answer; calls fail with ``Unavailable``
    meanwhile. A call that takes too long ends the child.

    Parameters
    ----------
    files
        The model's own files by path.
    foreign
        How it is run.
    model
        Its name, as the handler is told it.
    root
        Where its private directory is made; what dead processes left there is removed.
    python
        The interpreter, unless the version names one.

    Raises
    ------
    ModelFailed
        When the model's own code raises an error while it is loaded.
    Unavailable
        When the process does not start, or not in time.
    """

    blocking = True

    def __init__(self, files: Mapping[str, bytes], foreign: Foreign, *, model: str, root: Path, python: str) -> None:
        self._foreign, self._python = foreign, foreign.python or python
        try:
            self._place = _Place(root, files)
        except OSError as error:
            raise Unavailable(
                "the model cannot be laid out for its process",
                got=str(error),
                hint="look at the space and rights there, and at the limit of open files (ulimit -n)",
            ) from None
        self._told = {
            "kind": foreign.kind, "entry": foreign.entry, "model": model, "directory": str(self._place.files),
            "inputs": foreign.inputs, "outputs": foreign.outputs, "takes": foreign.takes,
            "memory_bytes": foreign.memory_mb * 1024 * 1024,
        }  # fmt: skip
        self.found: dict[str, Any] = {}
        """What the child said when it had loaded the model: ``libraries``, ``columns`` with their types, and
        ``every``, the type of all columns where they are one tensor."""
        self._calls = threading.Lock()
        self._closed = threading.Event()
        self._child: IsolatedProcess | None = None
        self._newest: IsolatedProcess | None = None
        """The child, also while it is still loading."""
        self._why = ""
        self._pause = _FIRST_PAUSE_S
        try:
            first = self._started()
        except BaseException:
            self._place.remove()
            raise
        self._child = first
        # It sleeps in waitpid, so that a child that dies while idle is replaced before it is asked.
        self._keeper = threading.Thread(target=self._keep, args=(first,), name=f"trimtab-keep-{model}", daemon=True)
        self._keeper.start()

    @property
    def note(self) -> str:
        """What it runs on, and why it cannot answer now."""
        libraries = self.found.get("libraries", {})
        runs_on = f"a process of its own (python {libraries.get('python', 'unknown')})"
        return f"{runs_on}; {self.trouble}" if self.trouble else runs_on

    @property
    def trouble(self) -> str:
        """Why it cannot answer now; empty while a process runs."""
        return "" if self._child is not None else f"{_AGAIN}: {self._why or 'it has ended'}"

    @property
    def pid(self) -> int:
        """Of the child; 0 while there is none."""
        child = self._child
        return 0 if child is None else child.pid

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of shape (n, outputs) for inputs of shape (n, columns); one call at a time, the others wait.

        Raises
        ------
        InputError
            When the rows have another number of columns, or a value is none of its column's type.
        ModelFailed
            When the model's own code raised an error; its name stands first in ``got``.
        Unavailable
            When the child has died or was too slow, and is being replaced.
        """
        columns = len(self._foreign.inputs)
        if values.ndim != 2 or (columns and values.shape[1] != columns):
            raise InputError(
                "the rows do not fit the model", got=f"shape {values.shape}", hint=f"it takes (n, {columns})"
            )
        body = SHAPE.pack(*values.shape) + np.ascontiguousarray(values, "<f4").tobytes()
        answer = self._ask(b"M", body)
        rows, columns = SHAPE.unpack_from(answer)
        if rows != len(values) or len(answer) != SHAPE.size + 4 * rows * columns:
            raise ModelFailed("the model's own code failed", got=f"ValueError: {rows} answers for {len(values)} rows")
        return np.frombuffer(answer, "<f4", offset=SHAPE.size).reshape(rows, columns)

    def output_names(self) -> list[str]:
        """What the model calls its outputs, as far as its last answer had names."""
        names: list[str] = json.loads(self._ask(b"F", b""))["outputs"]
        return names

    def _ask(self, letter: bytes, body: bytes) -> bytes:
        limit = self._foreign.call_s
        if not self._calls.acquire(timeout=limit):
            raise Unavailable("the model is busy with other calls", got=f"for {limit:g} s")
        try:
            child = self._child
            if child is None:
                raise Unavailable(_AGAIN, got=self._why)
            try:
                answer = child.ask(letter, body, within=limit)
            except Gone as error:
                self._why = str(error)
                child.kill()  # its keeper sees it end, and starts another
                what = "did not answer in time" if isinstance(error, Late) else "has ended"
                raise Unavailable(f"the process of the model {what}", got=str(error)) from None
            except (InputError, ModelFailed):
                self._pause = _FIRST_PAUSE_S
                raise
            self._pause = _FIRST_PAUSE_S
            return answer
        finally:
            self._calls.release()

    def close(self) -> None:
        """End the child and all that it started; a call under way fails. Its keeper removes its directory."""
        self._closed.set()
        child = self._newest
        if child is not None:
            child.kill()

    def wait(self) -> None:
        """After :meth:`close`: wait until the child has gone and its directory with it."""
        self._keeper.join()

    def _started(self) -> IsolatedProcess:
        foreign = self._foreign
        child = IsolatedProcess(self._python, directory=self._place.files, log=self._place.log, threads=foreign.threads)
        self._newest = child
        try:
            if self._closed.is_set():
                child.kill()
            self.found = child.start(self._told, within=foreign.start_s)
        except (Gone, OSError, ValueError, TrimtabError) as error:
            child.kill()
            child.wait()
            child.close()
            if isinstance(error, TrimtabError):
                raise
            raise Unavailable("the model does not start", got=f"{error}{last_words(self._place.log)}") from None
        return child

    def _keep(self, child: IsolatedProcess) -> None:
        """Wait for a child to end and start the next, until the model is closed."""
        while True:
            code = child.wait()
            self._child = None
            with self._calls:  # whoever talks to it has seen its end
                child.close()
            self._why = self._why or f"it ended with {code}"
            following = self._next()
            if following is None:
                self._place.remove()
                return
            child, self._child, self._why = following, following, ""
            if self._closed.is_set():
                child.kill()

    def _next(self) -> IsolatedProcess | None:
        while not self._closed.wait(self._pause):
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
            try:
                return self._started()
            except TrimtabError as error:
                why = error.got or error.what
                if why != self._why:  # once, not at every try
                    _log.warning("the process of a model is not started again: %s", error)
                self._why = why
        return None


class _Place:
    """The private directory of a model; a lock in it says that its process lives."""

    def __init__(self, root: Path, files: Mapping[str, bytes]) -> None:
        root = root.resolve()  # the child works in a directory of its own
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (root / _LOCK).open("wb") as alone:
            fcntl.flock(
                alone, fcntl.LOCK_EX
            )  # else another worker could take a directory without its lock for a dead one
            _sweep(root)
            self._path = Path(tempfile.mkdtemp(prefix="model-", dir=root))
            self._lock: IO[bytes] = (self._path / _LOCK).open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self.files, self.log = self._path / "files", self._path / "log.txt"
            self._fill(files)
        except BaseException:
            self.remove()
            raise

    def _fill(self, files: Mapping[str, bytes]) -> None:
        self.files.mkdir()
        for path, data in files.items():
            target = self.files / path
            if not target.resolve().is_relative_to(self.files.resolve()):
                raise InputError("not a path inside a model", got=repr(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o400)  # a model that overwrites itself would be another at its next start

    def remove(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        self._lock.close()


def _sweep(root: Path) -> None:
    """Remove what processes that are dead now have left."""
    for path in root.glob("model-*"):
        try:
            with (path / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except FileNotFoundError:
            pass
        shutil.rmtree(path, ignore_errors=True)
