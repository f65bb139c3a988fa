"""``trimtab serve``: a registered version from the shell, without a project."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.live_house import cli, environment
from tests.e2e.worker_house import onnx_model

import trimtab as tt
from trimtab.app.alone import register_model, serve_model
from trimtab.app.home import Home
from trimtab.app.worker_settings import worker_options
from trimtab.errors import InputError
from trimtab.serving.record import PREDICTIONS, decode_record

SAID = pytest.approx(0.50075, abs=1e-5)


@pytest.fixture
def version(tmp_path):
    task = tt.regression(target="y")
    return register_model(tmp_path / ".trimtab", onnx_model(0.0), name="m", task=task, columns=["a", "b"])


def launch(folder, version, *options, **more):
    command = [sys.executable, "-m", "trimtab", "serve", version, "-p", folder, "--port", "0", "--json", *options]
    return subprocess.Popen(list(map(str, command)), env=environment(**more), stdout=subprocess.PIPE, text=True)


@contextmanager
def serving(folder, version, *options, number=signal.SIGTERM, **more) -> Iterator[dict[str, str]]:
    with launch(folder, version, *options, **more) as process:
        try:
            told = ""
            while not told.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, "it ended"
                told += line
            yield json.loads(told)
        finally:
            process.send_signal(number)
        assert process.wait(30) == 0


def ask(said, **fields):
    body = json.dumps(fields).encode()
    with urllib.request.urlopen(f"{said['data_plane']}/predict/m", body, timeout=20) as answer:
        return json.load(answer)


def workers_of(folder) -> list[int]:
    """Serving workers on a home below this folder, by their command lines."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "trimtab.app.worker" in line and str(folder) in line:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_told_to_stop(tmp_path, version, number):
    with serving(tmp_path, version, number=number) as said:
        found = ask(said, id="r1", a=1, b=2)
    assert (said["model"], said["version"]) == ("m", version)
    assert found["prediction"] == SAID
    rows = [decode_record(row) for _, row in Home(tmp_path / ".trimtab").records("reader").scan(PREDICTIONS)]
    assert [row.request_id for row in rows] == ["r1"]
    assert workers_of(tmp_path) == []


def test_it_obeys_the_settings_of_the_workers(tmp_path, version):
    more = {
        "TRIMTAB_MAX_BODY": "200",
        "TRIMTAB_ACCESS_LOG": str(tmp_path / "access.jsonl"),
        "TRIMTAB_RECORDS": "batched:5ms",
    }
    with serving(tmp_path, version, "--memory-budget", "1GB", **more) as said:
        assert ask(said, a=1, b=2)["prediction"] == SAID
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(said, id="x" * 300, a=1, b=2)
        refused.value.close()
        with urllib.request.urlopen(f"{said['data_plane']}/v2", timeout=20) as answer:
            server = json.load(answer)
        options = Path(f"/proc/{workers_of(tmp_path)[0]}/cmdline").read_text()
    assert refused.value.code == 413
    assert json.loads((tmp_path / "access.jsonl").read_text().splitlines()[0])["status"] == 200
    assert server["version"] == worker_options(port=0, grpc_port=-1, given={}).software
    assert '"memory_budget":1000000000' in options
    assert '"records":"batched:5ms"' in options


@pytest.mark.parametrize(("option", "variable"), [("httptools", ""), ("uvicorn", ""), (None, "uvicorn")])
def test_the_server_can_be_chosen(tmp_path, version, option, variable):
    chosen = ("--server", option) if option else ()
    with serving(tmp_path, version, *chosen, **({"TRIMTAB_SERVER": variable} if variable else {})) as said:
        assert ask(said, a=1, b=2)["prediction"] == SAID
        options = Path(f"/proc/{workers_of(tmp_path)[0]}/cmdline").read_text()
    assert f'"server":"{option or variable}"' in options


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        (
            ("--server", "apache"),
            {},
            "setting server (TRIMTAB_SERVER): there is no such choice. Got 'apache'. Hint: httptools or uvicorn.",
        ),
        ((), {"TRIMTAB_SERVER": ""}, "setting server (TRIMTAB_SERVER): there is no such choice"),
        ((), {"TRIMTAB_MAX_QUEUE": "many"}, "setting max_queue (TRIMTAB_MAX_QUEUE): it must be a whole number"),
        ((), {"TRIMTAB_ACCESS_LOG_SHARE": "2"}, "it must be a share"),
        ((), {"TRIMTAB_RECORDS": "now and then"}, "setting records (TRIMTAB_RECORDS)"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_in_one_line_and_starts_nothing(
    tmp_path, version, options, more, said
):
    done = cli("serve", version, "-p", tmp_path, "--port", "0", *options, **more)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert workers_of(tmp_path) == []


def test_from_python_settings_are_given_by_name(tmp_path, version):
    with serve_model(tmp_path / ".trimtab", version, port=0, settings={"server": "uvicorn", "max_body": 200}) as served:
        assert served.predict([{"a": 1, "b": 2}])[0] == SAID
        with pytest.raises(InputError, match="body"):
            served.predict([{"a": 1, "b": 2}] * 50)
    with pytest.raises(InputError, match="no such setting of a worker"):
        serve_model(tmp_path / ".trimtab", version, port=0, settings={"workers": 2})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_leaves_no_worker(tmp_path, version, number):
    """The signal goes to the command alone, as ``kill`` sends it, at the moment at which its worker is there."""
    with launch(tmp_path, version) as process:
        deadline = time.monotonic() + 20
        while not workers_of(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.002)
        assert workers_of(tmp_path)
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""
    assert workers_of(tmp_path) == []


def test_ctrl_c_in_python_leaves_no_worker(tmp_path, version):
    code = (
        f"from trimtab.app.alone import serve_model\nserve_model({str(tmp_path / '.trimtab')!r}, {version!r}, port=0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 20
        while not workers_of(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
        assert process.returncode != 0
    assert workers_of(tmp_path) == []


def test_it_is_asked_from_the_shell_without_a_project(tmp_path, version):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with serving(tmp_path, version) as said:
        asked = ("predict", "m", "-p", elsewhere, "--json", "--url", said["data_plane"])
        done = cli(*asked, "a=1", "b=2")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["outputs"] == [SAID]
        for odd, words in (("a=much", "not of its type"), ("c=1", "unknown field")):
            wrong = cli(*asked, "b=2", odd)
            assert (wrong.returncode, words in wrong.stdout) == (2, True), wrong.stdout
        unknown = cli("predict", "other", "-p", elsewhere, "--url", said["data_plane"])
        assert unknown.returncode != 0
        assert "it answers m" in unknown.stderr
    assert list(elsewhere.iterdir()) == []
    assert cli("predict", "m", "-p", elsewhere).stderr.count("no project file") == 1
    assert list(elsewhere.iterdir()) == []
