"""Compaction of prediction records into Parquet."""

import os

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.unit.serving.parts import House, batch_of, engine_with

from trimtab.adapters.records import parquet
from trimtab.adapters.records import segments as marks
from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.deletion import delete_compacted, expire
from trimtab.adapters.records.layouts import public_schema
from trimtab.adapters.records.parquet import read_predictions
from trimtab.adapters.records.segments import alone, segments
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.clock import DAY, HOUR, instant
from trimtab.core.ids import canonical
from trimtab.errors import ConflictError, IntegrityError
from trimtab.serving.record import PREDICTIONS, PredictionRecord, decode_record, encode_record
from trimtab.testing.memory import MemoryRecords

START = instant("2013-03-04")


def prediction(name, *, when=START, model="late", features=(0.5, np.nan)):
    return encode_record(
        PredictionRecord(
            request_id=name,
            prediction_id=f"p-{name}",
            asked_at=when,
            model=model,
            version="v1",
            arm="champion",
            rollout="",
            keys={"tail": "N1", "route": 7},
            features=np.array(features, "<f4").tobytes(),
            ages=b"",
            watermarks={"landings": (3, 4)},
            outputs=(0.25,),
            timings=(1, 2),
            status="ok",
        )
    )


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")


def ids(directory, **options):
    return sorted(read_predictions(directory, **options)["request_id"].to_pylist())


def test_columns_read_back(tmp_path):
    records = MemoryRecords("w1")
    records.write(PREDICTIONS, [prediction("a"), prediction("b", features=())])
    assert compact(records, tmp_path) == 2
    first, second = read_predictions(tmp_path).to_pylist()
    assert first.pop("features") == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert second["features"] is None
    assert first.pop("asked_at").isoformat() == "2013-03-04T00:00:00+00:00"
    assert first == {
        "request_id": "a",
        "prediction_id": "p-a",
        "model": "late",
        "version": "v1",
        "arm": "champion",
        "rollout": "",
        "keys": '{"route":7,"tail":"N1"}',
        "outputs": [0.25],
        "status": "ok",
    }


def test_files_by_model_and_day_and_reading_by_both(tmp_path):
    records = MemoryRecords("w1")
    records.write(
        PREDICTIONS,
        [
            prediction("a"),
            prediction("b", when=START + DAY - 1),
            prediction("c", when=START + DAY),
            prediction("d", when=START + DAY + HOUR, model="../x/é"),
        ],
    )
    compact(records, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("model=*/day=*/*.parquet"))) == 3
    assert all((tmp_path / "out") in path.resolve().parents for path in files(tmp_path))
    assert ids(tmp_path / "out") == ["a", "b", "c", "d"]
    assert ids(tmp_path / "out", model="late") == ["a", "b", "c"]
    assert ids(tmp_path / "out", model="../x/é") == ["d"]
    assert ids(tmp_path / "out", start=START + DAY - 1) == ["b", "c", "d"]
    assert ids(tmp_path / "out", end=START + DAY - 1) == ["a"]
    assert ids(tmp_path / "out", start=START + 1, end=START + DAY + 1) == ["b", "c"]
    assert ids(tmp_path / "out", model="none") == ids(tmp_path / "nowhere") == []


def test_compacting_again_changes_nothing_and_new_rows_are_added(tmp_path):
    one = MemoryRecords("w1")
    two = MemoryRecords("w-2", like=one)
    one.write(PREDICTIONS, [prediction("a"), prediction("b")])
    assert compact(one, tmp_path) == 2
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(tmp_path)}
    assert compact(one, tmp_path) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(tmp_path)} == before
    two.write(PREDICTIONS, [prediction("c")])
    one.write(PREDICTIONS, [prediction("d")])
    assert compact(one, tmp_path) == 2
    assert ids(tmp_path) == ["a", "b", "c", "d"]
    assert [(segment.writer, segment.start, segment.end) for segment in segments(tmp_path)] == [
        ("w-2", 0, 1),
        ("w1", 0, 2),
        ("w1", 2, 3),
    ]


