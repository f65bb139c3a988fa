"""The ledger suite over SQLite and over memory."""

from trimtab.adapters.ledger.sqlite import SqliteLedger
from trimtab.testing.ledger import LedgerConformance
from trimtab.testing.memory import MemoryLedger


class TestSqlite(LedgerConformance):
    def make(self, place):
        return SqliteLedger(place / "ledger.db", durable=False)


class TestDurableSqlite(LedgerConformance):
    def make(self, place):
        return SqliteLedger(place / "deep" / "ledger.db")


class TestMemory(LedgerConformance):
    def setup_method(self):
        self.ledgers = {}

    def make(self, place):
        return self.ledgers.setdefault(place, MemoryLedger())
