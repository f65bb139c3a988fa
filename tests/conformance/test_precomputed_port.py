"""The suite of answers computed ahead, over LMDB and over memory."""

from trimtab.adapters.online.precomputed import LmdbPrecomputed
from trimtab.testing.memory import MemoryPrecomputed
from trimtab.testing.precomputed import PrecomputedConformance


class TestLmdb(PrecomputedConformance):
    def make(self, place, clock):
        return LmdbPrecomputed(place / "precomputed", clock=clock)

    def release(self, store):
        store.close()


class TestMemory(PrecomputedConformance):
    def setup_method(self):
        self.stores = {}

    def make(self, place, clock):
        return self.stores.setdefault(place, MemoryPrecomputed(clock))
