"""``trimtab up`` from outside: real processes, real HTTP, the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tests.e2e.live_house import MODEL, VISIT, LiveHouse, cli, environment, listens, make_project, wait_until

from trimtab.adapters.wire.client import JsonClient
from trimtab.core.clock import SECOND, instant, iso
from trimtab.errors import InputError, Unavailable

HEAVY = {
    "pandas", "sklearn", "lightgbm", "mlflow", "pyarrow", "starlette", "scipy", "onnx", "skl2onnx", "onnxmltools",
    "grpc", "google.protobuf", "sqlite3", "trimtab.loop.engine", "trimtab.loop.decide", "trimtab.web", "trimtab.monitoring", "trimtab.cli",
}  # fmt: skip

pytest_plugins = ["tests.e2e.live_fixtures"]


def now():
    return time.time_ns() // 1000


def test_every_command_finds_a_home_elsewhere(live, tmp_path):
    live.home = (live.project / ".trimtab").rename(tmp_path / "elsewhere")
    live.start("--home", str(live.home))
    assert not (live.project / ".trimtab").exists()
    where = ("-p", live.project, "--home", live.home)
    asked = json.loads(cli("predict", MODEL, "shop=north", "basket=12.5", *where, "--json").stdout)
    sales = tmp_path / "sales.jsonl"
    row = {"visit": "elsewhere", "at": iso(now()), "shop": "north", "bought": True, "amount": 5.0}
    sales.write_text(json.dumps(row) + "\n")
    assert json.loads(cli("send", "sales", sales, *where, "--json").stdout)["accepted"] == 1
    # By the environment, and from where there is no project.
    said = cli("status", "-p", tmp_path, TRIMTAB_HOME=str(live.home)).stdout
    assert "control running" in said
    assert asked["version"][:12] in said
    live.stop()
    assert "control gone" in cli("status", "--home", live.home).stdout
    back = cli("rollback", MODEL, "--reason", "a test", *where, "--json")
    assert (back.returncode, json.loads(back.stdout)["accepted"]) == (1, False)
    assert "asked to roll back" in cli("log", "--home", live.home).stdout
    lost = cli("status", "-p", live.project)
    assert lost.returncode == 1
    assert "TRIMTAB_HOME" in lost.stderr
    assert not (live.project / ".trimtab").exists()


def test_events_predictions_and_questions_over_http_and_the_command_line(live):
    live.start()
    project = live.project
    with live.console() as console, JsonClient(live.data) as data:
        before = live.predict(data, "r1")
        assert before["status"] == "ok"
        assert 0 < before["prediction"] < 1
        for number in range(5):
            taken = live.post_sale(console, f"s{number}", at=now(), bought=True)
            assert (taken["accepted"], taken["repeated"]) == (1, 0)
        after = live.predict(data, "r2")
        assert after["prediction"] != before["prediction"]  # the events have reached the features
        status = console.get("/v1/status")
    [model] = status["models"]
    assert model["live"]["version"] == before["version"]
    assert model["live"]["approved_by"] == "policy"
    assert status["workers"][0]["state"] == "running"
    assert status["sources"][0]["watermark"]["seq"] == status["sources"][0]["rows"]

    asked = json.loads(cli("predict", MODEL, "shop=north", "basket=12.5", "-p", project, "--json").stdout)
    assert asked["version"] == before["version"]
    assert asked["prediction_id"] in {row.prediction_id for row in live.records()}
    shown = cli("status", "-p", project)
    assert "control running" in shown.stdout
    assert before["version"][:12] in shown.stdout
    judged = json.loads(cli("gate", MODEL, before["version"][:12], "-p", project, "--json").stdout)
    assert judged["passed"]
    assert judged["checks"][0]["name"] == "roc_auc"
    told = json.loads(cli("log", "-p", project, "--at", iso(now()), "--verify", "--json").stdout)
    assert told["verified"] == status["ledger"]["events"]
    assert told["live"][0]["version"] == before["version"]
    refused = cli("rollback", MODEL, "-p", project, "--reason", "a try", "--actor", "operator:ada")
    assert refused.returncode == 1
    assert "ada asked to roll back, which cannot be done" in refused.stdout
    live.stop()
    assert live.controls[0].returncode == 0
    assert live.pids() == []


def test_single_steps_work_without_a_control_process(live):
    first = json.loads(cli("status", "-p", live.project, "--json").stdout)
    assert first["control"]["state"] == "gone"
    assert first["models"][0]["live"]
    version = first["models"][0]["live"]["version"]
    done = cli("deploy", MODEL, version, "-p", live.project, "--reason", "again", "--force")
    assert (done.returncode, "the champion already" in done.stdout) == (1, True)
    again = json.loads(
        cli("train", MODEL, "-p", live.project, "--json", "--cutoff", iso(now() - 86_400 * SECOND)).stdout
    )
    assert again["version"] != version
    epochs = [event.data["epoch"] for event in live.events() if event.type == "EpochTaken"]
    assert epochs == sorted(set(epochs))
    assert len(epochs) == 3  # the first training, the deployment, the second training
    asked = cli("predict", MODEL, "shop=north", "basket=1", "-p", live.project)
    assert asked.returncode == 1
    assert "no serving worker runs" in asked.stderr


def test_a_second_version_goes_from_shadow_to_canary_when_it_is_forced(live):
    live.start()
    with live.console() as console, JsonClient(live.data) as data:
        champion = live.predict(data, "r0")["version"]
        trained = json.loads(cli("train", MODEL, "-p", live.project, "--json").stdout)
        assert trained["version"] != champion
        wait_until(lambda: len(console.get("/v1/status")["models"][0]["versions"]) == 2, what="registration")
        answer = console.post(
            f"/v1/models/{MODEL}/force", {"version": trained["version"][:10], "reason": "a test", "actor": "ada"}
        )
        assert answer["accepted"], answer
        versions = set()

        def both():
            versions.add(live.predict(data, f"c{time.monotonic_ns()}")["version"])
            return len(versions) == 2

        wait_until(both, within=5, what="a canary's answer")
        back = console.post(f"/v1/models/{MODEL}/rollback", {"reason": "enough", "actor": "ada"})
        assert back["accepted"], back
        wait_until(lambda: next(live.statuses()).versions == (champion,), within=5, what="the way back")
        same = {"reason": "enough", "actor": "ada", "id": "one-request"}
        first = console.post(f"/v1/models/{MODEL}/rollback", same)
        assert console.post(f"/v1/models/{MODEL}/rollback", same)["event"] == first["event"]  # asked once
    wait_until(
        lambda: {row.arm for row in live.records()} >= {"champion", "canary", "shadow"}, what="records of every arm"
    )
    forced = next(event for event in live.events() if event.type == "Forced")
    assert forced.draft.actor == "operator:ada"


def test_a_first_start_trains_and_serves_by_itself(tmp_path):
    house = LiveHouse(make_project(tmp_path / "clicks", until=now(), days=5))
    try:
        house.launch()
        wait_until(lambda: (house.home / "route.json").exists() and house.answers(), within=60, what=house_log(house))
        assert "token: " in house.log
        token = house.log.split("token: ")[1].split()[0]
        with JsonClient(house.facts["console"], token=token) as console, JsonClient(house.data) as data:
            assert console.get("/v1/status")["models"][0]["live"]
            assert house.predict(data, "r1")["status"] == "ok"
            kept = (path for path in (house.home / "run").rglob("*") if path.is_file())
            assert token not in "".join(path.read_text(errors="replace") for path in kept)
        house.stop()
        shutil.move(house.project / "up.log", house.project / "first.log")
        house.start()
        wait_until(lambda: "token: " in house.log, what="the facts")
        assert token not in house.log  # it is said once
        assert "start `trimtab up --new-token`" in house.log
        assert f"status_page: {house.facts['console']}/" in house.log
        with JsonClient(house.facts["console"], token=token) as console:
            assert console.get("/v1/status")["project"] == "clicks"
    finally:
        house.kill()


def test_a_new_token_ends_the_one_before(live):
    live.start("--new-token", "--json")
    wait_until(lambda: "status_page" in live.log, what="the facts")
    first = json.loads(live.log[live.log.index("{\n") : live.log.index("\n}") + 2])
    live.stop()
    (live.project / "up.log").unlink()
    live.start("--new-token")
    wait_until(lambda: "status_page: " in live.log, what="the facts")
    token = live.log.split("token: ")[1].split()[0]
    assert f"status_page: {live.facts['console']}/?token={token}\n" in live.log
    old = JsonClient(live.facts["console"], token=first["token"])
    with old, pytest.raises(InputError, match="a valid token is needed"):
        old.get("/v1/status")
    with JsonClient(live.facts["console"], token=token) as console:
        assert console.get("/v1/status")["project"] == "clicks"
    refused = live.launch("--new-token", TRIMTAB_TOKEN="mine")
    assert refused.wait(20) == 2
    assert "the token is that of TRIMTAB_TOKEN" in live.log


def house_log(house):
    path = house.project / "up.log"
    return f"the first version\n{path.read_text() if path.exists() else ''}"


def test_a_changed_history_is_refused_and_workers_go_on(live):
    live.start()
    [worker] = live.pids()
    live.controls[0].kill()
    live.controls[0].wait()
    make_project(live.project.parent / "other", until=now() + 60 * SECOND, days=8)
    shutil.copy(live.project.parent / "other" / "data" / "sales.parquet", live.project / "data" / "sales.parquet")
    process = live.launch()
    assert process.wait(30) == 2
    assert "the history of 'sales' is not what it was" in live.log
    assert live.pids() == [worker]
    with JsonClient(live.data) as data:
        assert live.predict(data, "r1")["status"] == "ok"


def test_a_driven_clock_ticks_at_the_hours_that_it_leaves_behind(tmp_path):
    start = instant("2024-03-10")
    house = LiveHouse(make_project(tmp_path / "clicks", until=start + 86_400 * SECOND, days=8))
    try:
        house.start("--clock", "2024-03-10T00:30")
        rows = next(event.data["rows"] for event in house.events() if event.type == "HistoryRead")
        with house.console() as console, JsonClient(house.data) as data:
            assert console.get("/v1/status")["now"] == "2024-03-10T00:30:00Z"
            house.predict(data, "r1")
            assert console.post("/v1/clock", {"now": "2024-03-10T03:00:00Z"})["ticks"] == 2
            assert console.post("/v1/clock", {"now": "2024-03-10T03:00:01Z"})["ticks"] == 1
            with pytest.raises(InputError, match="backwards"):
                console.post("/v1/clock", {"now": "2024-03-10T03:00:00Z"})
            house.predict(data, "r2")
            # What the file knows past the clock has yet to happen: it may come over HTTP.
            taken = house.post_sale(console, "s1", at=start + 3 * 3600 * SECOND)
            assert taken["rows_of_source"] == rows + 1
        asked = {row.request_id: row.asked_at for row in house.records() if row.arm != "shadow"}
        assert asked == {"r1": instant("2024-03-10T00:30"), "r2": instant("2024-03-10T03:00:01")}
    finally:
        house.kill()


def test_the_real_clock_cannot_be_moved(live):
    live.start()
    with live.console() as console, pytest.raises(InputError, match="the clock is the real one"):
        console.post("/v1/clock", {"now": "2030-01-01"})


def test_the_worker_is_light_soon_there_and_imports_nothing_it_does_not_need(live):
    """As composed by the app: a windowed model with an on-request module, answering."""
    live.start()
    live.stop()
    options = json.dumps({"host": "127.0.0.1", "port": 0})
    command = [sys.executable, "-X", "importtime", "-m", "trimtab.app.worker", str(live.home), "1", options]
    seconds, mebibytes, imported = [], [], set()
    for _ in range(3):
        with (live.project / "imports.txt").open("w") as log:
            began = time.monotonic()
            process = subprocess.Popen(command, stderr=log, env=environment())
            try:
                wait_until(lambda process=process: process.pid in live.pids() and live.serves(), what="an answer")
                with JsonClient(live.data) as data:
                    assert live.predict(data, f"r{began}")["status"] == "ok"
                    spent = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                    seconds.append((int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK"))  # of the processor
                    for number in range(200):
                        live.predict(data, f"r{began}-{number}")
                status = Path(f"/proc/{process.pid}/status").read_text()
                mebibytes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
        lines = (live.project / "imports.txt").read_text().splitlines()
        imported |= {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert min(seconds) < 1.5, seconds
    assert max(mebibytes) < 150, mebibytes
    assert "lmdb" in imported
    assert not {name for name in imported if name in HEAVY or name.partition(".")[0] in HEAVY}


def test_a_worker_without_any_store_starts_and_says_why_it_is_not_ready(tmp_path):
    (tmp_path / "run").mkdir()
    options = json.dumps({"host": "127.0.0.1", "port": 0})
    process = subprocess.Popen(
        [sys.executable, "-m", "trimtab.app.worker", str(tmp_path), "1", options], env=environment()
    )
    try:
        status = tmp_path / "run" / "worker-1.json"
        said = wait_until(lambda: status.exists() and msgspec.json.decode(status.read_bytes()), what="a status")
        wait_until(lambda: listens(said["port"]), what="a listening socket")
        with JsonClient(f"http://127.0.0.1:{said['port']}") as data:
            with pytest.raises(Unavailable):
                data.get("/v2/health/ready")
            with pytest.raises(Unavailable, match="no version is live yet"):
                data.post(f"/predict/{MODEL}", VISIT)
    finally:
        process.terminate()
        process.wait(20)


def test_two_workers_share_the_port_and_a_lost_one_comes_back(live):
    live.start("--workers", "2")
    pids = wait_until(lambda: len(live.pids()) == 2 and live.pids(), what="two workers")
    assert len({status.port for status in live.statuses()}) == 1
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: len(live.pids()) == 2 and pids[0] not in live.pids(), what="a new worker")
    assert pids[1] in live.pids()
    live.stop()
    live.start("--workers", "1")
    assert len(live.pids()) == 1


def test_events_are_sent_from_a_file_and_from_standard_input(live):
    refused = cli("send", "sales", live.project / "data" / "sales.parquet", "-p", live.project)
    assert refused.returncode == 1
    assert "no control process runs" in refused.stderr
    live.start()
    history = json.loads(
        cli("send", "sales", live.project / "data" / "sales.parquet", "-p", live.project, "--json").stdout
    )
    assert history["repeated"] == history["sent"] > 1000  # the history is known already
    row = {"visit": "n1", "at": iso(now()), "shop": "north", "bought": True, "amount": 5.0}
    file = live.project / "more.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"visit": "n2", "amount": -3}) + "\n")
    done = cli("send", "sales", file, "-p", live.project)
    assert done.returncode == 1, done.stderr
    assert "2 rows sent, 1 accepted, 0 repeated, 1 quarantined" in done.stdout
    assert "row 2: amount" in done.stdout
    command = [sys.executable, "-m", "trimtab.cli.main", "send", "sales", "-", "-p", str(live.project)]
    piped = subprocess.run(
        command, input=json.dumps(row), capture_output=True, text=True, env=environment(), timeout=60, check=False
    )
    assert (piped.returncode, "0 accepted, 1 repeated" in piped.stdout) == (0, True), piped.stderr
    unknown = cli("send", "nothing", file, "-p", live.project)
    assert (unknown.returncode, "no such source" in unknown.stderr) == (2, True)
