"""Lost records are on the status, in the terminal and on the page, for as long as the home lives."""

from trimtab.app.overview import records_status
from trimtab.cli.status import _text
from trimtab.serving.counted import counted
from trimtab.serving.meter import COUNT
from trimtab.serving.recordmode import LOST, WRITTEN
from trimtab.web.status import render_status


def test_lost_records_are_told_of():
    records = records_status(counted({(COUNT, (LOST,)): [1234], (COUNT, (WRITTEN,)): [7]}))
    assert records == {"written": 7, "lost": 1234}
    assert "RECORDS LOST: 1,234 predictions have no record" in list(_text({"records": records}))
    assert "predictions have no record" in render_status({"project": "p", "records": records})


def test_nothing_is_said_when_none_was_lost():
    records = records_status(counted({(COUNT, (WRITTEN,)): [7]}))
    assert records == {"written": 7, "lost": 0}
    assert not [line for line in _text({"records": records}) if "LOST" in line]
    assert "have no record" not in render_status({"project": "p", "records": records})