def test_segments_hold_at_most_and_wait_for_at_least(tmp_path):
    records = MemoryRecords("w1")
    records.write(PREDICTIONS, [prediction(f"{n}") for n in range(7)])
    assert compact(records, tmp_path, at_most=3, at_least=2) == 6
    assert [segment.end for segment in segments(tmp_path)] == [3, 6]
    assert compact(records, tmp_path, at_most=3, at_least=2) == 0
    assert compact(records, tmp_path) == 1


class Killed(BaseException):
    pass


def test_a_kill_before_any_step_is_mended_by_the_next_call(tmp_path, monkeypatch):
    whole = SpoolRecords(tmp_path / "records", "w1")
    whole.write(PREDICTIONS, [prediction(f"{n}", when=START + n * 8 * HOUR) for n in range(12)])
    expected = sorted(f"{n}" for n in range(12))

    def compact_until(step, directory):
        steps = iter(range(step))
        for room, name in ((parquet, "settle"), (marks, "write_atomic"), (parquet, "make_directory")):
            real = getattr(room, name)

            def watched(*arguments, real=real):
                if next(steps, None) is None:
                    raise Killed
                return real(*arguments)

            monkeypatch.setattr(room, name, watched)
        try:
            compact(whole, directory, at_most=5)
        except Killed:
            return False
        finally:
            monkeypatch.undo()
        return True

    for step in range(200):
        directory = tmp_path / f"out-{step}"
        finished = compact_until(step, directory)
        for path in directory.glob("model=*/day=*/*.parquet"):
            if not path.name.startswith(".tmp-"):
                pq.ParquetFile(path).read()
        found = ids(directory)
        assert len(set(found)) == len(found)
        if finished:
            assert found == expected
            break
        whole.write(PREDICTIONS, [])
        compact(whole, directory, at_most=7)  # another cut of the segments than the killed one had
        assert ids(directory) == expected
        assert not list(directory.rglob(".tmp-*"))
        on_disk = sum(pq.ParquetFile(path).metadata.num_rows for path in directory.rglob("*.parquet"))
        assert on_disk == len(expected), "a left-over doubles rows for those who read the files themselves"
    assert 10 < step < 199


def test_erased_rows_leave_the_files_too(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [prediction("a"), prediction("b", when=START + DAY), prediction("c")])
    out = tmp_path / PREDICTIONS / "parquet"
    compact(records, out, at_most=2)
    places = {row: place.offset for place, row in records.scan(PREDICTIONS)}
    gone = [places[prediction("b", when=START + DAY)]]
    assert ids(out) == ["a", "b", "c"]
    for count in (1, 0):
        assert records.erase(PREDICTIONS, {"w1": gone}) == count
        assert ids(out) == ["a", "c"]
        assert not list(out.glob("model=*/day=2013-03-05/*"))
    assert compact(records, out) == 0


def test_a_damaged_file_is_named(tmp_path):
    records = MemoryRecords("w1")
    records.write(PREDICTIONS, [prediction("a")])
    compact(records, tmp_path)
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(b"PAR1 no")
    with pytest.raises(IntegrityError, match="damaged"):
        read_predictions(tmp_path)
    path.unlink()
    with pytest.raises(IntegrityError, match="damaged"):
        read_predictions(tmp_path)


def test_a_row_that_is_no_prediction_is_refused(tmp_path):
    records = MemoryRecords("w1")
    records.write(PREDICTIONS, [b"\xc1"])
    with pytest.raises(IntegrityError, match="not a prediction record"):
        compact(records, tmp_path)


def test_one_compaction_at_a_time(tmp_path):
    with alone(tmp_path), pytest.raises(ConflictError):
        compact(MemoryRecords("w1"), tmp_path)
    assert compact(MemoryRecords("w1"), tmp_path) == 0


def record(name, **changes):
    return encode_record(
        msgspec.structs.replace(msgspec.msgpack.decode(prediction(name), type=PredictionRecord), **changes)
    )


