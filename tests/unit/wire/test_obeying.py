"""Route tables that come while a version is loaded: what needs nothing loaded is in force at once."""

import asyncio
import itertools
import threading
import time
from contextlib import asynccontextmanager

import msgspec
import pytest
from tests.unit.serving.parts import House, engine_with

from trimtab.adapters.wire.obeying import Obeying
from trimtab.adapters.wire.routefile import write_routes
from trimtab.serving.routing import Arm, Route, RouteTable, killed


class Slow:
    """Loads from a house; some versions only when the gate opens."""

    def __init__(self, house, *versions):
        self.house, self.versions, self.gate, self.loaded = house, versions, threading.Event(), []

    def __call__(self, version):
        if version in self.versions:
            assert self.gate.wait(20)
        self.loaded.append(version)
        return self.house.load(version)


def route(model, *arms, held=(), constant=()):
    return Route(model, tuple(Arm(*arm) for arm in arms), held=held, constant=constant)


@pytest.fixture
def house():
    made = House()
    for version, model in (("a", "m"), ("b", "m"), ("c", "m"), ("x", "other"), ("y", "other")):
        made.add(version, 1.0, model=model)
    return made


class Run:
    def __init__(self, tmp_path, house, load):
        self.path, self.engine, self.said = tmp_path / "route.json", engine_with(house, ("champion", "a", 1.0)), []
        self.told = []
        """Generation in force and problem, each time that either was told."""
        self.obeying = Obeying(self.engine, load, self.path, tell=self.tell, poll_s=0.005, retry_s=0.05)

    def tell(self, problem):
        self.said.append(problem)
        self.told.append((self.engine.live.table.generation, problem != ""))

    def put(self, generation, *routes):
        write_routes(self.path, RouteTable(generation, {one.model: one for one in routes}))

    async def until(self, holds):
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0.005)
        raise AssertionError((self.engine.live.table, self.said))

    async def generation(self, number):
        await self.until(lambda: self.engine.live.table.generation == number)

    @asynccontextmanager
    async def running(self, load):
        task = asyncio.create_task(self.obeying.run())
        try:
            yield
        finally:
            load.gate.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.obeying.__exit__()


CHAMPION = route("m", ("champion", "a", 1.0))
CANARY = route("m", ("champion", "a", 0.5), ("canary", "b", 0.5))


def during(tmp_path, house, slow, steps):
    load = Slow(house, *slow)
    run = Run(tmp_path, house, load)

    async def everything():
        async with run.running(load):
            await steps(run, load)

    asyncio.run(everything())
    return run, load


def closed(house, version):
    return house.made[version].runtime.closed


def test_a_kill_switch_does_not_wait_for_a_version_that_is_loaded(tmp_path, house):
    async def steps(run, load):
        run.put(2, CANARY)
        await run.until(lambda: run.obeying._loading is not None)
        run.put(3, killed(CANARY, constant=(0.5,)))
        await run.generation(3)
        assert run.engine.live.table.route("m").constant == (0.5,)
        assert load.loaded == []
        load.gate.set()
        await run.until(lambda: run.obeying._loading is None and load.loaded == ["b"])
        assert run.engine.live.table.generation == 3
        run.put(4, CANARY)
        await run.generation(4)

    during(tmp_path, house, ("b",), steps)
    assert not closed(house, "a")
    assert not closed(house, "b")


def test_what_was_loaded_for_nothing_is_freed(tmp_path, house):
    async def steps(run, load):
        run.put(2, CANARY)
        await run.until(lambda: run.obeying._loading is not None)
        run.put(3, CHAMPION)
        await run.generation(3)
        load.gate.set()
        await run.until(lambda: run.obeying._loading is None)
        await run.until(lambda: closed(house, "b"))
        run.put(4, route("m", ("champion", "c", 1.0)))
        await run.generation(4)
        await run.until(lambda: run.obeying._loading is None)

    during(tmp_path, house, ("b",), steps)
    assert closed(house, "a")
    assert closed(house, "b")
    assert not closed(house, "c")


