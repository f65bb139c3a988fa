"""What is particular to spools: the format, damage, erasure, names."""

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.adapters.records import frames
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.errors import ConflictError, InputError, IntegrityError, TooLarge, Unavailable


def written(place, *batches):
    records = SpoolRecords(place, "w")
    for batch in batches:
        records.write("t", batch)
    records.close()
    return place / "t" / "w.spool"


def rows(place):
    return [row for _, row in SpoolRecords(place, "reader").scan("t")]


@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=4), max_size=5))
@settings(max_examples=25)
def test_whatever_is_written_is_read(tmp_path_factory, batches):
    place = tmp_path_factory.mktemp("spool")
    written(place, *batches)
    assert rows(place) == [row for batch in batches for row in batch]


def test_one_system_call_for_a_batch(tmp_path, monkeypatch):
    calls, real = [], os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *arguments: calls.append(1) or real(*arguments))
    SpoolRecords(tmp_path, "w").write("t", [b"x"] * 100)
    assert len(calls) == 1


def test_sync_forces_rows_to_disk(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    records = SpoolRecords(tmp_path, "w")
    records.write("t", [b"x"])
    assert calls == []
    records.write("t", [b"x"], sync=True)
    records.write("t", [], sync=True)
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "../t", "a\0b", "é", "a b", ".hidden", "x" * 200])
def test_names_that_could_leave_the_directory_are_refused(tmp_path, name):
    records = SpoolRecords(tmp_path / "in", "w")
    for use in (
        lambda: records.write(name, [b"x"]),
        lambda: list(records.scan(name)),
        lambda: records.erase(name, {}),
        lambda: SpoolRecords(tmp_path / "in", name),
    ):
        with pytest.raises(InputError):
            use()
    assert list(tmp_path.rglob("*")) == [tmp_path / "in"]


def test_a_second_writer_of_one_name_is_refused_while_the_first_lives(tmp_path):
    first, second = SpoolRecords(tmp_path, "w"), SpoolRecords(tmp_path, "w")
    first.write("t", [b"1"])
    with pytest.raises(ConflictError):
        second.write("t", [b"2"])
    assert [row for _, row in second.scan("t")] == [b"1"]
    first.close()
    second.write("t", [b"2"])
    assert rows(tmp_path) == [b"1", b"2"]


def test_a_writer_that_waits_open_mends_at_prepare(tmp_path):
    path = written(tmp_path, [b"1"], [b"2"])
    os.truncate(path, path.stat().st_size - 1)
    SpoolRecords(tmp_path, "w").prepare("t", "u")
    assert path.stat().st_size == frames.HEADER_SIZE + frames.ROW_SIZE + 1
    assert (tmp_path / "u" / "w.spool").stat().st_size == 0


@pytest.mark.parametrize("where", ["magic", "offset", "length", "check", "row length", "row check", "payload"])
def test_damage_in_the_middle_is_never_passed_over_and_never_cut_off(tmp_path, where):
    path = written(tmp_path, [b"first"], [b"second"], [b"third"])
    at = {"magic": 0, "offset": 5, "length": 12, "check": 20, "row length": 24, "row check": 28, "payload": 33}[where]
    content = bytearray(path.read_bytes())
    content[frames.HEADER_SIZE + frames.ROW_SIZE + len(b"first") + at] ^= 0x55
    path.write_bytes(content)
    scanned = []
    with pytest.raises(IntegrityError, match="damaged"):
        scanned.extend(row for _, row in SpoolRecords(tmp_path, "reader").scan("t"))
    if where in ("magic", "offset", "length", "check"):
        with pytest.raises(IntegrityError):
            SpoolRecords(tmp_path, "w").write("t", [b"x"])
    assert path.read_bytes() == bytes(content)


def test_a_last_batch_whose_rows_never_reached_the_disk_is_cut_off(tmp_path):
    path = written(tmp_path, [b"first"], [b"second"])
    content = bytearray(path.read_bytes())
    content[-6:] = bytes(6)
    path.write_bytes(content)
    assert rows(tmp_path) == [b"first"]
    SpoolRecords(tmp_path, "w").write("t", [b"third"])
    assert rows(tmp_path) == [b"first", b"third"]


