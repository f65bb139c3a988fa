"""Whatever comes when: nothing is held back longer than allowed, no lane starves, no row is lost or out of order."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from trimtab.serving.batching import BatchQueue, Bounds

BOUNDS = {"now": Bounds(3), "soon": Bounds(4, 10), "late": Bounds(8, 50)}
ARRIVALS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(sorted(BOUNDS)), st.integers(1, 9)), min_size=1, max_size=25
)


class World:
    """A queue, a clock, and a worker that takes its batches and sleeps until one is due."""

    def __init__(self, *, cost, limit=1000):
        self.now, self.cost = 0, cost
        self.queue = BatchQueue(limit=limit, bounds=BOUNDS.__getitem__, timer=lambda: self.now)
        self.began, self.left, self.order = {}, {}, {lane: [] for lane in BOUNDS}
        self.came = {}

    def put(self, name, lane, size):
        self.came[name], self.left[name] = self.now, size
        self.queue.put(lane, SimpleNamespace(name=name, size=size, dropped=False, whole=False, came=self.now))

    def work(self, until):
        """Answer what is due before a moment; a batch takes ``cost``."""
        while (wait := self.queue.wait_ns()) >= 0 and self.now + wait < until:
            self.now += wait
            lane, pieces = self.queue.take()
            assert pieces, "woken for nothing"
            assert sum(piece.stop - piece.start for piece in pieces) <= BOUNDS[lane].max_rows
            for piece in pieces:
                name = piece.waiter.name
                if piece.start == 0:
                    self.began[name] = self.now
                    self.order[lane].append(name)
                assert piece.start == piece.waiter.size - self.left[name]
                self.left[name] -= piece.stop - piece.start
            self.now += self.cost
        if until < 10**9:
            self.now = max(self.now, until)


def played(arrivals, **more):
    world, at, lanes = World(**more), 0, {}
    for name, (gap, lane, size) in enumerate(arrivals):
        at += gap
        world.work(at)
        lanes[name] = lane
        world.put(name, lane, size)
    world.work(10**9)
    return world, lanes


@given(ARRIVALS)
def test_nothing_is_held_back_longer_than_its_lane_allows(arrivals):
    world, lanes = played(arrivals, cost=0)
    for name, lane in lanes.items():
        assert world.began[name] - world.came[name] <= BOUNDS[lane].max_wait_ns


@given(ARRIVALS, st.integers(0, 7), st.sampled_from([1000, 30]))
def test_every_row_is_answered_once_and_first_come_is_first_served_within_a_lane(arrivals, cost, limit):
    world, lanes = played(arrivals, cost=cost, limit=limit)
    assert set(world.left.values()) == {0}
    for lane, order in world.order.items():
        assert order == [name for name in lanes if lanes[name] == lane]
    assert (len(world.queue), world.queue.wait_ns(), world.queue.take()) == (0, -1, ("", []))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 9))
def test_a_lane_that_is_due_is_not_starved_by_busy_ones(sizes, cost):
    world = World(cost=cost)
    for number, size in enumerate(sizes):
        world.put(number, "soon", size)
    batches, first = 0, None
    while first is None:
        for lane in ("now", "late"):  # both have a full batch before every turn
            world.put(f"{lane}{batches}", lane, 8)
        lane, pieces = world.queue.take()
        assert pieces
        due = sum(sizes) >= 4 or world.now >= 10
        batches = batches + 1 if due else 0
        first = lane if lane == "soon" else None
        world.now += cost
    assert batches <= len(BOUNDS)


@given(ARRIVALS)
def test_lanes_without_a_wait_are_never_held_back(arrivals):
    world = World(cost=0)
    for name, (_, _, size) in enumerate(arrivals):
        world.put(name, "now", size)
        assert world.queue.wait_ns() == 0
    while len(world.queue):
        assert world.queue.take()[1]
