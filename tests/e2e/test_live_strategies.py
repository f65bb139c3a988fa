"""The kill switch of a live platform: with its control process, without, and with one that hangs."""

import json
import os
import signal
import time

import pytest
from tests.e2e.live_house import MODEL, cli, wait_until

from trimtab.adapters.wire.client import JsonClient

pytest_plugins = ["tests.e2e.live_fixtures"]


def killed(live):
    done = cli("kill", MODEL, "--to", "constant", "--value", "0.2", "--reason", "incident", "--actor", "ann",
               "-p", live.project, "--json")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def recorded(live):
    return [event for event in live.events() if event.type == "Killed"]


def answer(live):
    with JsonClient(live.data) as data:
        return live.predict(data, "r")


def test_a_dead_control_process_does_not_keep_the_switch_from_being_thrown(live):
    live.start("--workers", "2")
    live.controls[0].kill()
    live.controls[0].wait()
    result = killed(live)
    assert (result["workers"], result["obeying"]) == (2, 2)
    assert result["effective_ms"] < 1000
    assert answer(live)["arm"] == "constant"
    [event] = recorded(live)
    assert (event.draft.actor, event.data["reason"]) == ("operator:ann", "incident")
    live.start("--workers", "2")
    assert answer(live)["arm"] == "constant"
    assert cli("revive", MODEL, "--reason", "over", "-p", live.project).returncode == 0
    wait_until(lambda: answer(live)["arm"] == "champion", what="the revival")


def test_a_hanging_control_process_records_the_switch_when_it_wakes(live):
    control = live.start()
    os.kill(control.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        result = killed(live)
        assert time.monotonic() - began < 15
        assert "will be in the ledger" in result["sentence"]
        assert answer(live)["arm"] == "constant"
        assert recorded(live) == []
    finally:
        os.kill(control.pid, signal.SIGCONT)
    event = wait_until(lambda: next(iter(recorded(live)), None), what="the record")
    assert event.draft.actor == "operator:ann"
    wait_until(lambda: not list((live.home / "run").glob("kill-*.json")), what="the end of the order")
    assert answer(live)["arm"] == "constant"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--to", "constant"),
        ("--to", "constant", "--value", "7"),
        ("--to", "previous", "--value", "1"),
        ("--to", "previous"),
    ],
)
def test_what_cannot_be_thrown_changes_nothing(live, arguments):
    live.start()
    done = cli("kill", MODEL, *arguments, "--reason", "incident", "-p", live.project)
    assert done.returncode == 2
    assert answer(live)["arm"] == "champion"
    assert recorded(live) == []


def test_a_test_by_what_no_request_has_is_refused(live):
    live.start()
    arms = ("--arms", "a=1:0.5,b=1:0.5", "--unit", "shopp")
    done = cli("deploy", MODEL, "--strategy", "ab", *arms, "--reason", "which", "-p", live.project)
    assert done.returncode == 2
    assert "no request has this unit" in done.stderr


def test_a_version_that_there_is_none_of_is_not_deployed(live):
    before = [event for event in live.events() if event.type != "EpochTaken"]
    for arguments in (("9",), ("9", "--strategy", "blue-green"), ("--strategy", "ab", "--arms", "a=1:0.5,b=9:0.5")):
        done = cli("deploy", MODEL, *arguments, "--reason", "mistyped", "-p", live.project)
        assert done.returncode == 2, done.stdout
        assert "no version has that number. Got '9'" in done.stderr
        assert "there are 1 (" in done.stderr
    assert [event for event in live.events() if event.type != "EpochTaken"] == before


def test_green_without_workers_is_loaded_here_first(live):
    assert cli("train", MODEL, "-p", live.project).returncode == 0
    versions = [event.data["version"] for event in live.events() if event.type == "VersionRegistered"]
    assert cli("rollback", MODEL, "--reason", "by hand", "-p", live.project).returncode == 0
    blob = live.home / "blobs" / versions[1][:2] / versions[1][2:]
    blob.rename(blob.with_suffix(".gone"))
    done = cli("deploy", MODEL, "2", "--strategy", "blue-green", "--reason", "try", "-p", live.project)
    assert (done.returncode, "cannot be loaded" in done.stdout) == (1, True), done.stdout + done.stderr
    blob.with_suffix(".gone").rename(blob)
    done = cli("deploy", MODEL, "2", "--strategy", "blue-green", "--reason", "try", "-p", live.project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no worker runs, each loads it when it starts" in done.stdout


def test_green_that_no_worker_can_load_is_given_up(live):
    live.start()
    assert cli("train", MODEL, "-p", live.project).returncode == 0
    second = next(event.data["version"] for event in reversed(live.events()) if event.type == "VersionRegistered")
    assert cli("rollback", MODEL, "--reason", "by hand", "-p", live.project).returncode == 0
    blob = live.home / "blobs" / second[:2] / second[2:]
    wait_until(lambda: second not in next(live.statuses()).versions, what="the shadow's end")
    blob.rename(blob.with_suffix(".gone"))
    done = cli("deploy", MODEL, "2", "--strategy", "blue-green", "--reason", "try", "-p", live.project)
    assert done.returncode == 1
    assert "cannot be loaded" in done.stdout
    assert answer(live)["arm"] == "champion"