def test_zeros_after_the_end_are_a_torn_tail(tmp_path):
    path = written(tmp_path, [b"first"])
    with path.open("ab") as file:
        file.write(bytes(10_000))
    assert rows(tmp_path) == [b"first"]
    written(tmp_path, [b"second"])
    assert rows(tmp_path) == [b"first", b"second"]


def test_a_row_that_looks_like_a_batch_is_a_row(tmp_path):
    inner = frames.pack([b"forged"], offset=0)
    path = written(tmp_path, [b"first"], [inner, inner * 2, frames.MAGIC * 9])
    os.truncate(path, path.stat().st_size - 1)
    written(tmp_path, [b"second"])
    assert rows(tmp_path) == [b"first", b"second"]


def test_erased_bytes_are_gone_from_the_file(tmp_path):
    path = written(tmp_path, [b"keep-1", b"secret" * 3000, b"keep-2"])
    records = SpoolRecords(tmp_path, "control")
    found = list(records.scan("t"))
    assert records.erase("t", {"w": [found[1][0].offset]}) == 1
    assert b"secret" not in path.read_bytes()
    assert list(records.scan("t")) == [found[0], found[2]]
    assert [row for _, row in records.scan("t", after={"w": found[1][0].offset})] == [b"keep-2"]
    written(tmp_path, [b"more"])  # an erased row is no damage
    assert rows(tmp_path) == [b"keep-1", b"keep-2", b"more"]


def test_an_erasure_cut_short_hides_the_row_at_once_and_is_finished_later(tmp_path, monkeypatch):
    path = written(tmp_path, [b"secret", b"keep"])
    records, real, calls = SpoolRecords(tmp_path, "control"), os.pwrite, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    offset = next(place.offset for place, _ in records.scan("t"))
    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.erase("t", {"w": [offset]})
    assert b"secret" in path.read_bytes()
    assert rows(tmp_path) == [b"keep"]
    records.erase("t", {})
    assert b"secret" not in path.read_bytes()


def test_a_place_past_the_end_says_that_records_were_lost(tmp_path):
    written(tmp_path, [b"first"])
    with pytest.raises(IntegrityError, match="shorter"):
        list(SpoolRecords(tmp_path, "reader").scan("t", after={"w": 10_000}))
    with pytest.raises(InputError):
        list(SpoolRecords(tmp_path, "reader").scan("t", after={"w": 3}))


def test_a_short_write_is_taken_back(tmp_path, monkeypatch):
    records, real = SpoolRecords(tmp_path, "w"), os.pwrite
    end = records.write("t", [b"first"])
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:10], offset))
    with pytest.raises(Unavailable):
        records.write("t", [b"second"])
    assert (tmp_path / "t" / "w.spool").stat().st_size == end.offset
    monkeypatch.setattr(os, "pwrite", real)
    records.write("t", [b"third"])
    assert rows(tmp_path) == [b"first", b"third"]


def test_when_even_cutting_back_fails_the_next_write_mends(tmp_path, monkeypatch):
    records, real = SpoolRecords(tmp_path, "w"), os.pwrite

    def broken(*arguments):
        raise OSError(5, "Input/output error")

    records.write("t", [b"first"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:10], offset))
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(Unavailable):
            records.write("t", [b"second"])
    records.write("t", [b"third"])
    assert rows(tmp_path) == [b"first", b"third"]


def test_a_batch_past_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "_LARGEST", 1000)
    records = SpoolRecords(tmp_path, "w")
    with pytest.raises(TooLarge):
        records.write("t", [b"x" * 2000])
    records.write("t", [b"small"])
    assert rows(tmp_path) == [b"small"]


def test_room_is_looked_for_and_leaves_nothing_behind(tmp_path, monkeypatch):
    records = SpoolRecords(tmp_path, "w")
    records.write("t", [b"one"])
    (file,) = tmp_path.glob("t/*.spool")
    size = file.stat().st_size
    records.make_sure("t", 4096)
    assert file.stat().st_size == size
    real = os.pwrite

    def full(descriptor, data, offset):
        if len(data) > 1000:  # takes a part first, as a disk that fills up does
            return real(descriptor, data[:1000], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(Unavailable, match="cannot be written"):
            records.make_sure("t", 1500)
    assert file.stat().st_size == size
    records.write("t", [b"two"])
    assert [row for _, row in records.scan("t")] == [b"one", b"two"]
