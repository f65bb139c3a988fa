"""The online-rows suite over LMDB in its modes and over memory."""

from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.testing.memory import MemoryRows
from trimtab.testing.online import OnlineRowsConformance


class TestLmdb(OnlineRowsConformance):
    def make(self, place):
        return LmdbRows(place / "online", durable=False)

    def release(self, rows):
        rows.close()


class TestDurableLmdb(TestLmdb):
    def make(self, place):
        return LmdbRows(place / "online")


class TestWriteBack(TestLmdb):
    def make(self, place):
        return LmdbRows(place / "online", durable=False, write_back=True)


class TestMemory(OnlineRowsConformance):
    def setup_method(self):
        self.stores = {}

    def make(self, place):
        return self.stores.setdefault(place, MemoryRows())
