"""The series suite over SQLite and over memory."""

from trimtab.adapters.series.sqlite import SqliteSeries
from trimtab.testing.memory import MemorySeries
from trimtab.testing.series import SeriesConformance


class TestSqlite(SeriesConformance):
    def make(self, place):
        return SqliteSeries(place / "series.db")


class TestMemory(SeriesConformance):
    def setup_method(self):
        self.stores = {}

    def make(self, place):
        return self.stores.setdefault(place, MemorySeries())
