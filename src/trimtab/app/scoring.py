"""Batch inference: a table through the pipeline that serves HTTP, chunk by chunk, resumable after ``kill -9``."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from trimtab.adapters.offline.answers import Answered
from trimtab.adapters.offline.database import shown
from trimtab.adapters.offline.tables import Chunk, Table
from trimtab.adapters.online.precomputed import PRECOMPUTED, LmdbPrecomputed
from trimtab.app.batches import (
    AS_OF,
    BatchRequest,
    Run,
    Scorer,
    as_of,
    batch_home,
    check_columns,
    check_precompute,
    features_of,
    id_column,
    make_scorer,
    open_output,
    open_rows,
    resolve,
)
from trimtab.app.home import Home
from trimtab.app.spreading import EachChunk, spread
from trimtab.core.clock import Clock, Micros, iso
from trimtab.core.ids import Json
from trimtab.core.ports import Records
from trimtab.errors import InputError
from trimtab.loop.tick import Tick
from trimtab.registry.bundle import Bundle, load
from trimtab.serving.cache_key import row_keys
from trimtab.serving.ports import Precomputed
from trimtab.serving.recording import encode_records
from trimtab.serving.scoring import ARM, QUARANTINED, TABLE, Scored

if TYPE_CHECKING:
    import pyarrow as pa

FAULTS = 100
"""Quarantined rows that a report shows one by one; its counts are complete."""


class Note(msgspec.Struct, frozen=True):
    """What is remembered of a chunk that is done."""

    rows: int
    statuses: dict[str, int]
    faults: list[tuple[int, str, str, str]]
    content: str = ""
    """Digest of what was read, where the input has none of its own."""


def run_batch(
    project: Path,
    asked: BatchRequest,
    *,
    clock: Clock,
    progress: Callable[[Tick], None] = lambda _: None,
    home: Path | None = None,
) -> dict[str, Json]:
    """Score a table; what came of it. Running the same again goes on where it ended, or says that it is done.

    Raises
    ------
    SchemaError
        When the table lacks a column.
    InputError
        When the place of the answers holds something else, or the input is not what it was when the run began.
    ConflictError
        When another run writes there.
    Unavailable
        When a disk is full or a store is gone; the same command goes on later.
    """
    began = time.monotonic()
    place = batch_home(project, home)
    output = open_output(asked.out, rows=asked.rows, query=asked.query)
    scorer: Scorer | None = None
    try:
        stored = None if asked.anew else _stored(output)
        table = open_rows(asked)
        version = asked.version or (stored.version if stored else "")
        bundle = _version(place, asked.model, version)
        at = stored.at if stored and not asked.as_of else as_of(asked, clock)
        mode = features_of(bundle, table, asked)
        check_precompute(asked, mode)
        run = Run(
            table.name, table.identity, bundle.manifest.model, bundle.version, id_column(bundle, table, asked),
            mode, at, asked.chunk, asked.record, asked.precompute,
        )  # fmt: skip
        if not asked.anew and (over := _finished(output, run)) is not None:
            return over
        scorer = make_scorer(project, place, bundle, run, threads=asked.threads)
        check_columns(table, scorer.intake, run.id)
        notes = _begun(output, run, stored, scorer.schema(table.id_type(run.id)))
        resumed = len(notes)
        with spread(asked.on, scorer, project=project, home=place, bundle=bundle, run=run) as each:
            work = _Work(output, scorer, run, each=each, records=_records(place, run), ahead=_ahead(place, run, clock))
            done = work.do(table, notes, progress=progress, now=clock.now)
        if not table.same():
            raise InputError("the input changed while it was read", got=table.name, hint="run it again with --anew")
        report = report_of(
            run, notes, out=shown(asked.out), seconds=time.monotonic() - began, resumed=resumed, scored=done
        )
        output.finish(msgspec.json.format(msgspec.json.encode(report), indent=2), chunks=len(notes))
    finally:
        output.close()
        if scorer is not None:
            scorer.close()
    return report


def _version(home: Home, model: str, version: str) -> Bundle:
    bundle = load(home.blobs(), resolve(home, model, version))
    if bundle.manifest.model != model:
        raise InputError("that version is of another model", got=f"{bundle.version[:12]} of {bundle.manifest.model!r}")
    return bundle


class _Work:
    """The loop over the chunks."""

    def __init__(
        self,
        output: Answered,
        scorer: Scorer,
        run: Run,
        *,
        each: EachChunk,
        records: Records | None,
        ahead: Precomputed | None,
    ) -> None:
        self._output, self._scorer, self._run, self._each = output, scorer, run, each
        self._records, self._ahead = records, ahead

    def do(
        self, table: Table, notes: dict[int, Note], *, progress: Callable[[Tick], None], now: Callable[[], Micros]
    ) -> int:
        """Do what is not done; how many rows. ``notes`` becomes complete."""
        run, total = self._run, table.rows or 0
        finished = sum(note.rows for note in notes.values())
        began = finished
        before, seen = frozenset(notes), set[int]()
        with ThreadPoolExecutor(1, "write") as writer:
            written: Future[None] | None = None
            for chunk, scored in self._each(self._left(table, notes, before=before, seen=seen)):
                note, answers = self._told(chunk, scored)
                if written is not None:
                    written.result()
                written = writer.submit(self._output.write, chunk.number, msgspec.json.encode(note), answers)
                notes[chunk.number] = note
                finished += chunk.rows
                # A tick says how much time is over; here rows stand for time.
                progress(Tick(when := now(), when - finished, when + max(total - finished, 0), finished))
            if written is not None:
                written.result()
        if not table.identity and before - seen:
            raise _other_rows(run, f"rows from {min(before - seen) * run.chunk} on are gone")
        if not notes:  # no rows are answers too: an empty table
            empty = self._scorer.schema(table.id_type(run.id)).empty_table()
            notes[0] = Note(0, {}, [])
            self._output.write(0, msgspec.json.encode(notes[0]), empty)
        return finished - began

    def _left(
        self, table: Table, notes: Mapping[int, Note], *, before: frozenset[int], seen: set[int]
    ) -> Iterator[Chunk]:
        """The chunks that are not done; those that are, and are read, are compared."""
        kinds = self._scorer.intake.kinds
        for chunk in _read_ahead(table.chunks(self._run.chunk, kinds, id=self._run.id, skip=before)):
            seen.add(chunk.number)
            if chunk.number in before:
                _compare(chunk, notes[chunk.number], self._run)
            else:
                yield chunk

    def _told(self, chunk: Chunk, scored: Scored) -> tuple[Note, pa.Table]:
        answers = self._scorer.table(chunk, scored)
        self._keep(scored)
        shown = [(fault.row, fault.column, fault.reason, fault.value) for fault in islice(scored.faults, FAULTS)]
        return Note(chunk.rows, scored.counts(), shown, chunk.digest), answers

    def _keep(self, scored: Scored) -> None:
        """Records and answers for workers, before the chunk counts as done: after a kill they are written again."""
        for answers, _ in scored.answers:
            if self._records is not None:
                self._records.write(TABLE, encode_records(answers, self._run.model))
            if self._ahead is not None:
                keys = row_keys(self._run.version, answers.requests)
                outputs = answers.outputs.reshape(len(keys), -1)
                fine: list[bool] = np.all(np.isfinite(outputs), axis=1).tolist()
                kept = {key: row for key, row, good in zip(keys, outputs.tolist(), fine, strict=True) if good}
                self._ahead.put_many(
                    self._run.model, self._run.version, kept, until=self._run.at + self._run.precompute
                )


def _read_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks, each read in another thread while the one before is scored."""
    with ThreadPoolExecutor(1, "read") as reader:
        waiting = reader.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = reader.submit(next, chunks, None)
            yield chunk


