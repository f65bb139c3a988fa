"""When records are written, what waits, what is refused and what is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import InputError, Unavailable
from trimtab.serving import recordmode
from trimtab.serving.meter import GAUGE_NAMES, UNWRITABLE, LocalCells, Meter
from trimtab.serving.recordmode import LOST, WRITTEN, KeptRecords, RecordMode, read_mode, read_policy
from trimtab.testing.memory import MemoryRecords


class Disk(MemoryRecords):
    """Records that can be full, and that note what was forced to disk."""

    def __init__(self):
        super().__init__("w")
        self.full, self.synced, self.writes = False, 0, 0

    def write(self, table, rows, *, sync=False):
        if self.full:
            raise Unavailable("records cannot be written", got="No space left on device")
        self.synced += sync
        self.writes += 1
        return super().write(table, rows, sync=sync)

    def make_sure(self, table, size):
        assert table == "t"
        if self.full:
            raise Unavailable("records cannot be written", got="No space left on device")

    def rows(self, table="t"):
        return [row for _, row in self.scan(table)]


class Loop:
    """Calls that are due later."""

    def __init__(self):
        self.calls = []

    def __call__(self, seconds, call):
        self.calls.append((seconds, call))

    def run(self):
        calls, self.calls = self.calls, []
        for _, call in calls:
            call()


class Kept(KeptRecords):
    def __init__(self, mode, when_full="refuse"):
        self.disk, self.meter, self.loop, self.said, self.now = Disk(), Meter(LocalCells()), Loop(), [], 0
        self.relieved = []
        super().__init__(
            self.disk, read_mode(mode), meter=self.meter, timer=lambda: self.now, when_full=when_full,
            complain=self.said.append, relieved=self.relieved.append,
        )  # fmt: skip
        self.later = self.loop

    def counts(self):
        return self.meter.counter(WRITTEN).value, self.meter.counter(LOST).value


def test_modes():
    assert read_mode("sync") == RecordMode()
    assert read_mode("sync+fsync") == RecordMode(fsync=True)
    assert read_mode("batched:10000ms") == RecordMode(wait_ms=10_000)
    assert read_policy("drop") == "drop"


@pytest.mark.parametrize("text", ["", "batched", "batched:0ms", "batched:5", "batched:10001ms", "async", "sync "])
def test_other_modes_are_refused(text):
    with pytest.raises(InputError):
        read_mode(text)
    with pytest.raises(InputError):
        read_policy(text)


@pytest.mark.parametrize(("mode", "synced"), [("sync", 0), ("sync+fsync", 2)])
def test_sync_writes_before_it_returns(mode, synced):
    kept = Kept(mode)
    kept.write("t", [b"a"])
    kept.write("t", [b"b"])
    assert (kept.disk.rows(), kept.disk.synced, kept.loop.calls, kept.counts()) == ([b"a", b"b"], synced, [], (2, 0))


def test_batched_writes_once_and_not_later_than_promised_after_the_first():
    kept = Kept("batched:5ms")
    for row in (b"a", b"b", b"c"):
        kept.write("t", [row])
    assert (kept.disk.rows(), kept.counts()) == ([], (0, 0))
    assert [seconds for seconds, _ in kept.loop.calls] == [0.005]
    kept.loop.run()
    assert (kept.disk.rows(), kept.disk.writes, kept.counts()) == ([b"a", b"b", b"c"], 1, (3, 0))
    kept.write("t", [b"d"])
    assert len(kept.loop.calls) == 1


def test_batched_without_a_loop_writes_at_once():
    kept = Kept("batched:5ms")
    kept.later = None
    kept.write("t", [b"a"])
    assert kept.disk.rows() == [b"a"]


@pytest.mark.parametrize(("most", "value"), [("MOST_ROWS", 2), ("MOST_BYTES", 20)])
def test_memory_is_bounded(monkeypatch, most, value):
    monkeypatch.setattr(recordmode, most, value)
    kept = Kept("batched:1000ms")
    for number in range(7):
        kept.write("t", [b"%d" % number * 10])
        assert kept.waiting <= 2
    assert len(kept.disk.rows()) == 6


@pytest.mark.parametrize("mode", ["sync", "sync+fsync"])
def test_refuse_keeps_and_counts_nothing_that_was_refused(mode):
    kept = Kept(mode)
    kept.disk.full = True
    with pytest.raises(Unavailable):
        kept.write("t", [b"a"])
    kept.disk.full = False
    kept.write("t", [b"b"])
    assert (kept.disk.rows(), kept.counts()) == ([b"b"], (1, 0))


@pytest.mark.parametrize("mode", ["sync", "batched:5ms"])
def test_refuse_says_when_it_begins_and_when_it_ends_and_finds_room_without_a_request(mode):
    kept = Kept(mode)
    kept.write("t", [b"a"])
    kept.disk.full = True

    def refused():
        if mode == "sync":
            with pytest.raises(Unavailable):
                kept.write("t", [b"b"])
        else:
            kept.loop.run()

    def stands():
        return bool(kept.unwritable), kept.meter._gauges[GAUGE_NAMES.index(UNWRITABLE)], len(kept.said), kept.relieved

    refused()
    kept.probe()
    refused()
    assert stands() == (True, 1, 1, [])
    assert "No space left" in kept.unwritable
    assert "No space left" in kept.said[0]
    kept.disk.full = False
    kept.probe()
    again = ["predictions are recorded again, and answered"]
    assert stands() == (False, 0, 1, again)
    assert kept.disk.rows() == [b"a"]
    kept.loop.run()
    kept.write("t", [b"c"])
    kept.disk.full = True
    refused()  # within the same minute: neither its beginning nor its end is said
    kept.disk.full = False
    kept.probe()
    assert stands() == (False, 0, 1, again)
    kept.write("t", [b"d"])
    kept.disk.full = True
    refused()
    kept.now = 61_000_000_000
    kept.probe()
    assert stands() == (True, 1, 2, again)


def test_drop_goes_on_counts_and_says_so_once_a_minute():
    kept = Kept("sync", "drop")
    kept.disk.full = True
    for second in range(130):
        kept.now = second * 1_000_000_000
        kept.write("t", [b"a", b"b"])
    assert kept.counts() == (0, 260)
    assert len(kept.said) == 3
    assert "122 so far" in kept.said[1]
    assert "No space left" in kept.said[1]
    kept.disk.full = False
    kept.write("t", [b"c"])
    assert (kept.disk.rows(), kept.counts()) == ([b"c"], (1, 260))


def test_batched_drop_loses_what_waited_and_goes_on_by_itself():
    kept = Kept("batched:5ms", "drop")
    kept.disk.full = True
    kept.write("t", [b"a", b"b"])
    kept.loop.run()
    assert (kept.counts(), kept.waiting, len(kept.said)) == ((0, 2), 0, 1)
    kept.disk.full = False
    kept.write("t", [b"c"])
    kept.loop.run()
    assert (kept.disk.rows(), kept.counts()) == ([b"c"], (1, 2))


def test_batched_refuse_loses_nothing_answered_and_answers_no_more_until_there_is_room():
    kept = Kept("batched:5ms")
    kept.write("t", [b"answered"])
    kept.disk.full = True
    kept.loop.run()
    assert len(kept.said) == 1
    for _ in range(3):
        with pytest.raises(Unavailable):
            kept.write("t", [b"refused"])
    assert kept.waiting == 1
    kept.disk.full = False
    kept.loop.run()  # tries again without any request
    assert (kept.disk.rows(), kept.counts(), kept.loop.calls) == ([b"answered"], (1, 0), [])
    kept.write("t", [b"later"])
    assert kept.waiting == 1


def test_batched_refuse_goes_on_with_the_first_request_that_finds_room():
    kept = Kept("batched:5ms")
    kept.write("t", [b"answered"])
    kept.disk.full = True
    kept.loop.run()
    kept.disk.full = False
    kept.write("t", [b"next"])
    assert kept.disk.rows() == [b"answered", b"next"]


def test_a_write_that_was_forced_by_its_size_and_failed_is_refused_alone(monkeypatch):
    monkeypatch.setattr(recordmode, "MOST_ROWS", 1)
    kept = Kept("batched:5ms")
    kept.write("t", [b"answered"])
    kept.disk.full = True
    with pytest.raises(Unavailable):
        kept.write("t", [b"refused"])
    kept.disk.full = False
    kept.loop.run()
    assert (kept.disk.rows(), kept.waiting) == ([b"answered"], 0)


def test_what_cannot_be_written_at_the_end_is_counted():
    kept = Kept("batched:5ms")
    kept.write("t", [b"a", b"b"])
    kept.disk.full = True
    kept.close()
    assert (kept.counts(), kept.waiting) == ((0, 2), 0)
    assert kept.said


@given(
    mode=st.sampled_from(["sync", "sync+fsync", "batched:5ms"]),
    when_full=st.sampled_from(["refuse", "drop"]),
    steps=st.lists(st.sampled_from(["write", "write", "write", "fill", "free", "loop"])),
)
def test_every_answered_row_is_written_once_in_order_or_counted_as_lost(mode, when_full, steps):
    kept, answered = Kept(mode, when_full), []
    for number, step in enumerate(steps):
        if step == "write":
            try:
                kept.write("t", [b"%d" % number])
            except Unavailable:
                assert (when_full, kept.disk.full) == ("refuse", True)
            else:
                answered.append(b"%d" % number)
        elif step == "loop":
            kept.loop.run()
        else:
            kept.disk.full = step == "fill"
    kept.disk.full = False
    kept.close()
    written, lost = kept.counts()
    found = kept.disk.rows()
    assert found == [row for row in answered if row in found]
    assert (written, written + lost) == (len(found), len(answered))
    assert when_full == "drop" or lost == 0
