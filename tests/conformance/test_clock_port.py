"""The clock suite over the real clock, the shared one and the virtual one."""

from trimtab.adapters.clock.shared import SharedClock
from trimtab.adapters.clock.system import SystemClock
from trimtab.core.clock import VirtualClock
from trimtab.testing.clock import ClockConformance


class TestSystem(ClockConformance):
    def make(self, place):
        return SystemClock()


class TestVirtual(ClockConformance):
    def make(self, place):
        return VirtualClock()

    def advance(self, clock):
        clock.advance_to(clock.now() + 1)


class TestShared(TestVirtual):
    def make(self, place):
        return SharedClock(place / "clock", writable=True)


class TestSharedReader(ClockConformance):
    def make(self, place):
        self.writer = SharedClock(place / "clock", writable=True)
        return SharedClock(place / "clock")

    def advance(self, clock):
        self.writer.advance_to(self.writer.now() + 1)
        assert clock.now() == self.writer.now()
