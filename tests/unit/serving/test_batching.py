from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import Unavailable
from trimtab.serving.batching import BatchQueue, Bounds


def waiter(name, size=1, came=0):
    return SimpleNamespace(name=name, size=size, dropped=False, whole=False, came=came)


def names(pieces):
    return [(piece.waiter.name, piece.start, piece.stop) for piece in pieces]


def test_a_batch_holds_what_waits_and_no_more_than_allowed():
    queue = BatchQueue(max_rows=3)
    for name in "abcd":
        queue.put("lane", waiter(name))
    assert names(queue.take()[1]) == [("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]
    assert names(queue.take()[1]) == [("d", 0, 1)]
    assert (queue.take(), len(queue)) == (("", []), 0)


def test_a_large_one_lets_small_ones_pass():
    queue = BatchQueue(max_rows=4)
    queue.put("lane", waiter("big", 10))
    queue.put("lane", waiter("small"))
    assert names(queue.take()[1]) == [("big", 0, 4)]
    assert names(queue.take()[1]) == [("small", 0, 1), ("big", 4, 7)]
    assert names(queue.take()[1]) == [("big", 7, 10)]
    assert len(queue) == 0


def test_lanes_take_turns():
    queue = BatchQueue(max_rows=1)
    for lane, name in (("x", "a"), ("x", "b"), ("y", "c")):
        queue.put(lane, waiter(name))
    assert [queue.take()[0] for _ in range(3)] == ["x", "y", "x"]


def test_it_is_bounded():
    queue = BatchQueue(limit=1)
    queue.put("lane", waiter("a", 100))
    with pytest.raises(Unavailable, match="too many"):
        queue.put("lane", waiter("b"))
    while queue.take()[1]:
        pass
    queue.put("lane", waiter("b"))


def test_a_dropped_waiter_is_skipped_and_makes_room():
    queue = BatchQueue(max_rows=2, limit=2)
    gone = waiter("gone", 5)
    queue.put("lane", gone)
    queue.take()
    gone.dropped = True
    queue.put("lane", waiter("b"))
    assert names(queue.take()[1]) == [("b", 0, 1)]
    assert len(queue) == 0


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 9)), max_size=12), st.integers(1, 5))
def test_every_row_is_handed_out_once_and_in_order(waiters, max_rows):
    queue = BatchQueue(max_rows=max_rows)
    for name, (lane, size) in enumerate(waiters):
        queue.put(lane, waiter(name, size))
    seen = dict.fromkeys(range(len(waiters)), 0)
    while len(queue):
        lane, pieces = queue.take()
        assert 1 <= sum(piece.stop - piece.start for piece in pieces) <= max_rows
        for piece in pieces:
            assert waiters[piece.waiter.name][0] == lane
            assert piece.start == seen[piece.waiter.name]
            seen[piece.waiter.name] = piece.stop
    assert list(seen.values()) == [size for _, size in waiters]


def holding(limit=100, **bounds):
    """A queue with its clock in a list."""
    now = [0]
    return BatchQueue(limit=limit, bounds=lambda lane: bounds[lane], timer=lambda: now[0]), now


def test_a_lane_is_held_back_until_its_oldest_has_waited_long_enough():
    queue, now = holding(slow=Bounds(4, 100), fast=Bounds(4))
    queue.put("slow", waiter("a"))
    now[0] = 60
    queue.put("slow", waiter("b", came=60))
    assert (queue.take(), queue.wait_ns(), len(queue)) == (("", []), 40, 2)
    queue.put("fast", waiter("c"))
    assert (queue.wait_ns(), queue.take()[0], queue.wait_ns()) == (0, "fast", 40)
    now[0] = 100
    assert names(queue.take()[1]) == [("a", 0, 1), ("b", 0, 1)]
    assert queue.wait_ns() == -1


def test_a_full_batch_goes_at_once_and_what_is_left_counts_from_its_own_coming():
    queue, now = holding(slow=Bounds(2, 100))
    for name in "abc":
        queue.put("slow", waiter(name, came=now[0]))
        now[0] += 10
    assert names(queue.take()[1]) == [("a", 0, 1), ("b", 0, 1)]
    assert (queue.take()[1], queue.wait_ns()) == ([], 90)


def test_the_rest_of_a_large_one_is_not_held_back():
    queue, _ = holding(slow=Bounds(4, 100))
    queue.put("slow", waiter("big", 5))
    assert names(queue.take()[1]) == [("big", 0, 4)]
    assert names(queue.take()[1]) == [("big", 4, 5)]


def test_a_full_queue_holds_nothing_back():
    queue, _ = holding(limit=2, slow=Bounds(50, 10**9))
    queue.put("slow", waiter("a"))
    assert queue.take()[1] == []
    queue.put("slow", waiter("b"))
    assert queue.wait_ns() == 0
    assert names(queue.take()[1]) == [("a", 0, 1), ("b", 0, 1)]


def test_enough_rows_are_not_held_back():
    queue, _ = holding(slow=Bounds(50, 10**9, 2))
    queue.put("slow", waiter("a"))
    assert queue.take()[1] == []
    queue.put("slow", waiter("b"))
    assert len(queue.take()[1]) == 2


def test_each_lane_has_its_own_most_rows():
    queue, _ = holding(x=Bounds(1), y=Bounds(3))
    for lane in "xy":
        for name in "abc":
            queue.put(lane, waiter(name))
    assert [len(queue.take()[1]) for _ in range(4)] == [1, 3, 1, 1]


def test_one_that_must_be_whole_is_handed_out_in_one_piece():
    queue = BatchQueue(max_rows=4)
    large, small = waiter("large", 10), waiter("small", 1)
    large.whole = True
    queue.put("lane", small)
    queue.put("lane", large)
    assert queue.take()[1] == [(small, 0, 1), (large, 0, 10)]
    assert len(queue) == 0