ODD = [
    record("usual"),
    record("unit", unit="user-7"),
    record("together", together=True),
    record("together in a test", unit="user-7", together=True),
    record("inputs", inputs={"a": 1.5, "b": 3, "c": 3.0, "d": None, "e": True, "f": "é", "g": 1e300, "h": -0.0}),
    record("not a number", inputs={"a": float("nan")}, outputs=(float("nan"), float("inf"), -0.0)),
    record("keys out of order", keys={"z": 1, "a": "1", "m": -(2**63)}),
    record("bits", features=b"\x01\x00\xa0\x7f\x00\x00\xc0\xff", ages=b"\x00\x00\x80\x7f"),
    record("nothing", features=b"", ages=b"", watermarks={}, outputs=(), timings=(), keys={}),
    record("no error", status="error:x", outputs=()),
    msgspec.msgpack.encode(msgspec.msgpack.decode(prediction("of old"))[:14]),
    msgspec.msgpack.encode(msgspec.msgpack.decode(prediction("fifteen"))[:15]),
    msgspec.msgpack.encode([*msgspec.msgpack.decode(prediction("of tomorrow")), "a field more"]),
]


def test_every_row_comes_back_from_parquet_as_it_was_written(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    for row in ODD:
        records.write(PREDICTIONS, [row])
    found = list(records.scan(PREDICTIONS))
    records.close()
    compact(records, records.index(PREDICTIONS).directory)
    assert delete_compacted(records, PREDICTIONS).files == 1
    assert not list(tmp_path.rglob("*.spool"))
    assert list(records.scan(PREDICTIONS)) == found
    assert [row for _, row in found] == ODD
    assert list(records.scan(PREDICTIONS, after={"w1": found[4][0].offset})) == found[5:]


def test_usual_rows_are_not_kept_twice(tmp_path):
    house = House()
    house.add("a", 1)
    engine = engine_with(house, ("champion", "a", 1.0))
    [(answers, _)] = engine.answer("m", batch_of("r1", "r2"))
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, engine.records([answers]))
    compact(records, records.index(PREDICTIONS).directory)
    (path,) = tmp_path.rglob("*.parquet")
    assert pq.read_table(path)["raw"].null_count == 2


def test_what_fell_together_is_a_column_and_not_kept_twice(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [record("a", together=True), record("b", unit="u", together=True)])
    compact(records, records.index(PREDICTIONS).directory)
    (path,) = tmp_path.rglob("*.parquet")
    found = pq.read_table(path)
    assert (found["raw"].null_count, found["together"].to_pylist()) == (2, [True, True])


def test_a_file_of_before_rows_fell_together_gives_its_rows_back(tmp_path):
    rows = [msgspec.msgpack.encode(msgspec.msgpack.decode(record(name, unit="u"))[:16]) for name in ("a", "b")]
    rows.append(msgspec.msgpack.encode(msgspec.msgpack.decode(record("c"))[:15]))
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, rows)
    records.close()
    compact(records, records.index(PREDICTIONS).directory)
    assert delete_compacted(records, PREDICTIONS).files == 1
    (path,) = tmp_path.rglob("*.parquet")
    content = pq.read_table(path, partitioning=None)
    assert content["raw"].null_count == 3
    pq.write_table(content.drop_columns(["together"]), path)
    assert [row for _, row in records.scan(PREDICTIONS)] == rows
    assert [decode_record(row).together for row in rows] == [False] * 3


def as_of_old(directory):
    """What an older version left: a mark without a layout, and files without the later columns."""
    for path in (directory / "segments").glob("*.json"):
        mark = msgspec.json.decode(path.read_bytes())
        path.write_bytes(canonical({"parts": mark["parts"], "rows": mark["rows"]}))
    for path in directory.rglob("*.parquet"):
        pq.write_table(pq.read_table(path, columns=public_schema().names, partitioning=None), path)


def test_segments_of_an_old_version_are_completed_before_their_spool_goes(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [prediction("a"), prediction("b", when=START + DAY)])
    found = list(records.scan(PREDICTIONS))
    records.close()
    directory = records.index(PREDICTIONS).directory
    compact(records, directory)
    as_of_old(directory)
    assert delete_compacted(records, PREDICTIONS).files == 0
    assert list(records.scan(PREDICTIONS)) == found
    assert ids(directory) == ["a", "b"]
    assert compact(records, directory) == 0
    assert delete_compacted(records, PREDICTIONS).files == 1
    assert list(records.scan(PREDICTIONS)) == found
    assert ids(directory) == ["a", "b"]


