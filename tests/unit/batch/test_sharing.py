"""Pieces are done by several threads, each once, and told in their order."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from trimtab.app.sharing import shared


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_every_piece_is_done_once_and_told_in_order(pool):
    done = []

    def do(start):
        done.append(start)
        return [start]

    assert list(shared(pool, 2)(do, range(0, 1000, 10))) == [[start] for start in range(0, 1000, 10)]
    assert sorted(done) == list(range(0, 1000, 10))
    assert list(shared(pool, 2)(do, [])) == []


def test_the_thread_that_asks_takes_pieces_too(pool):
    both = threading.Barrier(2, timeout=10)  # passed only by two at once

    def do(start):
        both.wait()
        return [threading.get_ident()]

    assert len({who for (who,) in shared(pool, 2)(do, range(2))}) == 2


@pytest.mark.parametrize("asking", [True, False])
def test_after_an_error_nobody_goes_on(pool, asking):
    here, both, done = threading.get_ident(), threading.Barrier(2, timeout=10), []

    def do(start):
        if start < 2:
            both.wait()
            if (threading.get_ident() == here) is asking:
                raise ValueError("this piece")
        done.append(start)
        return []

    with pytest.raises(ValueError, match="this piece"):
        shared(pool, 2)(do, range(1_000_000))
    assert len(done) < 1_000_000
