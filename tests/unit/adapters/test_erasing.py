"""Erasures and expiries that are killed on their way, at the steps that count; see tests/chaos/test_record_files."""

import errno
import os

import pyarrow.parquet as pq
import pytest
from tests.unit.adapters.test_parquet import DAY, START, as_of_old, ids, prediction

from trimtab.adapters.records import deletion, erasing, parquet, spool
from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.deletion import delete_compacted, expire
from trimtab.adapters.records.segments import Mark, Segment, segments, write_mark
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.records.spoolfile import erase_rows, rows_to_erase
from trimtab.adapters.records.tail import SpoolFile, spools
from trimtab.errors import Unavailable
from trimtab.serving.record import PREDICTIONS


class Killed(BaseException):
    pass


def killed_at(monkeypatch, room, name, call, *, after=0):
    """Do something, but be killed at a call of a function; whether it was."""
    real, left = getattr(room, name), [after]

    def stop(*arguments, **options):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(room, name, stop)
        try:
            call()
        except Killed:
            return True
    return False


@pytest.fixture
def records(tmp_path):
    """Two predictions of a day, ``a`` and ``b``, and one of the next, ``c``, in spools."""
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [prediction("a"), prediction("b"), prediction("c", when=START + DAY)])
    records.close()
    return records


def places(records):
    return {row: place.offset for place, row in records.scan(PREDICTIONS)}


def erase(records, *names):
    return lambda: records.erase(PREDICTIONS, {"w1": [places(records)[prediction(name)] for name in names]})


def moved(records):
    directory = records.index(PREDICTIONS).directory
    compact(records, directory)
    delete_compacted(records, PREDICTIONS)
    return directory


def test_nobody_is_given_a_row_that_is_marked_although_its_file_still_holds_it(records, monkeypatch):
    directory = moved(records)
    assert killed_at(monkeypatch, erasing, "write_file", erase(records, "a"))
    assert sum(pq.read_metadata(path).num_rows for path in directory.rglob("*.parquet")) == 3
    assert len(list(records.scan(PREDICTIONS))) == 2
    assert ids(directory) == ["b", "c"]


def test_how_many_rows_are_left_is_right_also_after_a_kill_before_it_was_noted(records, monkeypatch):
    directory = moved(records)
    assert killed_at(monkeypatch, erasing, "write_mark", erase(records, "a"), after=1)
    records.erase(PREDICTIONS, {})
    expire(directory, before=START + 9 * DAY)
    assert records.tables() == []


def test_an_erasure_from_a_segment_of_an_old_version_is_finished_without_being_named(records, monkeypatch):
    directory = records.index(PREDICTIONS).directory
    compact(records, directory)
    as_of_old(directory)
    assert killed_at(monkeypatch, erasing, "write_segment", erase(records, "a"))
    assert ids(directory) == ["a", "b", "c"]
    records.erase(PREDICTIONS, {})
    assert ids(directory) == ["b", "c"]


def test_a_segment_of_an_old_version_keeps_rows_that_its_spool_has_lost(records, monkeypatch):
    directory = records.index(PREDICTIONS).directory
    second = SpoolRecords(directory.parent.parent, "w1")
    second.write(PREDICTIONS, [prediction("d")])
    second.close()
    compact(records, directory)
    as_of_old(directory)
    assert killed_at(monkeypatch, erasing, "write_segment", erase(records, "a"))
    os.truncate(directory.parent / "w1.spool", places(records)[prediction("c", when=START + DAY)])
    records.erase(PREDICTIONS, {})
    assert "d" in ids(directory)


def test_marks_of_erased_rows_are_on_disk_before_their_zeros_are_written(records, monkeypatch):
    steps, write, force = [], os.pwrite, os.fdatasync
    monkeypatch.setattr(os, "pwrite", lambda *given: steps.append(any(given[1])) or write(*given))
    monkeypatch.setattr(os, "fdatasync", lambda *given: steps.append("forced") or force(*given))
    assert erase(records, "a", "b")() == 2
    assert steps == [True, True, "forced", False, False, "forced"]


@pytest.mark.parametrize(("room", "name"), [(deletion, "remove_file"), (os, "rmdir"), (os, "unlink")])
@pytest.mark.parametrize("after", range(2))
def test_an_expiry_that_was_killed_is_finished_by_the_next(records, monkeypatch, room, name, after):
    directory = moved(records)
    assert killed_at(monkeypatch, room, name, lambda: expire(directory, before=START + 9 * DAY), after=after)
    expire(directory, before=START + 9 * DAY)
    assert list(directory.glob("model=*")) == []


