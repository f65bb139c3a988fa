"""Answers in files: each chunk whole or not there, and a note of each that is done, so that a killed run goes on.

For ``scored.parquet`` or ``scored.csv`` the chunks wait in ``scored.parquet.parts/`` and are put together at the end,
into a file that appears whole. For a directory they stay what they are: ``part-00000000.parquet`` and so on, with the
notes in ``_trimtab/``, which every reader of data sets passes over. What is not whole yet has a fixed name beside the
notes: what a killed run leaves of it is gone with the next one.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trimtab.adapters.files import make_directory, settle, sync_directory, write_shared
from trimtab.adapters.lockfile import LockFile
from trimtab.errors import ConflictError, InputError, IntegrityError, Unavailable

if TYPE_CHECKING:
    import pyarrow as pa

_RUN, _CHUNKS, _LOCK, _REPORT = "run.json", "chunks.jsonl", "lock", "report.json"
_NEW = "new.json"
"""The note of a run that still empties the place; it becomes ``run.json`` when that is done."""
_UNFINISHED, _TOGETHER = "unfinished", "together"


class Answered(Protocol):
    """Where the answers of one run go.

    Contract: a chunk's rows and its note become visible together or not at all, also after ``kill -9``; writing a chunk
    again replaces it. One run at a time holds the place. ``begin`` drops whatever was there. After ``finish`` the rows
    of all chunks are there once, in the order of their numbers. A full disk raises ``Unavailable`` and leaves what was
    done before.
    """

    def notes(self) -> dict[int, bytes]:
        """The note of every chunk that is done, by number; -1 is the run's own."""
        ...

    def exists(self) -> bool:
        """Whether something is there already, whoever made it."""
        ...

    def finished(self) -> bytes | None:
        """The report of a run that is over; None when there is none."""
        ...

    def begin(self, note: bytes, schema: pa.Schema) -> None:
        """Start a run: empty the place and remember its note."""
        ...

    def write(self, number: int, note: bytes, table: pa.Table) -> None:
        """Keep a chunk and its note."""
        ...

    def finish(self, report: bytes, *, chunks: int) -> None:
        """Put the chunks together and keep the report."""
        ...

    def close(self) -> None:
        """Let go of the place."""
        ...


