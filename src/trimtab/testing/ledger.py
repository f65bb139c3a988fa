"""What every adapter of :class:`trimtab.core.ledger.Ledger` must do."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from trimtab.core.ledger import GENESIS, Draft, Event, Ledger, verify
from trimtab.errors import ConflictError, InputError, StaleEpoch


def draft(name: str, **data: object) -> Draft:
    """A small event."""
    return Draft(id=name, type="Tested", data=data, happened=1, known=2, actor="test", cause="c", measured=("seconds",))


class LedgerConformance:
    """Fill in ``make``: a ledger over ``place``; called twice with one place, it is the same ledger."""

    def make(self, place: Path) -> Ledger:
        """A ledger over a place."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Ledger:
        return self.make(tmp_path)

    def test_an_empty_ledger_starts_at_genesis(self, ledger: Ledger) -> None:
        assert ledger.head() == (0, GENESIS, 0)
        assert list(ledger.read()) == []

    def test_what_is_appended_reads_back_in_order_and_chained(self, ledger: Ledger) -> None:
        first = ledger.append(
            "model:a", [draft("1", x=1.5, y=None, z=["é", {"k": True}]), draft("2")], expected=0, epoch=1
        )
        second = ledger.append("platform", [draft("3")], expected=0, epoch=2)
        third = ledger.append("model:a", [draft("4")], expected=2, epoch=2)
        events = list(ledger.read())
        assert events == [*first, *second, *third]
        assert [(event.seq, event.stream, event.number, event.epoch) for event in events] == [
            (1, "model:a", 1, 1),
            (2, "model:a", 2, 1),
            (3, "platform", 1, 2),
            (4, "model:a", 3, 2),
        ]
        assert events[0].data == {"x": 1.5, "y": None, "z": ["é", {"k": True}]}
        assert (events[0].draft.happened, events[0].known, events[0].draft.actor, events[0].draft.cause) == (
            1,
            2,
            "test",
            "c",
        )
        assert events[0].draft.measured == ("seconds",)
        assert verify(events) == 4
        assert ledger.head() == (4, events[-1].hash, 2)

    def test_the_chain_holds_whatever_json_can_carry(self, ledger: Ledger) -> None:
        odd = {"t": (1, 2), "small": 5e-324, "zero": -0.0, "big": 2**70, "keys": {10: "a", 9: "b"}}
        (appended,) = ledger.append("s", [Draft("1", "Odd", odd, 0, 0)], expected=0, epoch=1)
        assert verify(ledger.read()) == 1
        assert list(ledger.read()) == [appended]
        assert appended.data["t"] == [1, 2]

    def test_read_after_and_by_stream(self, ledger: Ledger) -> None:
        ledger.append("a", [draft("1"), draft("2")], expected=0, epoch=1)
        ledger.append("b", [draft("3")], expected=0, epoch=1)
        ledger.append("a", [draft("4")], expected=2, epoch=1)
        assert [event.id for event in ledger.read(after=1)] == ["2", "3", "4"]
        assert [event.id for event in ledger.read(stream="a")] == ["1", "2", "4"]
        assert [event.id for event in ledger.read(after=2, stream="a")] == ["4"]
        assert list(ledger.read(stream="none")) == []
        assert list(ledger.read(after=99)) == []

    def test_many_events_read_without_gaps(self, ledger: Ledger) -> None:
        ledger.append("a", [draft(str(i)) for i in range(2500)], expected=0, epoch=1)
        assert [event.seq for event in ledger.read()] == list(range(1, 2501))
        assert [event.seq for event in ledger.read(after=999, stream="a")] == list(range(1000, 2501))

    @pytest.mark.parametrize("expected", [0, 2])
    def test_compare_and_append_refuses_another_position(self, ledger: Ledger, expected: int) -> None:
        ledger.append("a", [draft("1")], expected=0, epoch=1)
        head = ledger.head()
        with pytest.raises(ConflictError):
            ledger.append("a", [draft("2")], expected=expected, epoch=1)
        assert ledger.head() == head

    def test_appending_the_same_again_returns_what_is_stored(self, ledger: Ledger) -> None:
        ledger.append("a", [draft("0")], expected=0, epoch=1)
        stored = ledger.append("a", [draft("1"), draft("2")], expected=1, epoch=1)
        ledger.append("a", [draft("3")], expected=3, epoch=1)
        head = ledger.head()
        assert ledger.append("a", [draft("1"), draft("2")], expected=1, epoch=5) == stored
        assert ledger.head() == head

    def test_the_same_id_with_other_content_is_a_conflict_that_names_it(self, ledger: Ledger) -> None:
        stored = ledger.append("a", [draft("1"), draft("2", loss=0.5, seconds=1.0)], expected=0, epoch=1)
        measured_anew = draft("2", loss=0.5000000001, seconds=9.0)  # another duration, and a float's last digits
        assert ledger.append("a", [draft("1"), measured_anew], expected=0, epoch=1) == stored
        same = draft("2", loss=0.5, seconds=1.0)
        for other, field in (
            (draft("2", loss=0.6, seconds=1.0), "data.loss"),
            (draft("2", seconds=1.0), "data.loss"),
            (draft("2", loss=0.5, seconds=1.0, more=None), "data.more"),
            (replace(same, type="Other"), "type"),
            (replace(same, actor="operator:x"), "actor"),
            (replace(same, happened=9), "happened"),
        ):
            with pytest.raises(ConflictError, match=rf"event 2 of a .*id 2\): {field} differ"):
                ledger.append("a", [draft("1"), other], expected=0, epoch=1)
        assert list(ledger.read()) == stored

    def test_a_partly_known_append_is_a_conflict_and_writes_nothing(self, ledger: Ledger) -> None:
        ledger.append("a", [draft("1"), draft("2")], expected=0, epoch=1)
        for again in (["2", "1"], ["1", "9"], ["1", "2", "3"]):
            with pytest.raises(ConflictError):
                ledger.append("a", [draft(name) for name in again], expected=0, epoch=1)
        assert ledger.head()[0] == 2

    def test_an_id_is_unique_over_the_ledger(self, ledger: Ledger) -> None:
        ledger.append("a", [draft("1")], expected=0, epoch=1)
        with pytest.raises(ConflictError):
            ledger.append("b", [draft("2"), draft("1")], expected=0, epoch=1)
        with pytest.raises(InputError):
            ledger.append("b", [draft("3"), draft("3")], expected=0, epoch=1)
        assert [event.id for event in ledger.read()] == ["1"]

    def test_an_older_epoch_is_fenced(self, ledger: Ledger) -> None:
        ledger.append("a", [draft("1")], expected=0, epoch=3)
        ledger.append("b", [draft("2")], expected=0, epoch=4)
        for name, expected in (("9", 1), ("1", 0)):  # new work, and a repetition
            with pytest.raises(StaleEpoch):
                ledger.append("a", [draft(name)], expected=expected, epoch=3)
        assert ledger.append("a", [draft("3")], expected=1, epoch=4)[0].seq == 3

    def test_nothing_to_append_still_compares(self, ledger: Ledger) -> None:
        assert ledger.append("a", [], expected=0, epoch=7) == []
        assert ledger.head() == (0, GENESIS, 0)
        with pytest.raises(ConflictError):
            ledger.append("a", [], expected=1, epoch=1)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, object(), "\ud800", b"bytes"])
    def test_data_that_is_not_json_is_refused_whole(self, ledger: Ledger, bad: object) -> None:
        with pytest.raises(InputError):
            ledger.append("a", [draft("1"), draft("2", bad=bad)], expected=0, epoch=1)
        assert list(ledger.read()) == []

    def test_another_object_over_the_same_place_goes_on(self, tmp_path: Path) -> None:
        first = self.make(tmp_path)
        first.append("a", [draft("1")], expected=0, epoch=2)
        second = self.make(tmp_path)
        assert list(second.read()) == list(first.read())
        second.append("a", [draft("2")], expected=1, epoch=2)
        assert [event.id for event in first.read()] == ["1", "2"]

    def test_threads_append_at_once_and_nothing_is_lost_or_doubled(self, tmp_path: Path) -> None:
        ledgers = [self.make(tmp_path) for _ in range(2)]

        def work(worker: int) -> list[Event]:
            mine, ledger = [], ledgers[worker % 2]
            for step in range(10):
                while True:
                    expected = sum(1 for _ in ledger.read(stream="shared"))
                    try:
                        mine += ledger.append("shared", [draft(f"{worker}-{step}")], expected=expected, epoch=1)
                        break
                    except ConflictError:
                        continue
            return mine

        with ThreadPoolExecutor(4) as pool:
            written = [event for events in pool.map(work, range(4)) for event in events]
        events = list(ledgers[0].read())
        assert sorted(written, key=lambda event: event.seq) == events
        assert [event.number for event in events] == list(range(1, 41))
        assert verify(events) == 40

    def test_a_reader_never_sees_a_gap_while_others_append(self, tmp_path: Path) -> None:
        ledger = self.make(tmp_path)
        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(
                lambda: [
                    ledger.append("a", [draft(f"{i}a"), draft(f"{i}b")], expected=2 * i, epoch=1) for i in range(40)
                ]
            )
            while not writing.done():
                seqs = [event.seq for event in ledger.read()]
                assert seqs == list(range(1, len(seqs) + 1))
                assert len(seqs) % 2 == 0, "half of an append was seen"
            writing.result()
