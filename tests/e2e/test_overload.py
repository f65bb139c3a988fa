"""More is asked than can be answered: refusals are quick and say so, and another model's callers notice nothing."""

import collections
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from tests.e2e.worker_house import ROOT, onnx_model

import trimtab as tt
from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import read_status, takes_connections
from trimtab.app.alone import register_model
from trimtab.app.home import Home
from trimtab.app.registering import register_handler
from trimtab.app.worker import MODULE, WorkerOptions, command
from trimtab.serving.record import PREDICTIONS, decode_record
from trimtab.serving.routing import Arm, Route, RouteTable

HANDLER = """
import os, time

def handle(data, context):
    while not os.path.exists({gate!r}):
        time.sleep(0.005)
    return [2 * one["body"]["x"] for one in data]
"""
QUEUE, CALLERS = 8, 32


@pytest.fixture
def gate(tmp_path):
    """The slow model answers once this file is there."""
    return tmp_path / "go"


@pytest.fixture
def port(tmp_path, gate):
    """A worker with a model that hangs and one that does not."""
    home = tmp_path / "home"
    (tmp_path / "slow.py").write_text(HANDLER.format(gate=str(gate)))
    gate.touch()  # registering asks it once
    task = tt.regression(target="y")
    slow = register_handler(home, tmp_path / "slow.py", name="slow", task=task, columns=["x"], call_s=60)
    quick = register_model(home, onnx_model(0.0), name="quick", task=task, columns=["x", "y"])
    gate.unlink()
    routes = {
        name: Route(name, (Arm("champion", version, 1.0),)) for name, version in (("slow", slow), ("quick", quick))
    }
    Home(home).online().close()
    write_routes(Home(home).route_file, RouteTable(1, routes))
    gate.touch()  # and loading tries it
    arguments = command(home, 1, WorkerOptions("127.0.0.1", 0, max_queue=QUEUE))
    process = subprocess.Popen([sys.executable, "-m", MODULE, *arguments], cwd=ROOT)
    try:
        yield listening(home / "run" / "worker-1.json", process, gate)
    finally:
        gate.touch()
        process.terminate()
        assert process.wait(30) == 0


def listening(file, process, gate):
    """The port, once both models are loaded; from then on the slow one hangs."""
    end = time.monotonic() + 30
    while not ((said := read_status(file)) and said.generation == 1 and takes_connections(said)):
        assert time.monotonic() < end, said
        assert process.poll() is None
        time.sleep(0.02)
    gate.unlink()
    return said.port


def post(port, model, body, **headers):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict/{model}", json.dumps(body).encode(), headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


def until_in_flight(port, count):
    end = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            found = re.findall(r"^trimtab_requests_in_flight(?:\{.*\})? (\d+)", answer.read().decode(), re.MULTILINE)
        if sum(map(int, found)) >= count:
            return
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_a_flood_is_refused_and_leaves_other_models_alone(port, gate, tmp_path):
    answers = []
    asked = [
        threading.Thread(target=lambda x=x: answers.append((x, *post(port, "slow", {"id": f"s{x}", "x": x}))))
        for x in range(CALLERS)
    ]
    for one in asked:
        one.start()
    end = time.monotonic() + 30
    # One batch is with the model, a queue of others waits; the rest is refused while the model still hangs.
    while len(answers) < CALLERS - QUEUE - 64 or not any(status == 429 for _, status, *_ in answers):
        assert time.monotonic() < end
        time.sleep(0.01)
    quick = [post(port, "quick", {"id": f"q{n}", "x": 1, "y": n})[0] for n in range(50)]
    assert quick == [200] * 50
    assert not any(status == 200 for _, status, *_ in answers)
    gate.touch()
    for one in asked:
        one.join(60)
    counted = collections.Counter(status for _, status, *_ in answers)
    assert counted[200] + counted[429] == CALLERS
    assert counted[200] >= QUEUE
    for x, status, body, headers in answers:
        if status == 200:
            assert body["prediction"] == 2 * x
        else:
            assert headers["Retry-After"] == "1"
            assert body["error"] == "too many requests are waiting"
    rows = [decode_record(row) for _, row in Home(tmp_path / "home").records("reader").scan(PREDICTIONS)]
    assert {row.request_id for row in rows if row.model == "slow"} == {
        f"s{x}" for x, status, *_ in answers if status == 200
    }


def test_who_will_not_wait_is_told_at_once(port, gate):
    gate.touch()
    for x in range(3):
        assert post(port, "slow", {"x": x})[0] == 200
    gate.unlink()
    waiting = [threading.Thread(target=post, args=(port, "slow", {"x": x})) for x in range(4)]
    for one in waiting:
        one.start()
    until_in_flight(port, 5)  # the first is with the model, the others wait; and who asks is one too
    status, body, _ = post(port, "slow", {"x": 9}, **{"X-Trimtab-Deadline-Ms": "1"})
    gate.touch()
    for one in waiting:
        one.join(60)
    assert (status, body["error"]) == (503, "the answer would come too late")
    status, body, _ = post(port, "slow", {"x": 9}, **{"X-Trimtab-Deadline-Ms": "soon"})
    assert (status, body["error"]) == (400, "X-Trimtab-Deadline-Ms is no number of milliseconds")
