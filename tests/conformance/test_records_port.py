"""The records suite over spools and over memory."""

import os

from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.deletion import delete_compacted
from trimtab.adapters.records.layouts import OPAQUE
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.serving.meter import LocalCells, Meter
from trimtab.serving.recordmode import KeptRecords, RecordMode
from trimtab.testing.memory import MemoryRecords
from trimtab.testing.records import RecordsConformance


class TestSpool(RecordsConformance):
    def make(self, place, writer):
        return SpoolRecords(place / "records", writer)

    def make_restless(self, place, writer):
        return SpoolRecords(place / "records", writer, segment_bytes=1)

    def keep(self, place, table):
        records = SpoolRecords(place / "records", "keeper")
        compact(records, records.index(table).directory, table=table, layout=OPAQUE)
        delete_compacted(records, table)

    def release(self, records):
        records.close()

    def tear(self, place, table, writer, count):
        path = place / "records" / table / f"{writer}.spool"
        os.truncate(path, path.stat().st_size - count)

    def test_spools_go_but_for_the_last_one(self, tmp_path):
        records = self.make_restless(tmp_path, "w1")
        for number in range(5):
            records.write("t", [b"%d" % number])
        folder = tmp_path / "records" / "t"
        assert len(list(folder.glob("*.spool"))) == 5
        self.keep(tmp_path, "t")
        assert len(list(folder.glob("*.spool"))) == 1
        self.release(records)
        self.keep(tmp_path, "t")
        assert not list(folder.glob("*.spool"))


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

    def make_restless(self, place, writer):
        records, meter = super().make_restless(place, writer), Meter(LocalCells())
        return KeptRecords(records, RecordMode(), meter=meter, timer=lambda: 0)

    def release(self, records):
        records._records.close()
