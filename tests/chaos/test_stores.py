"""Stores under kill -9 and a full disk: what was acknowledged is there exactly once, and everything opens cleanly."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from trimtab.adapters.ledger.sqlite import SqliteLedger
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.parquet import read_predictions
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.ledger import verify
from trimtab.serving.record import PREDICTIONS, PredictionRecord, encode_record

ROUNDS = 3
WRITER = Path(__file__).with_name("store_writer.py")


def start(kind, place, number):
    command = [sys.executable, str(WRITER), kind, str(place), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def killed(kind, place, number, seed):
    """Run a writer, kill it somewhere in its work, and return what it had acknowledged."""
    child = start(kind, place, number)
    first = child.stdout.readline()
    assert first, "the writer did not start"
    time.sleep(random.Random(seed).uniform(0.0, 0.25))
    child.kill()
    rest = child.stdout.read()
    child.stdout.close()
    child.wait()
    return (first + rest).decode().split()


@pytest.fixture(params=range(2))
def seed(request):
    return request.param


def test_ledger_keeps_every_acknowledged_event_once(tmp_path, seed):
    begin = 0
    for step in range(ROUNDS):
        acknowledged = [int(word) for word in killed("ledger", tmp_path, begin, seed * 100 + step)]
        ledger = SqliteLedger(tmp_path / "ledger.db")
        events = list(ledger.read())
        assert verify(events) == len(events) == ledger.head()[0]
        assert [event.id for event in events] == [f"{i // 3}-{i % 3}" for i in range(len(events))]
        assert len(events) % 3 == 0, "half of an append survived"
        assert len(events) // 3 - (acknowledged[-1] + 1) in (0, 1), "at most the one under way may be there as well"
        ledger.close()
        # The next writer repeats the last acknowledged append, and the one that it may have made unheard.
        begin = acknowledged[-1]


def test_ledger_takes_appends_of_several_processes_at_once(tmp_path):
    children = [start("shared_ledger", tmp_path, writer) for writer in range(3)]
    for child in children:
        assert len(child.communicate()[0].split()) == 15
        assert child.returncode == 0
    events = list(SqliteLedger(tmp_path / "ledger.db").read())
    assert verify(events) == 45
    assert {event.id for event in events} == {f"{writer}-{number}" for writer in range(3) for number in range(15)}


def test_spool_keeps_every_acknowledged_batch_once(tmp_path, seed):
    begin = 0
    for step in range(ROUNDS):
        acknowledged = [int(word) for word in killed("spool", tmp_path, begin, seed * 100 + step)]
        rows = [row for _, row in SpoolRecords(tmp_path, "reader").scan("t")]
        found = [row.split(b"-x")[0].rstrip(b"-").decode() for row in rows]
        assert found == [f"{i // 3}-{i % 3}" for i in range(len(found))]
        assert len(found) % 3 == 0, "half of a batch survived"
        assert len(found) // 3 - (acknowledged[-1] + 1) in (0, 1)
        begin = len(found) // 3


def test_spool_cut_anywhere_keeps_whole_batches_and_goes_on(tmp_path):
    # A kill inside one write(2) is too rare to meet by chance, so every place of a cut is tried.
    whole = SpoolRecords(tmp_path / "whole", "w")
    ends = [0] + [whole.write("t", [b"%d" % n, b"x" * 30]).offset for n in range(3)]
    whole.close()
    content = (tmp_path / "whole" / "t" / "w.spool").read_bytes()
    for cut in range(len(content)):
        place = tmp_path / "cut"
        (place / "t").mkdir(parents=True, exist_ok=True)
        (place / "t" / "w.spool").write_bytes(content[:cut])
        kept = max(index for index, end in enumerate(ends) if end <= cut)
        records = SpoolRecords(place, "w")
        assert len(list(records.scan("t"))) == 2 * kept
        records.write("t", [b"next"])
        assert [row for _, row in records.scan("t")][2 * kept :] == [b"next"]
        records.close()


def test_online_rows_stay_whole(tmp_path, seed):
    begin = 0
    for step in range(ROUNDS):
        acknowledged = [int(word) for word in killed("online", tmp_path, begin, seed * 100 + step)]
        for readonly in (True, False):
            store = LmdbRows(tmp_path / "online", readonly=readonly, durable=False)
            marks = set(store.get_many([b"mark-%d" % part for part in range(20)]))
            assert len(marks) == 1, "half of a step survived"
            (last,) = (int(mark) for mark in marks)
            assert last - acknowledged[-1] in (0, 1)
            keys = [b"%d-%d" % (number, part) for number in range(last + 1) for part in range(5)]
            assert store.get_many(keys) == [b"x" * 200] * len(keys)
            store.close()
        begin = last + 1


def test_compaction_killed_anywhere_loses_and_doubles_nothing(tmp_path, seed):
    records = SpoolRecords(tmp_path, "w")
    names = [f"r{number}" for number in range(1200)]
    records.write(PREDICTIONS, [encode_record(prediction(name, index)) for index, name in enumerate(names)])
    for step in range(ROUNDS):
        killed("parquet", tmp_path, 0, seed * 100 + step)
        for path in (tmp_path / "parquet").rglob("*.parquet"):
            if not path.name.startswith(".tmp-"):
                pq.ParquetFile(path).read()
        found = read_predictions(tmp_path / "parquet")["request_id"].to_pylist()
        assert len(set(found)) == len(found)
    compact(records, tmp_path / "parquet", at_most=40)
    assert sorted(read_predictions(tmp_path / "parquet")["request_id"].to_pylist()) == sorted(names)
    assert not list((tmp_path / "parquet").rglob(".tmp-*.parquet"))


def test_a_full_disk_is_unavailable_and_loses_nothing(tmp_path):
    child = start("full", tmp_path, 20_000)
    said = [line.split() for line in child.communicate()[0].decode().splitlines()]
    assert child.returncode == 0
    words = [word for word, _ in said]
    assert words.count("refused") == 3
    assert words[-1] == "took", "it must go on when there is room again"
    taken = [number for word, number in said if word == "took"]
    rows = [row for _, row in SpoolRecords(tmp_path, "reader").scan("t")]
    assert rows == [number.encode() + letter * 900 for number in taken for letter in (b"x", b"y")]
    assert (tmp_path / "t" / "w.spool").stat().st_size > 20_000


def prediction(name, index):
    return PredictionRecord(
        request_id=name,
        prediction_id=f"p-{name}",
        asked_at=index * 3_600_000_000,
        model=f"m{index % 2}",
        version="v",
        arm="champion",
        rollout="",
        keys={"k": index},
        features=np.arange(3, dtype="<f4").tobytes(),
        ages=b"",
        watermarks={},
        outputs=(0.5,),
        timings=(),
        status="ok",
    )
