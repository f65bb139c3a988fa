"""The shadow in another process: never beside an answer of the same version, and a worker that stops ends in time."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from trimtab.adapters.wire import shadowing
from trimtab.adapters.wire.shadowing import ShadowTurns
from trimtab.serving.live import Uses


class Desk:
    """A dispatcher whose shadow is answered when the gate opens."""

    queue = ()

    def __init__(self, *, rows=40):
        self.rows, self.recorded, self.gate, self.entered = list(range(rows)), [], threading.Event(), threading.Event()
        self.engine = self.settling = self
        self.answering, self.dropped, self.beside = False, 0, 0
        self.uses, self.live = Uses(), SimpleNamespace(table=SimpleNamespace(generation=1))

    @property
    def shadow_rows(self):
        return len(self.rows)

    def busy_aside(self, _versions):
        return self.answering

    def take_shadow(self, count):
        count = min(count, 1) if count < 39 else count  # what blocks stands alone; all are taken at the end
        taken, self.rows = self.rows[:count], self.rows[count:]
        return [SimpleNamespace(version="v", row=row) for row in taken]

    def blocks(self, _versions):
        return True

    def score_shadow(self, works):
        self.entered.set()
        self.beside += self.answering
        assert self.gate.wait(20)
        return [(work, work.row) for work in works]

    def keep_shadow(self, scored):
        self.dropped += sum(row is None for _, row in scored)
        return [row for _, row in scored if row is not None]

    def record_shadow(self, scored):
        self.recorded += scored


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
    assert (desk.recorded, desk.dropped) == (list(range(40)), 0)


def test_what_takes_too_long_is_counted(monkeypatch, caplog):
    monkeypatch.setattr(shadowing, "_LAST_S", 0.0)
    desk = Desk()
    assert stopped_while_it_scores(desk).failures == 1
    assert (desk.recorded, desk.dropped) == ([], 39)
    assert "shadow scores are lost" in caplog.text
    assert "39 shadow rows are not scored" in caplog.text


@pytest.mark.parametrize("rounds", [1, 3])
def test_scores_go_on_as_long_as_it_runs_and_wait_while_the_version_answers(rounds):
    desk = Desk(rows=40 * rounds)
    desk.gate.set()
    desk.answering = True

    async def run():
        with ThreadPoolExecutor(1) as threads:
            turns = ShadowTurns(desk, threads)
            task = asyncio.create_task(turns.run())
            turns.wake()
            await asyncio.sleep(0.05)
            assert desk.recorded == []
            desk.answering = False
            while len(desk.recorded) < 40 * rounds:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            turns.finish()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert (desk.recorded, desk.beside) == (list(range(40 * rounds)), 0)


def test_what_waits_while_the_version_answers_is_scored_at_the_end():
    desk = Desk(rows=3)
    desk.gate.set()
    desk.answering = True

    async def run():
        with ThreadPoolExecutor(1) as threads:
            turns = ShadowTurns(desk, threads)
            task = asyncio.create_task(turns.run())
            turns.wake()
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            turns.finish()

    asyncio.run(run())
    assert (desk.recorded, desk.dropped) == ([0, 1, 2], 0)
