import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import Overloaded, TooLate, Unavailable
from trimtab.serving.admission import Admission

MS = 1_000_000


def joined(door, model, times):
    for _ in range(times):
        door.admit(model)
        door.joined(model)


def test_a_queue_that_is_full_refuses():
    door = Admission(limit=3)
    joined(door, "m", 3)
    with pytest.raises(Overloaded, match=r"too many requests are waiting\. Got 3 for m"):
        door.admit("m")
    door.left("m", 1)
    door.admit("m")


def test_a_flood_for_one_model_leaves_the_other_its_share():
    door = Admission(limit=10)
    joined(door, "flood", 10)
    door.admit("quiet")
    joined(door, "quiet", 5)
    with pytest.raises(Overloaded):
        door.admit("quiet")
    with pytest.raises(Overloaded):
        door.admit("flood")


def test_nobody_is_let_in_to_wait_for_an_answer_that_comes_too_late():
    door = Admission(limit=1000, deadline_ns=100 * MS)
    door.answered("m", bodies=2, began=0, ended=20 * MS)
    joined(door, "m", 5)  # the next would wait for 5 times 10 ms and two batches of 20, past the margin of 80
    with pytest.raises(Unavailable, match=r"too late\. Got a wait of about 90\.0 ms; of 100 ms, 80 may"):
        door.admit("m")
    door.admit("m", within_ns=200 * MS)
    with pytest.raises(Unavailable):
        door.admit("m", within_ns=20 * MS)


def test_what_lies_between_two_batches_counts_while_requests_wait():
    door = Admission(limit=1000)
    joined(door, "m", 3)
    door.left("m", 1)
    door.answered("m", bodies=1, began=10 * MS, ended=20 * MS)
    assert door.lasts("m", 2) == 20 * MS
    door.left("m", 1)
    door.answered("m", bodies=1, began=110 * MS, ended=120 * MS)  # refusals took 90 ms
    assert door.lasts("m", 1) == pytest.approx(19 * MS)
    door.left("m", 1)
    door.answered("m", bodies=1, began=120 * MS, ended=130 * MS)
    assert door.lasts("m", 1) == pytest.approx(18.1 * MS)
    door.answered("m", bodies=1, began=1130 * MS, ended=1140 * MS)  # nobody waited meanwhile
    assert door.lasts("m", 1) == pytest.approx(17.29 * MS)


def test_the_first_is_always_let_in_since_nothing_else_can_be_learned_from():
    door = Admission(limit=10, deadline_ns=MS)
    door.answered("m", bodies=1, began=0, ended=10_000 * MS)
    door.admit("m")


def test_the_same_is_said_until_who_waits_changes():
    door = Admission(limit=1, deadline_ns=MS)
    joined(door, "m", 1)
    said = []
    for _ in range(3):
        with pytest.raises(Overloaded) as refused:
            door.admit("m")
        said.append(refused.value)
    assert said[0] is said[1] is said[2]
    assert len(refused.traceback) == 2  # it does not grow from time to time
    door.left("m", 1)
    door.admit("m")


def test_without_a_deadline_only_the_queue_is_bounded():
    door = Admission(limit=10)
    door.answered("m", bodies=1, began=0, ended=10_000 * MS)
    joined(door, "m", 10)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=300), st.integers(1, 20))
def test_what_waits_is_bounded_whatever_comes(steps, limit):
    door, waiting = Admission(limit=limit), dict.fromkeys("abc", 0)
    for model, leaves in steps:
        if leaves and waiting[model]:
            door.left(model, 1)
            waiting[model] -= 1
            continue
        try:
            door.admit(model)
        except Overloaded:
            assert waiting[model] > 0
            continue
        door.joined(model)
        waiting[model] += 1
        assert sum(waiting.values()) <= 2 * limit + 1


def test_a_body_of_several_batches_waits_for_each_of_them():
    door = Admission(limit=1000, deadline_ns=100 * MS)
    door.answered("m", bodies=2, began=0, ended=4 * MS)
    joined(door, "m", 5)
    door.admit("m", batches=4)  # 4 times 5 that take 2 ms each, and five batches of 4: 60 ms
    with pytest.raises(TooLate, match=r"wait of about 88\.0 ms.*send fewer rows at a time: these take 6 batches"):
        door.admit("m", batches=6)
    door.admit("m")  # one that takes one is not refused with it
    door.left("m", 5)
    door.admit("m", batches=1000)  # nobody waits: only its own deadline ends it