class FileAnswers:
    """:class:`Answered` in a ``.parquet`` or ``.csv`` file, or a directory of Parquet files.

    Raises
    ------
    InputError
        When the place has another kind of name, or its directory does not exist.
    ConflictError
        When another run writes there.
    """

    def __init__(self, out: str) -> None:
        self._out = Path(out)
        self._folder = out.endswith("/") or self._out.is_dir() or not self._out.suffix
        if not self._folder and self._out.suffix not in (".parquet", ".csv"):
            raise InputError("not a place for answers", got=out, hint="name a .parquet or .csv file, or a directory/")
        if not self._out.absolute().parent.is_dir():
            raise InputError("the directory of the answers does not exist", got=str(self._out.absolute().parent))
        self._work = self._out / "_trimtab" if self._folder else self._out.with_name(f"{self._out.name}.parts")
        self._parts = self._out if self._folder else self._work
        self._report = self._work / _REPORT if self._folder else self._out.with_name(f"{self._out.name}.report.json")
        self._made = not self._out.exists()
        self._lock = LockFile(self._work / _LOCK)
        self._log = -1

    # -- what is there

    def exists(self) -> bool:
        """Whether there are answers already, whoever made them."""
        return any(self._out.glob("*.parquet")) if self._folder else self._out.exists()

    def finished(self) -> bytes | None:
        """The report of a run that is over; a run that is not stands before it."""
        if not self._folder and (self._work / _RUN).exists():
            return None
        try:
            return self._report.read_bytes() if self.exists() else None
        except FileNotFoundError:
            return None

    def notes(self) -> dict[int, bytes]:
        """Of the chunks that are done; a note that a crash has torn does not count."""
        self._hold()
        try:
            found = {-1: (self._work / _RUN).read_bytes()}
        except FileNotFoundError:
            return {}
        for line in self._whole_lines():
            number, _, note = line.partition(b" ")
            if (self._parts / _part(int(number))).exists():
                found[int(number)] = note
        return found

    # -- writing

    def begin(self, note: bytes, schema: pa.Schema) -> None:
        """Empty the place and remember the run; answers of a run before stay until these are put together."""
        del schema
        self._hold()
        self._put(self._work / _NEW, note)
        if self._folder:
            self._report.unlink(missing_ok=True)
        (self._work / _RUN).unlink(missing_ok=True)
        self._empty()

    def write(self, number: int, note: bytes, table: pa.Table) -> None:
        """Keep a chunk: its file first, whole and on disk, then the note."""
        import pyarrow.parquet as pq

        data = io.BytesIO()
        pq.write_table(table, data, compression="zstd", use_dictionary=["version", "status"])
        self._put(self._parts / _part(number), data.getvalue())
        line = b"%d %s\n" % (number, note)
        try:
            if self._log < 0:
                self._log = os.open(self._work / _CHUNKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.ftruncate(self._log, sum(len(whole) + 1 for whole in self._whole_lines()))
            taken = os.write(self._log, line)
        except OSError as error:
            raise _full(self._work / _CHUNKS, error) from error
        if taken < len(line):  # the system tells the reason only to the next write
            raise _full(self._work / _CHUNKS, OSError(0, "no space left"))

    def finish(self, report: bytes, *, chunks: int) -> None:
        """Put the chunks together, unless they stay apart; then keep the report."""
        if not self._folder:
            self._assemble(chunks)
        self._put(self._report, report)
        if self._folder:
            self._forget()
            return
        (self._work / _RUN).unlink(missing_ok=True)
        self._take_away()
        sync_directory(self._out.absolute().parent)

    def close(self) -> None:
        """Let the next run in; nothing is left behind where nothing was scored, or where a run that is over was killed
        while it tidied up.
        """
        if self._lock.held:
            under_way = (self._work / _RUN).exists() and self._whole_lines()
            if not under_way:
                self._leave()
        self._end_log()
        self._lock.release(remove=False)

    # -- parts

    def _assemble(self, chunks: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow import csv

        temporary = self._work / _TOGETHER
        try:
            temporary.touch()  # with the mode that the umask gives
            writer: Any = None
            for number in range(chunks):
                table = pq.read_table(self._work / _part(number), partitioning=None)
                if self._out.suffix == ".csv":
                    table = pa.table([_plain(column) for column in table.columns], names=table.column_names)
                    writer = writer or csv.CSVWriter(str(temporary), table.schema)
                else:
                    writer = writer or pq.ParquetWriter(
                        str(temporary), table.schema, compression="zstd", use_dictionary=["version", "status"]
                    )
                writer.write_table(table)
            if writer is not None:
                writer.close()
            settle(temporary, self._out.absolute())
        except (OSError, pa.ArrowException) as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _full(self._out, error) from error
            raise IntegrityError(
                "a finished chunk cannot be read", got=f"{self._work}: {error}"[:300], hint="run it with --anew"
            ) from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _whole_lines(self) -> list[bytes]:
        try:
            data = (self._work / _CHUNKS).read_bytes()
        except FileNotFoundError:
            return []
        return data.split(b"\n")[:-1]

    # -- the place

    def _hold(self) -> None:
        """Be the one run that writes here, and bring to an end what a run that was killed had begun."""
        while not self._lock.held:
            try:
                make_directory(self._work)
                taken = self._lock.take()
            except (OSError, Unavailable) as error:
                if isinstance(error.__cause__ or error, FileNotFoundError) and self._out.absolute().parent.is_dir():
                    continue  # a run that has just ended took the directory away under us
                if isinstance(error, Unavailable):
                    raise
                raise Unavailable(
                    "answers cannot be written",
                    got=f"{self._work}: {error.strerror}",
                    hint="check the rights of the directory",
                ) from error
            if not taken:
                raise ConflictError(
                    "another run writes these answers", got=str(self._out), hint="wait for it, or name another place"
                )
            self._recover()

    def _recover(self) -> None:
        for stale in (_UNFINISHED, _TOGETHER):
            (self._work / stale).unlink(missing_ok=True)
        over = self._folder and self._report.exists()
        if over:
            self._forget()
        if (self._work / _NEW).exists():
            if over or (self._work / _RUN).exists():  # nothing was taken away yet: what stands there stays
                (self._work / _NEW).unlink()
            else:
                self._empty()

    def _empty(self) -> None:
        """Take away what a run before left; then the new one has begun."""
        (self._work / _CHUNKS).unlink(missing_ok=True)
        sync_directory(self._work)  # its report and notes must not come back without its parts
        self._remove_parts()
        (self._work / _NEW).replace(self._work / _RUN)
        sync_directory(self._work)

    def _remove_parts(self) -> None:
        for part in self._parts.glob("part-*.parquet"):
            part.unlink()

    def _forget(self) -> None:
        """Remove the notes of a run that is over."""
        for stale in (_CHUNKS, _RUN):
            (self._work / stale).unlink(missing_ok=True)

    def _leave(self) -> None:
        """Take away what a run made that scored nothing; the report of one that did stays."""
        if self._folder:
            if self._report.exists():
                return
            if (self._work / _RUN).exists() or (self._work / _NEW).exists():
                self._remove_parts()  # whole, but without their notes
        self._take_away()
        if self._folder and self._made:
            with suppress(OSError):  # there is something in it
                self._out.rmdir()

    def _take_away(self) -> None:
        """Remove the directory of the notes, the lock last: until then no other run is in there.

        What cannot be removed is no error: the answers are whole.
        """
        self._end_log()
        with suppress(OSError):
            for path in self._work.iterdir():
                if path.name != _LOCK:
                    path.unlink(missing_ok=True)
            self._lock.release(remove=True)
            self._work.rmdir()  # unless the next run is in there already

    def _end_log(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _put(self, path: Path, data: bytes) -> None:
        write_shared(path, data, through=self._work / _UNFINISHED)


def _part(number: int) -> str:
    return f"part-{number:08d}.parquet"


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _full(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        "answers cannot be written",
        got=f"{path}: {error.strerror or error}",
        hint="make room on the disk, then run the same again: it goes on where it ended",
    )