def test_one_model_does_not_wait_for_another(tmp_path, house):
    async def steps(run, load):
        run.put(2, CHAMPION, route("other", ("champion", "x", 1.0)))
        await run.generation(2)
        run.put(3, CHAMPION, route("other", ("champion", "y", 1.0)))
        await run.until(lambda: run.obeying._loading is not None)
        run.put(5, killed(CHAMPION, constant=(0.5,)), route("other", ("champion", "y", 1.0)))
        await run.generation(4)  # between the two: not all of it is in force, and none says that it is
        assert run.engine.live.table.route("m").constant == (0.5,)
        assert run.engine.live.answering("other").version == "x"
        assert run.obeying.ahead == {"m": 5}  # but of this one it is said
        load.gate.set()
        await run.generation(5)
        assert run.engine.live.answering("other").version == "y"
        assert load.loaded == ["x", "y"]
        assert run.obeying.ahead == {}

    during(tmp_path, house, ("y",), steps)
    assert closed(house, "x")


def test_a_version_that_cannot_be_loaded_is_said_and_tried_again(tmp_path, house):
    house.broken["b"] = ValueError("torn")

    async def steps(run, load):
        load.gate.set()
        run.put(2, CANARY)
        await run.until(lambda: any("torn" in one for one in run.said))
        assert run.engine.live.table.generation == 1
        del house.broken["b"]
        await run.generation(2)
        assert run.said[-1] == ""
        assert (2, True) not in run.told  # never a table in force and its problem together

    during(tmp_path, house, (), steps)


def test_a_table_of_several_changes_takes_the_last_of_them(tmp_path, house):
    async def steps(run, load):
        run.put(2, CANARY)
        await run.until(lambda: run.obeying._loading is not None)
        for number in range(3, 9):
            run.put(number, msgspec.structs.replace(CANARY, rollout=f"r{number}"))
            await asyncio.sleep(0.02)
        assert run.engine.live.table.generation == 1
        load.gate.set()
        await run.generation(8)
        assert load.loaded == ["b"]

    during(tmp_path, house, ("b",), steps)


def test_what_cannot_be_loaded_is_tried_again_after_a_while_and_not_before(tmp_path, house):
    house.broken["b"] = ValueError("torn")
    begun = []

    async def steps(run, load):
        load.gate.set()
        plain = run.obeying._load

        def slowly(version):
            begun.append(time.monotonic())
            time.sleep(0.1)  # longer than until the next try
            return plain(version)

        run.obeying._load = slowly
        run.put(2, CANARY)
        await run.until(lambda: len(begun) == 4)

    during(tmp_path, house, (), steps)
    assert min(after - before for before, after in itertools.pairwise(begun)) > 0.14


def test_a_problem_of_a_newer_table_outlives_the_loading_of_an_older_one(tmp_path, house):
    async def steps(run, load):
        run.put(2, CANARY)
        await run.until(lambda: run.obeying._loading is not None)
        run.path.write_bytes(b"no table")
        await run.until(lambda: run.said and run.said[-1])
        load.gate.set()
        await run.until(lambda: run.obeying._loading is None)
        assert run.said[-1]
        run.put(3, CANARY)
        await run.generation(3)
        await run.until(lambda: run.said[-1] == "")

    during(tmp_path, house, ("b",), steps)


def test_a_switch_pulled_twice_is_said_to_be_in_force_twice(tmp_path, house):
    async def steps(run, _load):
        run.put(2, CHAMPION, route("other", ("champion", "x", 1.0)))
        await run.generation(2)
        run.put(3, CHAMPION, route("other", ("champion", "y", 1.0)))
        await run.until(lambda: run.obeying._loading is not None)
        for generation in (4, 5):
            run.put(generation, killed(CHAMPION, constant=(0.5,)), route("other", ("champion", "y", 1.0)))
            await run.until(lambda: run.obeying.ahead == {"m": generation})  # noqa: B023 - awaited here

    during(tmp_path, house, ("y",), steps)
