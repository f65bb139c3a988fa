"""Records under kill -9 while their files are begun, compacted and deleted: each acknowledged row is there once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.chaos.record_keeper import STATES
from tests.soak import long

from trimtab.adapters.records.spool import SpoolRecords

SCRIPT = Path(__file__).with_name("record_keeper.py")


def start(kind, place, number):
    return subprocess.Popen([sys.executable, str(SCRIPT), kind, str(place), str(number)], stdout=subprocess.PIPE)


def kill_before_every(number, tmp_path):
    child = start("steps", tmp_path, number)
    lives = [line.split() for line in child.communicate()[0].decode().splitlines()]
    assert child.returncode == 0
    assert len(lives) > 100 / number
    for step, _, last, in_order, rows in lives:
        assert in_order == "True", f"killed before step {step}"
        assert int(rows) // 2 - (int(last) + 1) in {0, 1}, f"killed before step {step}"
        assert int(rows) % 2 == 0
    assert not list((tmp_path / "t").glob("w*.spool"))[1:], "what is compacted goes, but for the last file"


def test_a_kill_before_a_step_loses_and_doubles_nothing(tmp_path):
    kill_before_every(5, tmp_path)


@long
def test_soak_a_kill_before_any_step_loses_and_doubles_nothing(tmp_path):
    kill_before_every(1, tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_writer_and_keeper_killed_at_any_time_lose_and_double_nothing(tmp_path, seed):
    dice, first, after, read = random.Random(seed), 0, {}, []
    for _ in range(3):
        children = [start("writer", tmp_path, first), start("keeper", tmp_path, dice.randrange(3, 60))]
        said = [child.stdout.readline() for child in children]
        assert all(said)
        until = time.monotonic() + dice.uniform(0.1, 0.6)
        while time.monotonic() < until:  # a reader that goes on while everything moves
            for place, row in SpoolRecords(tmp_path, "reader").scan("t", after=after):
                after[place.writer] = place.offset
                read.append(row)
        for child in dice.sample(children, 2):
            child.kill()
            time.sleep(dice.uniform(0, 0.05))
        numbers = [int(word) for word in (said[0] + children[0].stdout.read()).split()]
        for child in children:
            child.stdout.close()
            child.wait()
        rows = [row for _, row in SpoolRecords(tmp_path, "reader").scan("t")]
        assert [row[: row.rindex(b"-")].decode() for row in rows] == [f"{n // 2}-{n % 2}" for n in range(len(rows))]
        assert len(rows) // 2 - (numbers[-1] + 1) in {0, 1}
        first = len(rows) // 2
    read += [row for _, row in SpoolRecords(tmp_path, "reader").scan("t", after=after)]
    assert read == rows


@pytest.mark.parametrize("state", range(len(STATES)), ids=[state.replace(" ", "-") for state in STATES])
def test_whatever_is_killed_an_erasure_afterwards_leaves_no_byte_and_takes_no_other_row(tmp_path, state):
    child = start("erasures", tmp_path, state)
    lives = child.communicate()[0].decode().splitlines()
    assert child.returncode == 0
    assert len(lives) > 15
    assert [life for life in lives if not life.endswith(": right")] == []


def test_a_full_disk_costs_no_row(tmp_path):
    child = start("full", tmp_path, 2000)
    said = child.communicate()[0].decode().splitlines()[400:]
    assert child.returncode == 0
    assert said[0] == said[2] == "refused Unavailable"
    assert said[4] == "kept"
    assert said[1] == said[3] == said[5] == "rows 800 800 0"
