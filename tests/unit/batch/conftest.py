"""A served home with one version, for each file of tests."""

import pytest
from tests.unit.batch.batch_house import registered


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def version(home):
    return registered(home)
