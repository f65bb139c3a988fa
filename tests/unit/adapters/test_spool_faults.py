"""A reader that looks after each system call of a writer, whose calls fail: it is never cut off from what follows."""

import os

import pytest

from trimtab.adapters.records import frames, spoolfile
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.errors import IntegrityError, Unavailable

CALLS = ("pwrite", "fdatasync", "ftruncate")
LENGTHS = (30, 3, 11, 50, 7, 1, 19)


class Reader:
    """Goes on from where it stopped, as the monitors do."""

    def __init__(self, place):
        self._records, self.after, self.rows = SpoolRecords(place, "reader"), {}, []

    def look(self):
        for place, row in self._records.scan("t", after=dict(self.after)):
            self.after[place.writer] = place.offset
            self.rows.append(row)


def error():
    raise OSError(5, "Input/output error")


def half(real, descriptor, data, offset):
    return real(descriptor, data[: len(data) // 2], offset)


def failing(monkeypatch, look, faults):
    """Each system call is followed by a look; the calls that ``faults`` numbers fail, or take half of what is given."""
    count = [0]

    def watched(name, real):
        def call(*arguments):
            count[0] += 1
            fault = faults.get(count[0])
            look()
            if fault == "fail":
                error()
            done = half(real, *arguments) if fault == "half" and name == "pwrite" else real(*arguments)
            look()
            return done

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    return count


@pytest.mark.parametrize("fault", ["fail", "half"])
@pytest.mark.parametrize("lasting", [1, 2, 3, 5])
@pytest.mark.parametrize("sync", [True, False])
def test_whatever_call_fails_every_row_that_was_taken_is_read_once_and_no_other_stays(
    tmp_path, monkeypatch, fault, lasting, sync
):
    first, calls = 0, 1
    while first < calls:
        first += 1
        place = tmp_path / str(first)
        reader, records, taken = Reader(place), SpoolRecords(place, "w", segment_bytes=150), []
        records.prepare("t")
        with monkeypatch.context() as patched:
            count = failing(patched, reader.look, dict.fromkeys(range(first, first + lasting), fault))
            for number, length in enumerate(LENGTHS):
                rows = [b"%d-" % number + b"x" * length, b"%d" % number]
                try:
                    records.write("t", rows, sync=sync)
                except Unavailable:
                    continue
                taken += rows
            calls = count[0]
        records.write("t", [b"last"])
        reader.look()
        expected = [*taken, b"last"]
        assert [row for _, row in SpoolRecords(place, "again").scan("t")] == expected
        assert [row for row in reader.rows if row in expected] == expected
        records.close()
        assert [row for _, row in SpoolRecords(place, "w").scan("t")] == expected
    assert calls > 2


def test_a_batch_that_the_disk_would_not_keep_is_withdrawn_and_its_offsets_stay_used(tmp_path, monkeypatch):
    records, reader = SpoolRecords(tmp_path, "w"), Reader(tmp_path)
    records.write("t", [b"one"], sync=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda _: (reader.look(), error()))
        with pytest.raises(Unavailable):
            records.write("t", [b"refused", b"both"], sync=True)
    assert reader.rows == [b"one", b"refused", b"both"]
    seen = reader.after["w"]
    place = records.write("t", [b"two"], sync=True)
    reader.look()
    assert reader.rows[3:] == [b"two"]
    assert place.offset > seen
    assert [row for _, row in records.scan("t")] == [b"one", b"two"]
    assert b"refused" not in (tmp_path / "t" / "w.spool").read_bytes()


def test_a_batch_that_could_not_be_withdrawn_at_once_is_before_the_next_one(tmp_path, monkeypatch):
    records = SpoolRecords(tmp_path, "w")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda _: error())
        for _ in range(3):
            with pytest.raises(Unavailable):
                records.write("t", [b"refused"], sync=True)
        with pytest.raises(Unavailable):
            records.make_sure("t", 100)
    assert (tmp_path / "t" / "w.spool").read_bytes().count(frames.MAGIC) == 1, "it does not grow meanwhile"
    records.close()
    assert [row for _, row in records.scan("t")] == []
    records.write("t", [b"taken"])
    assert [row for _, row in records.scan("t")] == [b"taken"]


def test_a_batch_that_is_taken_in_two_parts_is_taken(tmp_path, monkeypatch):
    records, parts = SpoolRecords(tmp_path, "w"), [half]

    def in_parts(*arguments, real=os.pwrite):
        return parts.pop()(real, *arguments) if parts else real(*arguments)

    monkeypatch.setattr(os, "pwrite", in_parts)
    records.write("t", [b"one"])
    assert parts == []
    assert [row for _, row in records.scan("t")] == [b"one"]


def test_a_tail_that_is_cut_off_and_written_over_under_the_eyes_of_a_reader_is_no_damage(tmp_path, monkeypatch):
    records, later = SpoolRecords(tmp_path, "w"), [bytes([number]) * (1 << 20) for number in range(3)]
    records.write("t", [b"one"])
    path = tmp_path / "t" / "w.spool"
    end = path.stat().st_size
    os.truncate(path, end + (5 << 20))  # as a batch does that finds no room
    real = frames.refuse_damage

    def meanwhile(*arguments, **options):
        os.truncate(path, end)
        for row in later:
            records.write("t", [row])
        return real(*arguments, **options)

    monkeypatch.setattr(spoolfile.frames, "refuse_damage", meanwhile)
    assert [row for _, row in SpoolRecords(tmp_path, "reader").scan("t")] == [b"one"]
    monkeypatch.undo()
    assert [row for _, row in SpoolRecords(tmp_path, "reader").scan("t")] == [b"one", *later]


def test_a_batch_that_is_half_there_where_a_tail_was_cut_off_is_no_damage(tmp_path, monkeypatch):
    records = SpoolRecords(tmp_path, "w")
    records.write("t", [b"one"])
    path = tmp_path / "t" / "w.spool"
    whole = frames.pack([b"x" * 3000], offset=path.stat().st_size)
    with path.open("ab") as file:
        file.write(whole[:2000] + bytes(5000))  # as a reader sees it who asked for the size before
    real, calls = frames.body_of, []

    def meanwhile(file, batch):
        if batch.start and not calls:
            calls.append(1)
            os.truncate(path, batch.start + 2000)
        return real(file, batch)

    monkeypatch.setattr(frames, "body_of", meanwhile)
    assert [row for _, row in SpoolRecords(tmp_path, "reader").scan("t")] == [b"one"]
    assert calls
    with path.open("ab") as file:
        file.write(whole[2000:] + b"more")
    assert len(list(SpoolRecords(tmp_path, "reader").scan("t"))) == 2
    path.write_bytes(path.read_bytes().replace(b"xx", b"yx", 1))
    with pytest.raises(IntegrityError, match="damaged"):
        list(SpoolRecords(tmp_path, "reader").scan("t"))
