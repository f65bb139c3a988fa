"""A replay that is killed, at every boundary and at any moment, ends with the decisions of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
from tests.projects.staged import ROOT, stage_sales

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.errors import InputError
from trimtab.serving.record import PREDICTIONS, decode_record

UNTIL = "2024-06-18"
"""Long enough for three trainings, an approval, a promotion and a rejection."""


def drive(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.chaos.replay_driver", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return stage_sales(tmp_path_factory.mktemp("killed") / "sales")


@pytest.fixture(scope="module")
def undisturbed(root):
    replayed = run_replay(ReplayRequest(root, until=UNTIL, out=root / "undisturbed"))
    return replayed.result, [event.id for event in replayed.staging.home.ledger().read()]


def answered_once(home, count):
    found = [decode_record(row) for _, row in SpoolRecords(home / "records", "reader").scan(PREDICTIONS)]
    ids = [record.request_id for record in found if record.arm != "shadow"]
    return len(ids) == len(set(ids)) == count


def test_killed_at_every_boundary(root, undisturbed):
    result, ids = undisturbed
    with drive(root, root / "boundaries", UNTIL, "boundaries") as driver:
        said = [json.loads(line) for line in driver.stdout]
    assert driver.returncode == 0
    *killed, last = said
    assert len(killed) > 30
    assert all(one["killed"] for one in killed)
    for one in said:
        assert one["ids"] == ids[: len(one["ids"])], f"boundary {one['boundary']}"
    lengths = [len(one["ids"]) for one in said]
    assert lengths == sorted(lengths)
    assert (last["status"], last["digest"], last["counts"]) == (0, result["digest"], result["counts"])
    assert (last["parity"]["mismatch"], last["parity"]["missing"], last["parity"]["extra"]) == (0, 0, 0)
    assert answered_once(root / "boundaries", result["counts"]["requests answered"])


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(root, undisturbed, seed):
    result, _ = undisturbed
    chance = random.Random(seed)
    home = root / f"random{seed}"
    for _ in range(4):
        with drive(root, home, UNTIL) as driver:
            try:
                driver.wait(chance.uniform(0.5, 4.0))
            except subprocess.TimeoutExpired:
                driver.kill()
    with drive(root, home, UNTIL) as driver:
        said = json.loads(driver.stdout.read())
    assert (said["digest"], said["counts"]) == (result["digest"], result["counts"])
    assert answered_once(home, result["counts"]["requests answered"])


def test_what_another_replay_left_is_made_anew(root, undisturbed):
    result, _ = undisturbed
    home = root / "reused"
    with drive(root, home, "2024-05-24", "boundaries") as driver:
        json.loads(driver.stdout.readline())
        driver.kill()
    with drive(root, home, UNTIL) as driver:
        assert json.loads(driver.stdout.read())["digest"] == result["digest"]


def test_a_directory_that_is_no_replay_is_left_alone(root, tmp_path):
    (tmp_path / "records").mkdir()
    kept = tmp_path / "records" / "precious"
    kept.write_text("1")
    with pytest.raises(InputError, match="something else than a replay"):
        run_replay(ReplayRequest(root, until=UNTIL, out=tmp_path))
    assert kept.read_text() == "1"
