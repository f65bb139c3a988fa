"""The settings of records reach the workers, and what is no mode is refused before any is started."""

from pathlib import Path

import pytest

from trimtab.app.running import UpRequest, _options
from trimtab.errors import InputError


def options():
    return _options(UpRequest(Path()), port=1, grpc_port=-1, driven=False)


def test_the_default_loses_nothing_and_refuses(monkeypatch):
    for name in ("TRIMTAB_RECORDS", "TRIMTAB_RECORDS_WHEN_FULL"):
        monkeypatch.delenv(name, raising=False)
    assert (options().records, options().records_when_full) == ("sync", "refuse")


def test_what_is_set_reaches_the_workers(monkeypatch):
    monkeypatch.setenv("TRIMTAB_RECORDS", "batched:20ms")
    monkeypatch.setenv("TRIMTAB_RECORDS_WHEN_FULL", "drop")
    assert (options().records, options().records_when_full) == ("batched:20ms", "drop")


@pytest.mark.parametrize(("name", "text"), [("TRIMTAB_RECORDS", "later"), ("TRIMTAB_RECORDS_WHEN_FULL", "ignore")])
def test_what_is_none_is_refused(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(InputError, match=text):
        options()
