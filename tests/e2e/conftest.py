"""What several end-to-end tests need: the flights of 2013, prepared once."""

from __future__ import annotations

import pytest
from tests.projects.staged import prepare_flights


@pytest.fixture(scope="session")
def flights_data(tmp_path_factory):
    return prepare_flights(tmp_path_factory.mktemp("flights") / "data")
