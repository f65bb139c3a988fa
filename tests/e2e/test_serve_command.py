"""``trimtab serve``: a registered version from the shell, without a project."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest
from tests.e2e.worker_house import ROOT, onnx_model

import trimtab as tt
from trimtab.app.alone import register_model
from trimtab.app.home import Home
from trimtab.serving.record import PREDICTIONS, decode_record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_told_to_stop(tmp_path, number):
    home = tmp_path / ".trimtab"
    task = tt.regression(target="y")
    version = register_model(home, onnx_model(0.0), name="m", task=task, columns=["a", "b"])
    command = [sys.executable, "-m", "trimtab.cli.main", "serve", version, "-p", tmp_path, "--port", "0", "--json"]
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = ""
            while not told.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, "it ended"
                told += line
            said = json.loads(told)
            body = json.dumps({"id": "r1", "a": 1, "b": 2}).encode()
            with urllib.request.urlopen(f"{said['data_plane']}/predict/m", body, timeout=20) as answer:
                found = json.load(answer)
        finally:
            process.send_signal(number)
        assert process.wait(30) == 0
    assert (said["model"], said["version"]) == ("m", version)
    assert found["prediction"] == pytest.approx(0.50075, abs=1e-5)
    rows = [decode_record(row) for _, row in Home(home).records("reader").scan(PREDICTIONS)]
    assert [row.request_id for row in rows] == ["r1"]
