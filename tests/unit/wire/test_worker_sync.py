"""What a worker records reaches the disk within about a second, off the event loop."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.worker import Worker, WorkerSettings, _Process
from trimtab.core.clock import VirtualClock
from trimtab.core.ports import Place
from trimtab.errors import Unavailable


class Records:
    def __init__(self):
        self.synced, self.full = [], False

    def write(self, table, rows, *, sync=False):
        assert (list(rows), sync) == ([], True)
        if self.full:
            raise Unavailable("the disk is full")
        self.synced.append((table, threading.current_thread() is threading.main_thread()))
        return Place("w", 0)


@pytest.fixture
def process():
    worker = Worker(load=None, records=Records(), clock=VirtualClock(1), timer=lambda: 0, new_id=lambda: "x")
    settings = WorkerSettings(1, Path("route.json"), Path("status.json"), sync_s=0.01)
    with socket.socket() as listener:
        yield _Process(worker, settings, listener)


async def run_for(process, seconds):
    task = asyncio.create_task(process._syncing.run(process._plane.look))
    await asyncio.sleep(seconds)
    task.cancel()


def test_records_are_forced_to_disk_when_something_was_written(process):
    records = process._worker.records
    asyncio.run(run_for(process, 0.1))
    assert records.synced == []
    process._engine.counts["answered", "m", "v", "champion"] += 3
    asyncio.run(run_for(process, 0.1))
    assert records.synced == [("predictions", False)]


def test_what_cannot_be_looked_at_keeps_no_record_from_the_disk(process, monkeypatch):
    def look():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(process._plane, "look", look)
    process._engine.counts["answered", "m", "v", "champion"] += 3
    asyncio.run(run_for(process, 0.1))
    assert process._worker.records.synced == [("predictions", False)]


def test_a_sync_that_fails_is_tried_again(process):
    records = process._worker.records
    process._engine.counts["answered", "m", "v", "champion"] += 1
    records.full = True
    asyncio.run(run_for(process, 0.05))
    records.full = False
    asyncio.run(run_for(process, 0.05))
    assert len(records.synced) == 1


def test_a_spool_may_be_synced_while_it_is_written(tmp_path):
    records, stop = SpoolRecords(tmp_path, "w"), threading.Event()
    records.prepare("t")

    def sync():
        while not stop.is_set():
            records.write("t", [], sync=True)

    thread = threading.Thread(target=sync)
    thread.start()
    for number in range(2000):
        records.write("t", [str(number).encode()])
    stop.set()
    thread.join()
    assert [int(row) for _, row in records.scan("t")] == list(range(2000))
