"""A worker that stops while a shadow is scored in another process keeps its scores, or counts them as lost."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from trimtab.adapters.wire import shadowing
from trimtab.adapters.wire.shadowing import ShadowTurns


class Desk:
    """A dispatcher whose shadow is answered when the gate opens."""

    queue = ()

    def __init__(self):
        self.rows, self.recorded, self.gate, self.entered = list(range(40)), [], threading.Event(), threading.Event()
        self.engine = self.settling = self

    @property
    def shadow_rows(self):
        return len(self.rows)

    def take_shadow(self, count):
        taken, self.rows = self.rows[:count], self.rows[count:]
        return [SimpleNamespace(version="v", row=row) for row in taken]

    def blocks(self, _versions):
        return True

    def score_shadow(self, works):
        self.entered.set()
        assert self.gate.wait(20)
        return [work.row for work in works]

    def keep_shadow(self, scored):
        return scored

    def record_shadow(self, scored):
        self.recorded += scored

    def step_shadow(self):
        self.record_shadow([work.row for work in self.take_shadow(32)])
        return len(self.rows)


def stopped_while_it_scores(desk):
    with ThreadPoolExecutor(1) as threads:
        turns = ShadowTurns(desk, threads)

        async def stop():
            task = asyncio.create_task(turns.run())
            turns.wake()
            await asyncio.to_thread(desk.entered.wait, 20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            threading.Timer(0.05, desk.gate.set).start()
            turns.finish()

        asyncio.run(stop())
        desk.gate.set()
    return turns


def test_what_is_being_scored_is_recorded_before_the_end():
    desk = Desk()
    assert stopped_while_it_scores(desk).failures == 0
    assert desk.recorded == list(range(40))


def test_what_takes_too_long_is_counted_as_lost(monkeypatch, caplog):
    monkeypatch.setattr(shadowing, "_LAST_S", 0.0)
    desk = Desk()
    assert stopped_while_it_scores(desk).failures == 1
    assert desk.recorded == list(range(32, 40))
    assert "shadow scores are lost" in caplog.text


@pytest.mark.parametrize("rounds", [1, 3])
def test_scores_go_on_as_long_as_it_runs(rounds):
    desk = Desk()
    desk.gate.set()
    desk.rows *= rounds

    async def run():
        with ThreadPoolExecutor(1) as threads:
            turns = ShadowTurns(desk, threads)
            task = asyncio.create_task(turns.run())
            turns.wake()
            while len(desk.recorded) < 40 * rounds:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            turns.finish()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert desk.recorded == list(range(40)) * rounds
