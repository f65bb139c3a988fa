"""Compaction of prediction records into Parquet."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from trimtab.adapters.records import parquet
from trimtab.adapters.records import segments as marks
from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.parquet import read_predictions
from trimtab.adapters.records.segments import alone, segments
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.clock import DAY, HOUR, instant
from trimtab.errors import ConflictError, IntegrityError
from trimtab.serving.record import PREDICTIONS, PredictionRecord, encode_record
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
