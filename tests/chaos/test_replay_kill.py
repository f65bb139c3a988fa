"""A replay that is killed, at every boundary and at any moment, ends with the decisions of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.projects.staged import ROOT, script, stage_sales

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.app.home import Home
from trimtab.app.replaying import REPLAY, ReplayRequest, run_replay
from trimtab.errors import ConflictError, InputError
from trimtab.loop import events as e
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


def cut_off(root, home):
    """A replay of the project that was killed on the way, and what its ledger held then."""
    with drive(root, home, UNTIL, "boundaries") as driver:
        for line in driver.stdout:
            if len(json.loads(line)["ids"]) > 8:
                break
        driver.kill()
    driver.wait()
    return list(Home(home, durable=False).ledger().read())


def test_after_a_change_of_the_data_it_starts_anew(tmp_path):
    root = stage_sales(tmp_path / "sales")
    home = root / "out"
    cut_off(root, home)
    script(root / "generate.py").generate(root, seed=8)
    resumed = run_replay(ReplayRequest(root, until=UNTIL, out=home))
    anew = run_replay(ReplayRequest(root, until=UNTIL, out=root / "anew"))
    assert resumed.result["digest"] == anew.result["digest"]


def test_a_resumed_replay_that_decides_otherwise_is_refused(tmp_path):
    """As when a library that decides has changed, which the name of the home does not cover."""
    root = stage_sales(tmp_path / "sales")
    home = root / "out"
    held = cut_off(root, home)
    mark = (home / REPLAY).read_text()
    for file in home.glob("ledger.db*"):
        file.unlink()
    ledger = Home(home, durable=False).ledger()
    for event in held:
        draft = event.draft
        if draft.type == e.FLOORS_JUDGED:
            draft = replace(draft, data={**draft.data, "passed": not draft.data["passed"]})
        ledger.append(event.stream, [draft], expected=event.number - 1, epoch=1)
    ledger.close()
    with pytest.raises(ConflictError, match=rf"{e.FLOORS_JUDGED}.*data.passed"):
        run_replay(ReplayRequest(root, until=UNTIL, out=home))
    assert (home / REPLAY).read_text() == mark
    assert run_replay(ReplayRequest(root, until=UNTIL, out=home)).result["counts"]["promotions"]  # it starts anew


def test_a_directory_that_is_no_replay_is_left_alone(root, tmp_path):
    (tmp_path / "records").mkdir()
    kept = tmp_path / "records" / "precious"
    kept.write_text("1")
    with pytest.raises(InputError, match="something else than a replay"):
        run_replay(ReplayRequest(root, until=UNTIL, out=tmp_path))
    assert kept.read_text() == "1"
