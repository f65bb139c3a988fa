"""Answers in files: killed at every step, and met by another run at the steps where they tidy up."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from trimtab.adapters.offline import answers
from trimtab.adapters.offline.answers import FileAnswers
from trimtab.errors import Unavailable

SCHEMA = pa.schema([("id", pa.int64())])
STEPS = ("open", "write", "fsync", "replace", "unlink", "ftruncate", "mkdir", "rmdir")


class Killed(BaseException):
    """In place of a signal, which would end the test too."""


@contextmanager
def dying(at):
    """Everything that changes the disk fails from one step on: nothing more is done, as after ``kill -9``."""
    seen, opened = [0], set()

    def step(real):
        def counted(*args, **more):
            seen[0] += 1
            if seen[0] >= at:
                raise Killed
            result = real(*args, **more)
            if real is opens:
                opened.add(result)
            return result

        return counted

    def closing(descriptor):
        opened.discard(descriptor)
        closes(descriptor)

    opens, closes = os.open, os.close
    with pytest.MonkeyPatch.context() as patched:
        for name in STEPS:
            patched.setattr(os, name, step(getattr(os, name)))
        patched.setattr(os, "close", closing)
        yield seen
    for descriptor in opened:
        closes(descriptor)


def numbers(*of):
    return pa.table({"id": list(of), "version": ["v"] * len(of), "status": ["ok"] * len(of)})


OLD, NEW = [numbers(7), numbers(8), numbers(9), numbers(10)], [numbers(1, 2), numbers(3, 4), numbers(5)]


def answer(out, note, chunks, *, anew=False, upto=9):
    """As a batch does it; the report, and whether it was there already."""
    place = FileAnswers(out)
    try:
        stored = None if anew else place.notes().get(-1)
        if not anew and (report := place.finished()) is not None:
            return report, True
        assert anew or stored is not None or not place.exists(), "no run of ours made it"
        if stored is None:
            place.begin(note, SCHEMA)
        assert stored in (None, note)
        done = place.notes()
        for number, chunk in enumerate(chunks[:upto]):
            if number not in done:
                place.write(number, b"{}", chunk)
        if upto >= len(chunks):
            place.finish(note, chunks=len(chunks))
        return note, False
    finally:
        place.close()


def held(out):
    """Names and rows of a place."""
    place = Path(out)
    names = sorted(path.relative_to(place.parent).as_posix() for path in place.parent.rglob("*"))
    if place.is_dir():
        return names, [
            number for part in sorted(place.glob("*.parquet")) for number in pq.read_table(part)["id"].to_pylist()
        ]
    return names, (csv.read_csv if place.suffix == ".csv" else pq.read_table)(place)["id"].to_pylist()


@pytest.mark.parametrize("before", ["nothing", "answers", "half a run", "nothing, and an empty folder"])
@pytest.mark.parametrize("out", ["s.parquet", "s.csv", "s/"])
def test_a_run_killed_at_any_step_goes_on_and_leaves_nothing(tmp_path, out, before):
    def place(name):
        (tmp_path / name).mkdir()
        if before.endswith("folder") and out == "s/":
            (tmp_path / name / "s").mkdir()
        return f"{tmp_path}/{name}/{out}"

    whole, old = place("whole"), place("old")
    answer(whole, b'{"new":1}', NEW)
    answer(old, b'{"old":1}', OLD)
    for at in count(1):
        here = place(f"{at}")
        if before in ("answers", "half a run"):
            answer(here, b'{"old":1}', OLD, upto=9 if before == "answers" else 2)
        killed = False
        with dying(at) as seen:
            try:
                answer(here, b'{"new":1}', NEW, anew=before in ("answers", "half a run"))
            except Killed:
                killed = True
        if before == "half a run" and b"old" in _begun(here):  # it was not begun anew yet: the old one goes on
            report, _ = answer(here, b'{"old":1}', OLD)
        else:
            report, _ = answer(here, b'{"new":1}', NEW)
        assert held(here) == held(old if b"old" in report else whole), at
        assert killed or b"new" in report
        if not killed:
            assert seen[0] > 20
            return


def _begun(out):
    place = FileAnswers(out)
    try:
        return place.notes().get(-1, b"")
    finally:
        place.close()


@pytest.mark.parametrize("out", ["s.parquet", "s/"])
def test_a_run_that_comes_while_another_tidies_up_is_let_in_and_disturbs_nobody(tmp_path, out, monkeypatch):
    """At each step of tidying another run tries to hold the place: it is refused, or let in for good."""
    first, let_in = FileAnswers(f"{tmp_path}/{out}"), []
    first.begin(b"{}", SCHEMA)
    first.write(0, b"{}", numbers(1))

    def step(real):
        def met(*args, **more):
            result = real(*args, **more)
            second = FileAnswers(f"{tmp_path}/{out}")
            with monkeypatch.context() as quiet:
                for name, before in reals.items():
                    quiet.setattr(os, name, before)
                with suppress(answers.ConflictError):
                    let_in.append(second.notes())
                    let_in.append(second)
            return result

        return met

    reals = {name: getattr(os, name) for name in ("unlink", "rmdir")}
    for name, real in reals.items():
        monkeypatch.setattr(os, name, step(real))
    first.finish(b'{"rows": 1}', chunks=1)
    first.close()
    monkeypatch.undo()
    if out == "s/":
        assert let_in == []
    else:
        notes, second = let_in
        assert notes == {}
        assert second.finished() == b'{"rows": 1}'
        assert (tmp_path / "s.parquet.parts" / "lock").exists()
        second.close()
        assert held(f"{tmp_path}/{out}") == (["s.parquet", "s.parquet.report.json"], [1])


@pytest.mark.parametrize("out", ["s.parquet", "s/"])
def test_a_run_that_starts_while_the_directory_is_taken_away_makes_it_again(tmp_path, out, monkeypatch):
    first, second = FileAnswers(f"{tmp_path}/{out}"), FileAnswers(f"{tmp_path}/{out}")
    first.notes()
    real = answers.make_directory

    def made(directory):
        real(directory)
        monkeypatch.undo()
        first.close()  # it scored nothing, and leaves nothing
        assert not directory.exists()

    monkeypatch.setattr(answers, "make_directory", made)
    assert second.notes() == {}
    assert second._lock.held
    second.close()


def test_a_place_that_cannot_be_held_is_told(tmp_path):
    (tmp_path / "s.parquet.parts").mkdir()
    (tmp_path / "s.parquet.parts" / "lock").mkdir()
    with pytest.raises(Unavailable, match="cannot be written"):
        FileAnswers(f"{tmp_path}/s.parquet").notes()


def test_a_lock_that_somebody_took_away_is_taken_again(tmp_path):
    place = FileAnswers(f"{tmp_path}/s.parquet")
    place.notes()
    (tmp_path / "s.parquet.parts" / "lock").unlink()
    assert place.notes() == {}
    assert place._lock.held
    place.close()
    assert list(tmp_path.iterdir()) == []
