"""Which models are in memory: the policy alone, then with loads, failures, threads and a budget that is too small."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.parts import Linear

from trimtab.errors import Unavailable
from trimtab.serving.residency import LruBudget, Residency

ONE = np.ones((1, 1), np.float32)


def test_the_least_recently_used_goes_first():
    budget = LruBudget(3)
    for name in "abc":
        assert budget.enter(name, 1) == []
    budget.touch("a")
    assert budget.enter("d", 2) == ["b", "c"]
    assert budget.total == 3


def test_what_is_in_use_stays_and_goes_when_it_is_over():
    budget = LruBudget(1)
    budget.enter("a", 1)
    budget.acquire("a")
    assert budget.enter("b", 1) == []
    budget.acquire("b")
    assert budget.release("b") == []
    assert budget.release("a") == ["b"]


def test_one_that_is_larger_than_the_budget_is_held_alone():
    budget = LruBudget(10)
    budget.enter("a", 4)
    assert budget.enter("giant", 100) == ["a"]
    assert budget.enter("b", 4) == ["giant"]


def test_no_limit_gives_nothing_up():
    budget = LruBudget(0)
    assert [budget.enter(name, 10**12) for name in range(9)] == [[]] * 9


steps = st.lists(
    st.tuples(st.sampled_from(["enter", "touch", "acquire", "release", "remove"]), st.integers(0, 5)), max_size=60
)


@given(steps, st.integers(1, 12))
def test_the_policy_against_a_plain_list(taken, limit):
    """A model that is slow and plain: a list in order of use. Sizes are 1 to 6 by name."""
    budget, held, uses = LruBudget(limit), [], dict.fromkeys(range(6), 0)

    def squeeze(keep):
        gone = []
        for name in list(held):
            if sum(one + 1 for one in held) <= limit:
                break
            if name != keep and not uses[name]:
                held.remove(name)
                gone.append(name)
        return gone

    def touched(name):
        if name in held:
            held.remove(name)
            held.append(name)

    for what, name in taken:
        if what == "enter":
            touched(name)
            if name not in held:
                held.append(name)
            assert budget.enter(name, name + 1) == squeeze(name)
        elif what == "touch":
            touched(name)
            budget.touch(name)
        elif what == "acquire":
            uses[name] += 1
            touched(name)
            budget.acquire(name)
        elif what == "release" and uses[name]:
            uses[name] -= 1
            assert budget.release(name) == squeeze(name)
        elif what == "remove" and name in held:
            held.remove(name)
            budget.remove(name)
        assert budget.total == sum(one + 1 for one in held)
        assert [one in budget for one in range(6)] == [one in held for one in range(6)]
        idle = [one for one in held if not uses[one]]
        assert budget.total <= limit or len(idle) <= 1


class Shelf:
    """Makes models and remembers every runtime that was loaded."""

    def __init__(self, limit):
        self.residency = Residency(limit)
        self.loaded = []

    def model(self, bias, size=1):
        def load():
            self.loaded.append(Linear(bias))
            return self.loaded[-1]

        return self.residency.model(size, load)

    def open(self):
        return [one.bias for one in self.loaded if not one.closed]


def test_fifty_models_with_room_for_ten():
    shelf = Shelf(10)
    models = [shelf.model(float(bias)) for bias in range(50)]
    assert shelf.residency.loads == 10
    order = np.random.default_rng(0).integers(0, 50, 400).tolist()
    for bias in order:
        assert models[bias].run(ONE).tolist() == [[1 + bias]]
        assert len(shelf.open()) <= 10
        assert shelf.residency.resident_bytes == len(shelf.open())
    assert set(shelf.open()) == set(list(dict.fromkeys(reversed(order)))[:10])
    for model in models:
        model.close()
    assert shelf.open() == []
    assert shelf.residency.resident_bytes == 0


def test_blocking_says_whether_it_must_be_loaded():
    shelf = Shelf(1)
    first, second = shelf.model(1.0), shelf.model(2.0)
    assert (first.blocking, second.blocking) == (False, True)
    second.run(ONE)
    assert (first.blocking, second.blocking) == (True, False)


def test_a_closed_model_that_is_still_asked_answers_and_is_freed_again():
    """A batch that was on its way to a thread when the route changed must not fail."""
    shelf = Shelf(0)
    model = shelf.model(1.0)
    model.close()
    assert shelf.open() == []
    assert model.run(ONE).tolist() == [[2]]
    assert shelf.open() == []


def test_a_load_that_fails_is_tried_again_and_holds_no_room():
    residency = Residency(1)
    keeper = residency.model(1, lambda: Linear(0.0))
    tries = []

    def load():
        tries.append(1)
        if len(tries) < 3:
            raise Unavailable("the disk is gone")
        return Linear(5.0)

    model = residency.model(1, load)
    for _ in range(2):
        with pytest.raises(Unavailable):
            model.run(ONE)
        assert residency.resident_bytes == 0
    assert model.run(ONE).tolist() == [[6]]
    assert keeper.run(ONE).tolist() == [[1]]


class Gate(Linear):
    """Answers when it is let."""

    def __init__(self, bias):
        super().__init__(bias)
        self.entered, self.let = threading.Event(), threading.Event()

    def run(self, values):
        self.entered.set()
        assert self.let.wait(5)
        return super().run(values)


def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    return lambda: (thread.join(5), found[0])[1]


def test_a_model_that_answers_is_not_given_up():
    residency, gate = Residency(1), Gate(1.0)
    busy = residency.model(1, lambda: gate)
    answer = in_thread(lambda: busy.run(ONE).tolist())
    assert gate.entered.wait(5)
    other = residency.model(1, lambda: Linear(7.0))
    assert other.run(ONE).tolist() == [[8]]
    assert not gate.closed
    gate.let.set()
    assert answer() == [[2]]
    other.run(ONE)
    assert residency.resident_bytes == 1


def test_closing_waits_for_the_answer_under_way():
    residency, gate = Residency(0), Gate(1.0)
    model = residency.model(1, lambda: gate)
    answer = in_thread(lambda: model.run(ONE).tolist())
    assert gate.entered.wait(5)
    model.close()
    assert not gate.closed
    gate.let.set()
    assert answer() == [[2]]
    assert gate.closed


def test_two_who_ask_for_one_that_is_absent_load_it_once_and_others_go_on():
    residency, started, let = Residency(2), threading.Event(), threading.Event()
    ready = residency.model(1, lambda: Linear(0.0))
    filler = residency.model(1, lambda: Linear(0.0))
    loads = []

    def load():
        loads.append(1)
        started.set()
        assert let.wait(5)
        return Linear(2.0)

    slow = residency.model(1, load)
    ready.run(ONE)
    first, second = (in_thread(lambda: slow.run(ONE).tolist()) for _ in range(2))
    assert started.wait(5)
    begin = time.monotonic()
    assert ready.run(ONE).tolist() == [[1]]
    assert time.monotonic() - begin < 1
    let.set()
    assert (first(), second(), len(loads)) == ([[3]], [[3]], 1)
    assert not filler.resident


def test_many_threads_over_a_small_budget():
    shelf = Shelf(3)
    models = [shelf.model(float(bias)) for bias in range(8)]
    wrong = []

    def ask(seed):
        order = np.random.default_rng(seed).integers(0, 8, 300).tolist()
        wrong.extend(bias for bias in order if models[bias].run(ONE).tolist() != [[1 + bias]])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(shelf.open()) <= 3
