"""What several end-to-end tests need, each made once: the flights of 2013, and a trained project to start processes on."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from tests.e2e.live_house import MODEL, LiveHouse, cli, make_project
from tests.projects.staged import prepare_flights


@pytest.fixture(scope="session")
def flights_data(tmp_path_factory):
    return prepare_flights(tmp_path_factory.mktemp("flights") / "data")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The small project with history up to now and a version that answers."""
    root = make_project(tmp_path_factory.mktemp("trained") / "clicks", until=time.time_ns() // 1000)
    done = cli("train", MODEL, "-p", root, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["rows"] > 500
    return root


@pytest.fixture
def live(trained, tmp_path):
    house = LiveHouse(shutil.copytree(trained, tmp_path / "clicks"))
    yield house
    house.kill()
