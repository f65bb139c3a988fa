"""What every :class:`trimtab.core.clock.Clock` must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trimtab.core.clock import Clock


class ClockConformance:
    """Fill in ``make``, and ``advance`` for a clock that stands still by itself."""

    def make(self, place: Path) -> Clock:
        """A clock; ``place`` is a directory it may use."""
        raise NotImplementedError

    def advance(self, clock: Clock) -> None:
        """Let some time pass; nothing to do for a clock that runs by itself."""

    def test_now_is_microseconds(self, tmp_path: Path) -> None:
        now = self.make(tmp_path).now()
        assert type(now) is int
        assert 0 <= now < 2**62

    def test_it_never_goes_backwards(self, tmp_path: Path) -> None:
        clock, seen = self.make(tmp_path), []
        for _ in range(1000):
            seen.append(clock.now())
            self.advance(clock)
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]

    def test_it_never_goes_backwards_in_any_thread(self, tmp_path: Path) -> None:
        clock = self.make(tmp_path)

        def work(_: int) -> bool:
            seen = [clock.now() for _ in range(2000)]
            return seen == sorted(seen)

        with ThreadPoolExecutor(4) as pool:
            checks = [pool.submit(work, worker) for worker in range(4)]
            for _ in range(500):
                self.advance(clock)
            assert all(check.result() for check in checks)
