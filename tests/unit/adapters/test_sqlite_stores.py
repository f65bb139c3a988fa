"""What is particular to the SQLite ledger and series."""

import os
import sqlite3

import numpy as np
import pytest

from trimtab.adapters.ledger.head import check_head, sign_head
from trimtab.adapters.ledger.sqlite import SqliteLedger
from trimtab.adapters.series.sqlite import SqliteSeries
from trimtab.core.ledger import Draft, verify
from trimtab.errors import IntegrityError, LedgerCorrupt, Unavailable
from trimtab.testing.memory import MemoryLedger

KEY = b"k" * 32


def filled(path, count=3, **options):
    ledger = SqliteLedger(path, **options)
    ledger.append("s", [Draft(f"e{n}", "T", {"n": n}, n, n) for n in range(count)], expected=0, epoch=1)
    return ledger


def tamper(path, statement):
    with sqlite3.connect(path) as connection:
        for trigger in ("events_stay", "events_remain"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'x'", "DELETE FROM events"])
def test_the_file_itself_refuses_changes(tmp_path, statement):
    filled(tmp_path / "l.db").close()
    connection = sqlite3.connect(tmp_path / "l.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{\"n\":7}' WHERE seq = 2",
        "UPDATE events SET known = 99 WHERE seq = 2",
        "UPDATE events SET stream = 'x', number = 1 WHERE seq = 2",
        "DELETE FROM events WHERE seq = 1",
        "UPDATE events SET data = 'no json' WHERE seq = 2",
    ],
)
def test_a_changed_file_shows(tmp_path, statement):
    filled(tmp_path / "l.db").close()
    tamper(tmp_path / "l.db", statement)
    with pytest.raises(LedgerCorrupt):
        SqliteLedger(tmp_path / "l.db").verify()


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "l.db").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerCorrupt):
        SqliteLedger(tmp_path / "l.db")
    (tmp_path / "s.db").write_bytes(b"not a database" * 100)
    with pytest.raises(IntegrityError):
        SqliteSeries(tmp_path / "s.db")


def test_a_newer_file_is_refused(tmp_path):
    filled(tmp_path / "l.db").close()
    with sqlite3.connect(tmp_path / "l.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(Unavailable, match="newer version"):
        SqliteLedger(tmp_path / "l.db")


def test_a_closed_ledger_is_unavailable(tmp_path):
    ledger = filled(tmp_path / "l.db")
    ledger.close()
    with pytest.raises(Unavailable):
        ledger.head()


def test_commits_reach_the_disk_unless_told_otherwise(tmp_path):
    for durable, level in ((True, 2), (False, 0)):
        ledger = SqliteLedger(tmp_path / f"{durable}.db", durable=durable)
        assert ledger._database.rows("PRAGMA synchronous") == [(level,)]
        assert ledger._database.rows("PRAGMA journal_mode") == [("wal",)]


def test_old_shapes_are_upcast_on_read_and_verified_as_stored(tmp_path):
    filled(tmp_path / "l.db").close()
    ledger = SqliteLedger(tmp_path / "l.db", upcasters={("T", 1): lambda data: {"number": data["n"]}})
    assert [event.data for event in ledger.read()] == [{"number": 0}, {"number": 1}, {"number": 2}]
    (new,) = ledger.append("s", [Draft("e3", "T", {"number": 3}, 0, 0, version=2)], expected=3, epoch=1)
    assert new.data == {"number": 3}
    # Whoever appends it again has today's code, and so today's shape.
    again = ledger.append("s", [Draft("e2", "T", {"number": 2}, 2, 2, version=2)], expected=2, epoch=1)
    assert again[0].data == {"number": 2}
    assert ledger.verify() == 4
    with pytest.raises(LedgerCorrupt):
        verify(ledger.read())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(tmp_path):
    ledger = filled(tmp_path / "l.db")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ledger.append("s", [Draft("child", "T", {}, 0, 0)], expected=3, epoch=1)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    ledger.append("s", [Draft("parent", "T", {}, 0, 0)], expected=4, epoch=1)
    assert ledger.verify() == 5


@pytest.mark.parametrize("make", [lambda path: SqliteLedger(path / "l.db"), lambda path: MemoryLedger()])
def test_a_signed_head_holds_while_the_ledger_grows(tmp_path, make):
    ledger = make(tmp_path)
    empty = sign_head(ledger, KEY, when=1)
    ledger.append("s", [Draft("1", "T", {}, 0, 0)], expected=0, epoch=2)
    signed = sign_head(ledger, KEY, when=5)
    assert (signed["seq"], signed["epoch"], signed["when"]) == (1, 2, 5)
    ledger.append("s", [Draft("2", "T", {}, 0, 0)], expected=1, epoch=2)
    check_head(ledger, empty, KEY)
    check_head(ledger, signed, KEY)


def test_a_truncated_tail_shows_though_the_chain_is_whole(tmp_path):
    ledger = filled(tmp_path / "l.db")
    signed = sign_head(ledger, KEY, when=0)
    ledger.close()
    tamper(tmp_path / "l.db", "DELETE FROM events WHERE seq = 3")
    short = SqliteLedger(tmp_path / "l.db")
    assert short.verify() == 2
    with pytest.raises(LedgerCorrupt, match="end of the ledger is missing"):
        check_head(short, signed, KEY)
    short.append("s", [Draft("other", "T", {}, 0, 0)], expected=2, epoch=1)
    with pytest.raises(LedgerCorrupt, match="not the one that was signed"):
        check_head(short, signed, KEY)


@pytest.mark.parametrize("change", [{"seq": 1}, {"when": 9}, {"signature": "0" * 64}, {"signature": None}, {"more": 1}])
def test_a_head_that_was_changed_is_refused(tmp_path, change):
    ledger = filled(tmp_path / "l.db")
    signed = sign_head(ledger, KEY, when=0) | change
    with pytest.raises(LedgerCorrupt, match="signature"):
        check_head(ledger, signed, KEY)
    with pytest.raises(LedgerCorrupt, match="signature"):
        check_head(ledger, sign_head(ledger, KEY, when=0), b"another key")


def test_series_outlive_the_object(tmp_path):
    series = SqliteSeries(tmp_path / "s.db")
    series.add("1", {("a", 0): np.array([0.1, np.nan, np.inf])})
    series.close()
    (vector,) = SqliteSeries(tmp_path / "s.db").read("a").values()
    np.testing.assert_array_equal(vector, [0.1, np.nan, np.inf])
