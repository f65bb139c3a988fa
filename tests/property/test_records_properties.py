"""Whatever is done to records, and in whatever order: a reader sees each row once, in order."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.deletion import delete_compacted, ended_writers
from trimtab.adapters.records.layouts import OPAQUE
from trimtab.adapters.records.spool import SpoolRecords

TABLE = "t"
writers = st.sampled_from(["w1", "w-2"])


class Kept(RuleBasedStateMachine):
    """Two writers that come and go, a keeper, and readers that stop anywhere and go on later."""

    places = Bundle("places")
    under_way = Bundle("under_way")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.live = {}
        self.rows = {"w1": [], "w-2": []}
        self.count = 0
        self.reader = SpoolRecords(self.root, "reader")
        self.directory = self.root / TABLE / "parquet"

    def teardown(self):
        for records in self.live.values():
            records.close()
        self.folder.cleanup()

    def expected(self, after):
        return {writer: [pair for pair in rows if pair[0] > after.get(writer, 0)] for writer, rows in self.rows.items()}

    @rule(writer=writers, sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4), limit=st.sampled_from([1, 120]))
    def write(self, writer, sizes, limit):
        if writer not in self.live:
            self.live[writer] = SpoolRecords(self.root, writer, segment_bytes=limit)
        rows = []
        for size in sizes:
            self.count += 1
            rows.append(b"%d-" % self.count + b"x" * size)
        before = {writer: self.rows[writer][-1][0]} if self.rows[writer] else {}
        end = self.live[writer].write(TABLE, rows)
        found = [(place.offset, row) for place, row in self.reader.scan(TABLE, after=before) if place.writer == writer]
        assert [row for _, row in found] == rows
        assert found[-1][0] == end.offset
        self.rows[writer] += found

    @rule(writer=writers, torn=st.integers(0, 30))
    def end(self, writer, torn):
        """A process ends, perhaps within a write."""
        records = self.live.pop(writer, None)
        if records is not None:
            records.close()
            with max((self.root / TABLE).glob(f"{writer}*.spool")).open("ab") as last:
                last.write(b"\xffTTB" + bytes(torn) if torn else b"")

    @rule(at_most=st.sampled_from([2, 7, 100]), at_least=st.integers(1, 2))
    def compact(self, at_most, at_least):
        if self.directory.parent.is_dir():
            ended = ended_writers(self.reader, TABLE)
            compact(
                self.reader, self.directory, table=TABLE, layout=OPAQUE, at_most=at_most, at_least=at_least, ended=ended
            )

    @rule()
    def delete(self):
        delete_compacted(self.reader, TABLE)

    @rule(writer=writers, which=st.integers(0, 50))
    def erase(self, writer, which):
        if self.rows[writer]:
            gone = self.rows[writer].pop(which % len(self.rows[writer]))
            assert self.reader.erase(TABLE, {writer: [gone[0]]}) == 1
            assert self.reader.erase(TABLE, {writer: [gone[0]]}) == 0

    @rule(target=places, share=st.floats(0, 1), fresh=st.booleans())
    def read_some(self, share, fresh):
        reader = SpoolRecords(self.root, "reader") if fresh else self.reader
        seen = list(reader.scan(TABLE))
        return {place.writer: place.offset for place, _ in seen[: int(len(seen) * share)]}

    @rule(after=consumes(places))
    def read_on(self, after):
        found = {"w1": [], "w-2": []}
        for place, row in self.reader.scan(TABLE, after=after):
            found[place.writer].append((place.offset, row))
        assert found == self.expected(after)

    @rule(target=under_way)
    def begin(self):
        scan = self.reader.scan(TABLE)
        return [next(scan, None)], scan, {writer: list(rows) for writer, rows in self.rows.items()}

    @rule(begun=consumes(under_way))
    def finish(self, begun):
        """A scan that began long ago has everything that was there then and is not erased, each row once."""
        (first,), scan, then = begun
        found = [(place.writer, place.offset, row) for place, row in ([first] if first else []) + list(scan)]
        assert len(set(found)) == len(found)
        for writer in then:
            own = [(offset, row) for who, offset, row in found if who == writer]
            assert own == sorted(own)
            now = {offset for offset, _ in self.rows[writer]}
            if first is not None:
                assert {pair for pair in then[writer] if pair[0] in now} <= set(own)

    @invariant()
    def everything_is_there_once(self):
        found = {"w1": [], "w-2": []}
        for place, row in self.reader.scan(TABLE):
            found[place.writer].append((place.offset, row))
        assert found == self.rows


Kept.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_order = Kept.TestCase
