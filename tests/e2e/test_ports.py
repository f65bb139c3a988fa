"""Two instances never share a port, and what one of them leaves behind goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.e2e.live_house import MODEL, VISIT, cli, environment, wait_until
from tests.e2e.worker_house import onnx_model

import trimtab as tt
from trimtab.adapters.compute.supervisor import read_post
from trimtab.adapters.wire.client import JsonClient
from trimtab.adapters.wire.listening import reserved_socket
from trimtab.app.alone import register_model, serve_model
from trimtab.errors import InputError, Unavailable

pytest_plugins = ["tests.e2e.live_fixtures"]


def registered(home, name="m", bias=0.0):
    return register_model(home, onnx_model(bias), name=name, task=tt.regression(target="y"), columns=["a", "b"])


@pytest.fixture
def port():
    with reserved_socket("127.0.0.1", 0) as free:
        return int(free.getsockname()[1])


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def test_two_homes_are_not_served_on_one_port(tmp_path, port):
    one, two = registered(tmp_path / "one"), registered(tmp_path / "two", "other")
    with serve_model(tmp_path / "one", one, port=port) as served:
        with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{port}"):
            serve_model(tmp_path / "two", two, port=port)
        done = cli("serve", two, "--home", tmp_path / "two", "--port", str(port))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "another program has it" in done.stderr
        assert not (tmp_path / "two" / "route.json").exists()
        for _ in range(20):
            assert len(served.predict([{"a": 1, "b": 2}])) == 1
    with serve_model(tmp_path / "two", two, port=port):  # its connections are in TIME_WAIT
        pass


def test_a_port_of_another_program_is_named_with_the_reason(tmp_path):
    version = registered(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(Unavailable, match="Address already in use") as refused:
            serve_model(tmp_path, version, port=taken)
        assert "--port" in refused.value.hint
        with pytest.raises(Unavailable, match="--grpc-port"):
            serve_model(tmp_path, version, port=0, grpc_port=taken)


def test_a_second_one_of_a_home_is_told_the_process(tmp_path):
    version = registered(tmp_path)
    with serve_model(tmp_path, version, port=0) as served, pytest.raises(Unavailable) as refused:
        serve_model(tmp_path, version, port=0)
    assert f"process {served.process.pid} " in refused.value.got
    assert f"kill {served.process.pid}" in refused.value.hint


def test_a_worker_ends_with_the_one_that_started_it(tmp_path):
    version = registered(tmp_path)
    command = [sys.executable, "-m", "trimtab", "serve", version, "--home", str(tmp_path), "--port", "0", "--json"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        told = ""
        while not told.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line
            told += line
        process.kill()
    pid = json.loads(told)["pid"]
    with serve_model(tmp_path, version, port=0) as served:  # the one before is waited for
        assert gone(pid)
        assert len(served.predict([{"a": 1, "b": 2}])) == 1


def test_a_worker_whose_parent_dies_while_it_starts_ends_too(tmp_path):
    version = registered(tmp_path)
    command = [sys.executable, "-m", "trimtab", "serve", version, "--home", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) as process:
        post = wait_until(lambda: (found := read_post(tmp_path / "run", "worker-1")).held and found, what="the worker")
        process.kill()
    wait_until(lambda: not post.held, what="the end of the worker")


@pytest.mark.parametrize("delay", [0.2, 0.5, 0.8, 1.1, 1.5, 2.0])
def test_sigterm_at_any_moment_of_the_start_leaves_nothing(tmp_path, delay):
    version = registered(tmp_path)
    command = [sys.executable, "-m", "trimtab", "serve", version, "--home", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGTERM)  # the latter before it has begun
    assert not read_post(tmp_path / "run", "worker-1").held


def test_a_home_of_a_project_is_not_served_past_its_ledger(live):
    version = registered(live.home, MODEL)
    before = {path: path.read_bytes() for path in live.home.glob("route.json")}
    with pytest.raises(InputError, match="trimtab deploy"):
        serve_model(live.home, version, port=0)
    done = cli("serve", version, "-p", live.project, "--port", "0")
    assert (done.returncode, "--home" in done.stderr) == (2, True), done.stderr
    assert {path: path.read_bytes() for path in live.home.glob("route.json")} == before


def test_records_of_a_version_without_a_profile_do_not_stop_the_control_process(live):
    ledger, aside = live.home / "ledger.db", live.home / "aside.db"
    version = registered(live.home, MODEL)
    ledger.rename(aside)  # as a release did that served past it
    with serve_model(live.home, version, port=0) as served:
        served.predict([{"a": 1, "b": 2}])
    aside.rename(ledger)
    for _ in range(2):
        live.start("--workers", "1")
        with JsonClient(live.data) as data:
            assert data.post(f"/predict/{MODEL}", VISIT)["version"] != version
        live.stop()


def test_two_platforms_do_not_share_the_port_and_its_own_workers_are_adopted(live, port, tmp_path):
    live.start("--port", str(port), "--workers", "2")
    before = live.loaded(2)
    other = tmp_path / "other"
    with serve_model(other, registered(other), port=0):
        pass
    with pytest.raises(Unavailable, match="cannot listen"):
        serve_model(other, registered(other), port=port)
    live.controls[-1].kill()
    live.controls[-1].wait(10)
    with pytest.raises(Unavailable, match="cannot listen"):
        serve_model(other, registered(other), port=port)
    live.start("--port", str(port), "--workers", "2")
    assert sorted(live.loaded(2)) == sorted(before)
    os.kill(before[0], signal.SIGKILL)  # one comes in its place, on the same port
    wait_until(lambda: len(set(live.pids()) - {before[0]}) == 2, what="the new worker")
    done = cli("restart-workers", "--project", live.project)
    assert done.returncode == 0, done.stderr
    live.stop()
    live.start("--port", str(port), "--workers", "1")  # its connections are in TIME_WAIT
    live.stop()


def test_a_platform_does_not_start_on_the_port_of_another(live, port, tmp_path):
    with serve_model(tmp_path / "other", registered(tmp_path / "other"), port=port) as served:
        before = live.events()
        up = live.launch("--port", str(port))
        assert up.wait(60) == 1
        assert live.events() == before  # no epoch was taken
        assert f"cannot listen on 127.0.0.1:{port}" in live.log
        assert not any(read_post(live.home / "run", path.stem).held for path in live.home.glob("run/worker-*.pid"))
        assert len(served.predict([{"a": 1, "b": 2}])) == 1
