"""What every adapter of :class:`trimtab.serving.ports.Precomputed` must do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from trimtab.core.clock import VirtualClock
from trimtab.errors import InputError
from trimtab.serving.ports import Precomputed


class PrecomputedConformance:
    """Fill in ``make`` and ``release``."""

    def make(self, place: Path, clock: VirtualClock) -> Precomputed:
        """The writer's store over a place."""
        raise NotImplementedError

    def release(self, store: Precomputed) -> None:
        """End the use of an object in an orderly way, so that another may be made over its place."""

    def test_outputs_come_back_exactly(self, tmp_path: Path) -> None:
        store = self.make(tmp_path, VirtualClock(0))
        answers = {b"a": (0.1,), b"b": (1e-300, -0.0, 2.5), b"c" * 16: (math.pi,), b"none": ()}
        store.put_many("m", "v1", answers, until=10)
        assert {key: store.get("m", "v1", key) for key in answers} == answers
        assert store.get("m", "v1", b"missing") is None

    def test_an_answer_is_that_of_its_version_and_model_alone(self, tmp_path: Path) -> None:
        store = self.make(tmp_path, VirtualClock(0))
        store.put_many("m", "v1", {b"a": (1.0,)}, until=10)
        store.put_many("m", "v2", {b"a": (2.0,)}, until=10)
        assert store.get("m", "v1", b"a") == (1.0,)
        assert store.get("m", "v2", b"a") == (2.0,)
        assert store.get("n", "v1", b"a") is None
        assert store.get("m", "v", b"1a") is None

    def test_an_answer_ends_at_its_time(self, tmp_path: Path) -> None:
        clock = VirtualClock(0)
        store = self.make(tmp_path, clock)
        store.put_many("m", "v", {b"a": (1.0,)}, until=10)
        clock.advance_to(9)
        assert store.get("m", "v", b"a") == (1.0,)
        clock.advance_to(10)
        assert store.get("m", "v", b"a") is None

    def test_a_later_answer_replaces_an_earlier_one(self, tmp_path: Path) -> None:
        store = self.make(tmp_path, VirtualClock(5))
        store.put_many("m", "v", {b"a": (1.0,)}, until=5)
        store.put_many("m", "v", {b"a": (2.0,)}, until=6)
        store.put_many("m", "v", {}, until=6)
        assert store.get("m", "v", b"a") == (2.0,)

    def test_what_is_over_is_dropped_and_nothing_else(self, tmp_path: Path) -> None:
        store = self.make(tmp_path, VirtualClock(0))
        store.put_many("m", "v", {b"%d" % n: (float(n),) for n in range(500)}, until=10)
        store.put_many("m", "v", {b"later": (1.0,)}, until=11)
        assert store.drop(before=10) == 500
        assert store.drop(before=10) == 0
        assert store.get("m", "v", b"7") is None
        assert store.get("m", "v", b"later") == (1.0,)
        assert store.drop(before=11) == 1
        assert store.get("m", "v", b"later") is None

    def test_an_empty_key_is_refused(self, tmp_path: Path) -> None:
        store = self.make(tmp_path, VirtualClock(0))
        with pytest.raises(InputError):
            store.put_many("m", "v", {b"a": (1.0,), b"": (2.0,)}, until=10)
        assert store.get("m", "v", b"a") is None

    def test_answers_are_there_for_the_next_object(self, tmp_path: Path) -> None:
        first = self.make(tmp_path, VirtualClock(0))
        first.put_many("m", "v", {b"a": (1.0,)}, until=10)
        self.release(first)
        assert self.make(tmp_path, VirtualClock(0)).get("m", "v", b"a") == (1.0,)
