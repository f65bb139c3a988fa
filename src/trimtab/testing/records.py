"""What every adapter of :class:`trimtab.core.ports.Records` must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from trimtab.core.ports import Records
from trimtab.errors import InputError


def rows_of(records: Records, table: str, after: dict[str, int] | None = None) -> list[bytes]:
    """The payloads that a scan gives."""
    return [row for _, row in records.scan(table, after=after)]


class RecordsConformance:
    """Fill in ``make`` and ``release``, and ``tear`` where a test can reach the stored bytes.

    An adapter that moves rows while it is used (to new files, to another format) fills in ``make_restless`` and
    ``keep`` too: nobody who reads may notice.
    """

    def make(self, place: Path, writer: str) -> Records:
        """Records over a place, writing under a name."""
        raise NotImplementedError

    def make_restless(self, place: Path, writer: str) -> Records:
        """As ``make``; what is begun anew now and then is begun anew with every batch."""
        return self.make(place, writer)

    def keep(self, place: Path, table: str) -> None:
        """What is done beside writing and reading, all at once: compact, delete; nothing where there is nothing."""

    def release(self, records: Records) -> None:
        """End the use of an object as the end of its process would; nothing to do where nothing is held."""

    def tear(self, place: Path, table: str, writer: str, count: int) -> None:
        """Cut ``count`` bytes off the end of what a writer wrote, behind the adapter's back."""
        pytest.skip(f"no way to tear {count} bytes off {table}/{writer} in {place}")

    def test_rows_read_back_in_order_with_growing_offsets(self, tmp_path: Path) -> None:
        records = self.make(tmp_path, "w1")
        first = records.write("t", [b"a", b"", b"\x00\xff" * 1000])
        second = records.write("t", [b"d"], sync=True)
        found = list(records.scan("t"))
        assert [row for _, row in found] == [b"a", b"", b"\x00\xff" * 1000, b"d"]
        places = [place for place, _ in found]
        assert [place.writer for place in places] == ["w1"] * 4
        assert [place.offset for place in places] == sorted({place.offset for place in places})
        assert (places[2], places[3]) == (first, second)

    def test_a_scan_goes_on_after_any_row(self, tmp_path: Path) -> None:
        records = self.make(tmp_path, "w1")
        for batch in range(5):
            records.write("t", [b"%d-%d" % (batch, row) for row in range(3)])
        found = list(records.scan("t"))
        for index, (place, _) in enumerate(found):
            assert list(records.scan("t", after={"w1": place.offset})) == found[index + 1 :]
        assert list(records.scan("t", after={"w1": 0})) == found

    def test_writers_and_tables_are_apart(self, tmp_path: Path) -> None:
        one, two = self.make(tmp_path, "w1"), self.make(tmp_path, "w2")
        end = one.write("t", [b"1a"])
        two.write("t", [b"2a", b"2b"])
        two.write("u.x-1_y", [b"u"])
        one.write("t", [b"1b"])
        assert sorted(rows_of(one, "t")) == [b"1a", b"1b", b"2a", b"2b"]
        assert [row for place, row in two.scan("t") if place.writer == "w1"] == [b"1a", b"1b"]
        assert sorted(rows_of(one, "t", {"w1": end.offset})) == [b"1b", b"2a", b"2b"]
        assert rows_of(one, "u.x-1_y") == [b"u"]
        assert one.tables() == two.tables() == ["t", "u.x-1_y"]

    def test_an_unknown_table_is_empty(self, tmp_path: Path) -> None:
        records = self.make(tmp_path, "w1")
        assert rows_of(records, "none") == []
        assert records.tables() == []

    def test_no_rows_change_nothing(self, tmp_path: Path) -> None:
        records = self.make(tmp_path, "w1")
        end = records.write("t", [b"a"])
        assert records.write("t", [], sync=True) == end
        assert rows_of(records, "t") == [b"a"]

    def test_another_object_goes_on_where_the_first_stopped(self, tmp_path: Path) -> None:
        first = self.make(tmp_path, "w1")
        end = first.write("t", [b"a", b"b"])
        self.release(first)
        second = self.make(tmp_path, "w1")
        assert second.write("t", [b"c"]).offset > end.offset
        assert rows_of(self.make(tmp_path, "reader"), "t") == [b"a", b"b", b"c"]
        assert rows_of(second, "t", {"w1": end.offset}) == [b"c"]

    @pytest.mark.parametrize("count", [1, 7, 20, 30])
    def test_a_torn_batch_is_not_there_and_is_written_over(self, tmp_path: Path, count: int) -> None:
        first = self.make(tmp_path, "w1")
        first.write("t", [b"a", b"b"])
        first.write("t", [b"x" * 10, b"y" * 10])
        self.release(first)
        self.tear(tmp_path, "t", "w1", count)
        assert rows_of(self.make(tmp_path, "reader"), "t") == [b"a", b"b"]
        second = self.make(tmp_path, "w1")
        second.write("t", [b"c"])
        assert rows_of(second, "t") == [b"a", b"b", b"c"]

    def test_a_torn_first_batch_leaves_an_empty_table(self, tmp_path: Path) -> None:
        first = self.make(tmp_path, "w1")
        first.write("t", [b"a"])
        self.release(first)
        self.tear(tmp_path, "t", "w1", 1)
        again = self.make(tmp_path, "w1")
        assert (rows_of(again, "t"), again.tables()) == ([], [])
        again.write("t", [b"b"])
        assert (rows_of(again, "t"), again.tables()) == ([b"b"], ["t"])

    def test_erased_rows_are_gone_and_the_others_stay_where_they_were(self, tmp_path: Path) -> None:
        one, two = self.make(tmp_path, "w1"), self.make(tmp_path, "w2")
        one.write("t", [b"secret-1", b"keep", b"secret-2"])
        two.write("t", [b"secret-3", b"also"])
        before = list(one.scan("t"))
        secret = [place for place, row in before if row.startswith(b"secret")]
        named = {writer: [place.offset for place in secret if place.writer == writer] for writer in ("w1", "w2")}
        assert two.erase("t", named) == 3
        assert list(one.scan("t")) == [pair for pair in before if pair[0] not in secret]
        assert two.erase("t", named) == 0
        one.write("t", [b"later"])
        assert sorted(rows_of(two, "t")) == [b"also", b"keep", b"later"]
        assert rows_of(one, "t", {"w1": secret[1].offset, "w2": before[-1][0].offset}) == [b"later"]

    def test_erasing_what_is_not_a_row_is_refused(self, tmp_path: Path) -> None:
        records = self.make(tmp_path, "w1")
        end = records.write("t", [b"a"])
        with pytest.raises(InputError):
            records.erase("t", {"w1": [end.offset + 5]})
        assert rows_of(records, "t") == [b"a"]

    def test_nobody_notices_that_rows_are_moved(self, tmp_path: Path) -> None:
        one, two = self.make_restless(tmp_path, "w1"), self.make_restless(tmp_path, "w2")
        for batch in range(4):
            one.write("t", [b"%d-%d" % (batch, row) for row in range(3)])
            two.write("t", [b"other-%d" % batch])
        found = list(one.scan("t"))
        for _ in range(2):
            self.keep(tmp_path, "t")
            assert list(one.scan("t")) == found
            assert one.tables() == ["t"]
            for place, _row in found:
                expected = [pair for pair in found if pair[0].writer != place.writer or pair[0].offset > place.offset]
                assert list(self.make(tmp_path, "reader").scan("t", after={place.writer: place.offset})) == expected

    def test_a_scan_under_way_goes_on_when_rows_are_moved(self, tmp_path: Path) -> None:
        records = self.make_restless(tmp_path, "w1")
        rows = [b"%d" % number for number in range(12)]
        for row in rows:
            records.write("t", [row])
        for at in range(len(rows)):
            under_way = records.scan("t")
            seen = [next(under_way)[1] for _ in range(at)]
            self.keep(tmp_path, "t")
            assert seen + [row for _, row in under_way] == rows

    def test_offsets_are_never_used_twice(self, tmp_path: Path) -> None:
        seen: list[tuple[str, int]] = []
        for life in range(4):
            records = self.make_restless(tmp_path, "w1")
            for number in range(3):
                place = records.write("t", [b"%d-%d" % (life, number)])
                seen.append((place.writer, place.offset))
            self.release(records)
            self.keep(tmp_path, "t")
        assert [tuple(place) for place, _ in self.make(tmp_path, "reader").scan("t")] == seen
        assert seen == sorted(set(seen))

    def test_rows_that_were_moved_are_erased_too(self, tmp_path: Path) -> None:
        records = self.make_restless(tmp_path, "w1")
        for number in range(3):
            records.write("t", [b"keep-%d" % number, b"secret-%d" % number])
        before = list(records.scan("t"))
        secret = [place.offset for place, row in before if row.startswith(b"secret")]
        assert records.erase("t", {"w1": secret[:1]}) == 1  # where it was written
        self.keep(tmp_path, "t")
        assert records.erase("t", {"w1": secret[1:]}) == 2  # where it was moved to
        self.keep(tmp_path, "t")
        kept = [pair for pair in before if pair[1].startswith(b"keep")]
        assert list(records.scan("t")) == kept
        assert records.erase("t", {"w1": secret}) == 0
        self.release(records)
        self.keep(tmp_path, "t")
        assert list(self.make(tmp_path, "reader").scan("t")) == kept
        with pytest.raises(InputError):
            self.make(tmp_path, "reader").erase("t", {"w1": [before[-1][0].offset + 5]})