def test_rows_of_an_old_segment_are_erased(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [prediction("a"), prediction("b")])
    directory = records.index(PREDICTIONS).directory
    compact(records, directory)
    as_of_old(directory)
    gone = next(place.offset for place, _ in records.scan(PREDICTIONS))
    assert records.erase(PREDICTIONS, {"w1": [gone]}) == 1
    assert ids(directory) == ["b"]


def test_a_spool_stays_whose_parquet_is_damaged_or_missing(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [prediction("a"), prediction("b", when=START + DAY)])
    records.close()
    compact(records, records.index(PREDICTIONS).directory)
    path = min(tmp_path.rglob("*.parquet"))
    content = path.read_bytes()
    for change in (lambda: path.write_bytes(b"PAR1 no"), path.unlink):
        change()
        assert delete_compacted(records, PREDICTIONS).files == 0
        assert len(list(records.scan(PREDICTIONS))) == 2
    path.write_bytes(content)
    assert delete_compacted(records, PREDICTIONS).files == 1


def test_rows_that_a_power_cut_took_from_the_spool_but_not_from_parquet_are_read_there(tmp_path):
    records = SpoolRecords(tmp_path, "w1")
    records.write(PREDICTIONS, [prediction("a")])
    records.write(PREDICTIONS, [prediction("b")])
    found = list(records.scan(PREDICTIONS))
    compact(records, records.index(PREDICTIONS).directory)
    records.close()
    os.truncate(tmp_path / PREDICTIONS / "w1.spool", found[0][0].offset)
    assert list(records.scan(PREDICTIONS)) == found
    assert list(records.scan(PREDICTIONS, after={"w1": found[1][0].offset})) == []
    again = SpoolRecords(tmp_path, "w1")
    place = again.write(PREDICTIONS, [prediction("c")])
    assert list(again.scan(PREDICTIONS)) == [*found, (place, prediction("c"))]
    assert list(again.scan(PREDICTIONS, after={"w1": found[1][0].offset})) == [(place, prediction("c"))]
    assert compact(again, again.index(PREDICTIONS).directory) == 1
    assert delete_compacted(again, PREDICTIONS).files == 1
    assert list(again.scan(PREDICTIONS)) == [*found, (place, prediction("c"))]


def test_days_that_were_kept_long_enough_go_and_places_stay(tmp_path):
    records = SpoolRecords(tmp_path, "w1", segment_bytes=1)
    directory = records.index(PREDICTIONS).directory
    for day in range(4):
        records.write(PREDICTIONS, [prediction(f"{day}a", when=START + day * DAY), prediction(f"{day}b")])
        compact(records, directory)
    found = list(records.scan(PREDICTIONS))
    assert expire(directory, before=START + 2 * DAY).files == 5
    assert list(records.scan(PREDICTIONS)) == found, "what stands in a spool is not touched"
    assert delete_compacted(records, PREDICTIONS).files == 3
    left = list(records.scan(PREDICTIONS))
    assert [row for _, row in left] == [row for _, row in found if row in map(late, (2, 3))] + [prediction("3b")]
    assert len(segments(directory)) == 3, "one mark for what is gone at the front"
    for place, _ in found:
        expected = [pair for pair in left if pair[0].offset > place.offset]
        assert list(records.scan(PREDICTIONS, after={"w1": place.offset})) == expected
    records.close()
    assert expire(directory, before=START + 9 * DAY).rows == 2
    delete_compacted(records, PREDICTIONS)
    assert list(records.scan(PREDICTIONS)) == []
    assert records.tables() == []
    assert SpoolRecords(tmp_path, "w1").write(PREDICTIONS, [prediction("new")]).offset > found[-1][0].offset
    assert compact(records, directory) == 1
    assert ids(directory) == ["new"]


def late(day):
    return prediction(f"{day}a", when=START + day * DAY)
