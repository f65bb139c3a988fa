"""What every adapter of :class:`trimtab.features.ports.OnlineRows` must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trimtab.errors import InputError
from trimtab.features.ports import OnlineRows


class OnlineRowsConformance:
    """Fill in ``make`` and ``release``."""

    def make(self, place: Path) -> OnlineRows:
        """The writer's rows over a place."""
        raise NotImplementedError

    def release(self, rows: OnlineRows) -> None:
        """End the use of an object in an orderly way, so that another may be made over its place."""

    def test_rows_read_back_in_the_order_of_the_keys(self, tmp_path: Path) -> None:
        rows = self.make(tmp_path)
        rows.put_many({b"a": b"1", b"b": b"", b"c\x00\xff": b"\x00" * 5000})
        assert rows.get_many([b"c\x00\xff", b"none", b"a", b"b", b"a"]) == [b"\x00" * 5000, None, b"1", b"", b"1"]
        assert rows.get_many([]) == []

    def test_a_later_row_replaces_an_earlier_one(self, tmp_path: Path) -> None:
        rows = self.make(tmp_path)
        rows.put_many({b"a": b"1", b"b": b"1"})
        rows.put_many({b"a": b"22"})
        rows.put_many({})
        assert rows.get_many([b"a", b"b"]) == [b"22", b"1"]

    def test_long_keys_are_kept_apart(self, tmp_path: Path) -> None:
        rows = self.make(tmp_path)
        keys = [b"k" * length for length in (1, 447, 448, 479, 480, 481, 511, 512, 5000)]
        assert rows.get_many(keys) == [None] * len(keys)
        rows.put_many({key: str(len(key)).encode() for key in keys})
        assert rows.get_many(keys) == [str(len(key)).encode() for key in keys]

    def test_an_empty_key_is_refused(self, tmp_path: Path) -> None:
        rows = self.make(tmp_path)
        with pytest.raises(InputError):
            rows.put_many({b"a": b"1", b"": b"2"})
        assert rows.get_many([b"a"]) == [None]

    def test_clear_drops_every_row(self, tmp_path: Path) -> None:
        rows = self.make(tmp_path)
        rows.put_many({b"%d" % i: b"x" for i in range(100)})
        rows.sync()
        rows.put_many({b"late": b"x"})
        rows.clear()
        assert rows.get_many([b"1", b"99", b"late"]) == [None, None, None]
        rows.put_many({b"1": b"y"})
        assert rows.get_many([b"1", b"2"]) == [b"y", None]

    def test_rows_are_there_for_the_next_object(self, tmp_path: Path) -> None:
        first = self.make(tmp_path)
        first.put_many({b"a": b"1"})
        first.sync()
        self.release(first)
        second = self.make(tmp_path)
        assert second.get_many([b"a"]) == [b"1"]

    def test_readers_see_whole_steps_only(self, tmp_path: Path) -> None:
        rows, keys = self.make(tmp_path), [b"%d" % i for i in range(50)]
        rows.put_many(dict.fromkeys(keys, b"0"))

        def read(_: int) -> list[int]:
            seen = []
            for _ in range(200):
                found = rows.get_many(keys)
                assert len(set(found)) == 1, "a reader saw half of a step"
                seen.append(int(found[0] or b"-1"))
            return seen

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read, reader) for reader in range(3)]
            for step in range(1, 100):
                rows.put_many(dict.fromkeys(keys, b"%d" % step))
            for reader in readers:
                assert reader.result() == sorted(reader.result()), "a reader saw an older state after a newer one"
        assert rows.get_many(keys[:1]) == [b"99"]