# -- going on


def _stored(output: Answered) -> Run | None:
    """The run that began to write there and did not end."""
    note = output.notes().get(-1)
    return None if note is None else _read(note, Run)


def _finished(output: Answered, run: Run) -> dict[str, Json] | None:
    """The report of the same run, when it is over; None when there is nothing yet.

    Raises
    ------
    InputError
        When what stands there is of another run, or of no run at all.
    """
    report = output.finished()
    if report is None:
        if output.exists() and not output.notes():
            raise InputError(
                "there is something already where the answers go, and no run of ours made it",
                hint="name another place, or replace it with --anew",
            )
        return None
    told: dict[str, Json] = msgspec.json.decode(report)
    if changed := _changed(msgspec.convert(told["run"], Run), run):
        raise InputError(
            f"the answers of another run are there: {changed}", hint="name another place, or replace them with --anew"
        )
    return told | {"already": True, "scored": 0}


def _begun(output: Answered, run: Run, stored: Run | None, schema: Any) -> dict[int, Note]:
    """The notes of the chunks that are done; a run that is new is begun.

    Raises
    ------
    InputError
        When another run was begun there.
    """
    if stored is None:
        output.begin(msgspec.json.encode(run), schema)
        return {}
    if changed := _changed(stored, run):
        raise InputError(
            f"a run that is not finished was begun differently: {changed}",
            hint="run it as it was begun, or start again with --anew",
        )
    return {number: _read(note, Note) for number, note in sorted(output.notes().items()) if number >= 0}