def test_marks_that_a_kill_left_beside_the_one_that_took_their_place_go_with_the_next_expiry(tmp_path):
    for mark in (Segment("w", 0, 10), Segment("w", 10, 20), Segment("w", 0, 20)):
        write_mark(tmp_path, mark, Mark([], 0, "prediction", [], 1))
    (tmp_path / "segments" / ".tmp-abc").write_bytes(b"{")
    expire(tmp_path, before=START)
    assert [path.stem for path in (tmp_path / "segments").iterdir()] == [segments(tmp_path)[0].name]


def test_what_was_removed_already_is_no_error(tmp_path):
    parquet.remove_file(tmp_path / "model=m" / "day=d" / "gone.parquet")


def test_zeros_of_which_the_system_takes_a_part_are_written_whole_or_the_erasure_is_refused(tmp_path, monkeypatch):
    records, real = SpoolRecords(tmp_path, "w"), os.pwrite
    named = {"w": [records.write("t", [b"a secret that ends in this"]).offset]}

    def in_part(descriptor, data, offset):
        return real(descriptor, data[:-4] if len(data) > 8 else data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda *given: 0 if given[1] == bytes(4) else in_part(*given))
        with pytest.raises(Unavailable, match="cannot be erased"):
            records.erase("t", named)
        assert b"this" in (tmp_path / "t" / "w.spool").read_bytes()
        patched.setattr(os, "pwrite", in_part)
        records.erase("t", named)
    assert b"this" not in (tmp_path / "t" / "w.spool").read_bytes()


def test_an_erasure_that_finds_no_room_says_so_and_is_finished_when_there_is(records, monkeypatch):
    directory = moved(records)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(parquet, "settle", full)
        with pytest.raises(Unavailable, match="No space left"):
            erase(records, "a")()
    assert ids(directory) == ["b", "c"]
    records.erase(PREDICTIONS, {})
    assert sum(pq.read_metadata(path).num_rows for path in directory.rglob("*.parquet")) == 2


def test_rows_that_are_erased_twice_are_known_also_when_their_marks_were_joined(records):
    directory = records.index(PREDICTIONS).directory
    compact(records, directory, at_most=1)
    delete_compacted(records, PREDICTIONS)
    named = {"w1": list(places(records).values())}
    assert records.erase(PREDICTIONS, named) == 3
    expire(directory, before=START)
    assert len(segments(directory)) == 1
    assert records.erase(PREDICTIONS, named) == 0


def test_an_expiry_after_an_erasure_that_was_cut_short_leaves_no_count_of_rows(records, monkeypatch):
    directory = moved(records)
    assert killed_at(monkeypatch, erasing, "write_mark", erase(records, "a"), after=1)
    expire(directory, before=START + 9 * DAY)
    assert records.tables() == []


def test_what_was_erased_from_a_spool_alone_does_not_come_back_when_the_spool_is_deleted(records):
    directory = records.index(PREDICTIONS).directory
    compact(records, directory)
    rows, _ = rows_to_erase(directory.parent / "w1.spool", {places(records)[prediction("a")]})
    erase_rows(directory.parent / "w1.spool", rows)  # no further did an old version come before it was killed
    left = list(records.scan(PREDICTIONS))
    assert len(left) == 2
    assert delete_compacted(records, PREDICTIONS).files == 1
    assert list(records.scan(PREDICTIONS)) == left
    assert ids(directory) == ["b", "c"]
    assert sum(pq.read_metadata(path).num_rows for path in directory.rglob("*.parquet")) == 2


def test_files_that_are_deleted_while_they_are_looked_at_are_no_error(records, monkeypatch):
    directory, listed = moved(records), spools(records.directory(PREDICTIONS))
    for room in (spool, deletion):
        monkeypatch.setattr(room, "spools", lambda _: {"w1": [SpoolFile(0, None, directory.parent / "w1.spool")]})
    assert listed == {}
    assert records.tables() == [PREDICTIONS]
    assert deletion.usage(directory.parent).files == 2


def test_a_spool_that_grows_while_it_is_about_to_be_deleted_stays(records, monkeypatch):
    directory = records.index(PREDICTIONS).directory
    compact(records, directory)

    def meanwhile(*_):
        writer = SpoolRecords(directory.parent.parent, "w1")
        writer.write(PREDICTIONS, [prediction("d")])
        writer.close()

    for name in ("finish", "_end"):
        with monkeypatch.context() as patched:
            real = getattr(deletion, name)
            patched.setattr(deletion, name, lambda *given, real=real: (real(*given), meanwhile())[0])
            assert delete_compacted(records, PREDICTIONS).files == 0
        compact(records, directory)
    assert len(list(records.scan(PREDICTIONS))) == 5
    assert delete_compacted(records, PREDICTIONS).files == 1
    assert len(list(records.scan(PREDICTIONS))) == 5
