"""The records suite over spools and over memory."""

import os

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.serving.meter import LocalCells, Meter
from trimtab.serving.recordmode import KeptRecords, RecordMode
from trimtab.testing.memory import MemoryRecords
from trimtab.testing.records import RecordsConformance


class TestSpool(RecordsConformance):
    def make(self, place, writer):
        return SpoolRecords(place / "records", writer)

    def release(self, records):
        records.close()

    def tear(self, place, table, writer, count):
        path = place / "records" / table / f"{writer}.spool"
        os.truncate(path, path.stat().st_size - count)


class TestMemory(RecordsConformance):
    def setup_method(self):
        self.stores = {}

    def make(self, place, writer):
        first = self.stores.setdefault(place, MemoryRecords("first"))
        return MemoryRecords(writer, like=first)


class TestKept(TestSpool):
    """Written before the answer, through what a worker writes through."""

    def make(self, place, writer):
        meter = Meter(LocalCells())
        return KeptRecords(SpoolRecords(place / "records", writer), RecordMode(), meter=meter, timer=lambda: 0)

    def release(self, records):
        records._records.close()