_SAID = {
    "input": "the name of the input",
    "identity": "the content of the input",
    "id": "the column of ids",
    "features": "where features come from",
    "at": "the time",
    "chunk": "the rows of a chunk",
    "record": "whether predictions are recorded",
    "precompute": "how long answers are kept",
}


def _changed(before: Run, now: Run) -> str:
    """What is not the same in two runs; a file may be renamed, its content may not change."""
    fields = [name for name in Run.__struct_fields__ if getattr(before, name) != getattr(now, name)]
    if now.identity:
        fields = [name for name in fields if name != "input"]
    if now.features != AS_OF:  # a run without a time of its own keeps that of its beginning
        fields = [name for name in fields if name != "at"]
    return ", ".join(_SAID.get(name, f"the {name}") + " differs" for name in fields)


def _compare(chunk: Chunk, note: Note, run: Run) -> None:
    if chunk.digest != note.content:
        raise _other_rows(run, f"rows {chunk.first} to {chunk.first + chunk.rows - 1}")


def _other_rows(run: Run, which: str) -> InputError:
    return InputError(
        "the rows are not those that were scored before the run was interrupted",
        got=f"{run.input}: {which}",
        hint="end the query with ORDER BY and a unique column; start again with --anew",
    )


def _read(note: bytes, kind: type[Any]) -> Any:
    return msgspec.json.decode(note, type=kind)


# -- what else is kept


def _records(home: Home, run: Run) -> Records | None:
    return home.records(f"batch-{os.getpid()}-{time.monotonic_ns()}") if run.record else None


def _ahead(home: Home, run: Run, clock: Clock) -> Precomputed | None:
    if not run.precompute:
        return None
    store = LmdbPrecomputed(home.root / PRECOMPUTED, clock=clock)
    store.drop(before=clock.now())  # or a run every night would fill the disk
    return store


def report_of(
    run: Run, notes: Mapping[int, Note], *, out: str, seconds: float, resumed: int, scored: int
) -> dict[str, Json]:
    """What came of a run: every row is answered, failed or quarantined, and these add up."""
    statuses: Counter[str] = Counter()
    faults: list[tuple[int, str, str, str]] = []
    for number in sorted(notes):
        statuses.update(notes[number].statuses)
        faults += notes[number].faults[: FAULTS - len(faults)]
    bad = {status: count for status, count in statuses.items() if status.startswith(QUARANTINED)}
    failed = sum(count for status, count in statuses.items() if status.startswith("error"))
    rows = sum(statuses.values())
    return {
        "model": run.model,
        "version": run.version,
        "input": run.input,
        "out": out,
        "features": run.features,
        "as_of": iso(run.at),
        "rows": rows,
        "answered": rows - failed - sum(bad.values()),
        "failed": failed,
        "quarantined": sum(bad.values()),
        "reasons": [
            {"column": column, "reason": reason, "rows": count}
            for status, count in sorted(bad.items())
            for _, column, reason in [status.split(":", 2)]
        ],
        "bad_rows": [
            {"row": row, "column": column, "reason": reason, "value": value} for row, column, reason, value in faults
        ],
        "statuses": dict(sorted(statuses.items())),
        "arm": ARM,
        "recorded": run.record,
        "chunks": len(notes),
        "resumed_chunks": resumed,
        "scored": scored,
        "seconds": round(seconds, 3),
        "rows_per_second": round(scored / seconds, 1) if seconds > 0 else 0.0,
        "already": False,
        "run": msgspec.to_builtins(run),
    }
