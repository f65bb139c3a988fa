"""The records suite over spools and over memory."""

import os

from trimtab.adapters.records.spool import SpoolRecords
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
