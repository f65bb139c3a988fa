"""A ledger whose tail was cut off is found out, also when the signed head goes with it."""

import json
import sqlite3

import pytest

from trimtab.app.home import Home
from trimtab.app.operations import show_log
from trimtab.app.signing import KEY, SIGNED, check_signed_head, write_signed_head
from trimtab.core.ledger import PLATFORM, Draft
from trimtab.errors import LedgerCorrupt


@pytest.fixture
def home(tmp_path):
    made = Home.of(tmp_path)
    ledger = made.ledger()
    for number in range(3):
        draft = Draft(f"e{number}", "EpochTaken", {"epoch": 1}, 1, 1)
        ledger.append(PLATFORM, [draft], expected=number, epoch=1)
    return made


def cut(home):
    with sqlite3.connect(home.root / "ledger.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DELETE FROM events WHERE seq = 3")
    database.close()


def verify(home):
    return show_log(home.root.parent, at=None, model=None, limit=0, verify=True)["verified"]


def test_a_ledger_that_was_never_signed_is_taken(home):
    check_signed_head(home, home.ledger())
    assert verify(home) == 3


def test_a_cut_tail_is_refused(home):
    write_signed_head(home, home.ledger(), when=5)
    check_signed_head(home, home.ledger())
    assert verify(home) == 3
    cut(home)
    for check in (verify, lambda home: check_signed_head(home, home.ledger())):
        with pytest.raises(LedgerCorrupt, match="the end of the ledger is missing"):
            check(home)


@pytest.mark.parametrize("gone", [SIGNED, KEY])
def test_a_missing_head_or_key_is_reported(home, gone):
    write_signed_head(home, home.ledger(), when=5)
    (home.root / gone if gone == SIGNED else home.run / gone).unlink()
    with pytest.raises(LedgerCorrupt, match=f"{gone} is missing"):
        verify(home)
    assert (home.run / KEY).exists() == (gone != KEY)  # a check makes no new key


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"seq": "x", "signature": "y"})])
def test_a_head_that_is_no_head_is_refused(home, text):
    write_signed_head(home, home.ledger(), when=5)
    (home.root / SIGNED).write_text(text)
    with pytest.raises(LedgerCorrupt):
        verify(home)
