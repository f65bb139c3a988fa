"""Handlers behind a real worker, under load and under the knife; and more models than fit in memory."""

import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.worker_house import call

import trimtab as tt
from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import read_status
from trimtab.app.alone import register_model, serve_model
from trimtab.app.home import Home
from trimtab.app.registering import register_handler
from trimtab.app.worker import MODULE, WorkerOptions, command
from trimtab.serving.record import PREDICTIONS, decode_record
from trimtab.serving.routing import Arm, Route, RouteTable

HANDLER = """
import time

def handle(data, context):
    rows = [one["body"]["x"] for one in data]
    if any(x < 0 for x in rows):
        raise ArithmeticError("below zero")
    time.sleep(0.002)
    return [2 * x for x in rows]
"""


def children(pid):
    """Child processes of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def until(holds, within=10.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def served(tmp_path):
    (tmp_path / "h.py").write_text(HANDLER)
    version = register_handler(
        tmp_path / "home", tmp_path / "h.py", name="m", task=tt.regression(target="y"), columns=["x"], call_s=3
    )
    with serve_model(tmp_path / "home", version, port=0) as one:
        yield one


def post(url, x):
    """Status and body of one request."""
    request = urllib.request.Request(f"{url}/predict/m", json.dumps({"x": x}).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_child_that_is_killed_again_and_again_under_load(served):
    """Every request is answered; a good answer is right; between two deaths there are good answers."""
    seen, longest, done = collections.Counter(), [0.0], threading.Event()

    def caller(seed):
        generator = np.random.default_rng(seed)
        while not done.is_set():
            x, begin = float(generator.integers(0, 1000)), time.monotonic()
            status, answer = post(served.url, x)
            longest[0] = max(longest[0], time.monotonic() - begin)
            seen[status] += 1
            if status == 200 and answer["prediction"] != 2 * x:
                seen["wrong"] += 1

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(4)]
    for one in callers:
        one.start()
    back = []
    for _ in range(4):
        time.sleep(0.3)
        (child,) = until(lambda: children(served.process.pid))
        os.kill(child, signal.SIGKILL)
        begin = time.monotonic()
        until(lambda: post(served.url, 1.0)[0] == 200)
        back.append(time.monotonic() - begin)
    done.set()
    for one in callers:
        one.join(20)
        assert not one.is_alive(), "a request hangs"
    assert set(seen) <= {200, 500, 503}
    assert seen[200] > 100
    assert max(back) < 5
    assert longest[0] < 5
    assert served.process.poll() is None


def test_an_error_is_answered_and_recorded_by_its_name(served):
    status, body = post(served.url, -1)
    assert (status, body["got"]) == (500, "ArithmeticError")
    assert post(served.url, 1)[0] == 200
    store = Home(served.home).records("reader")
    assert [decode_record(row).status for _, row in store.scan(PREDICTIONS)] == ["error:ArithmeticError", "ok"]


def test_the_child_does_not_outlive_its_worker(served):
    (child,) = children(served.process.pid)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    until(lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text())


def dense_model(bias):
    """A file of 2.4 MB: two columns through hidden zeros, and a bias."""
    from onnx import TensorProto, helper, numpy_helper

    shapes = {"a": (2, 775), "b": (775, 775), "c": (775, 1)}
    weights = [(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()]
    weights.append(("d", np.array([bias], np.float32)))
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["h", "b"], ["i"]),
        helper.make_node("Gemm", ["i", "c", "d"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("x", 2), ("y", 1)))
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(one, name) for name, one in weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def memory(pid):
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_fifty_models_with_room_for_ten(tmp_path):
    """All of them answer, each its own answer, also while others are loaded; memory stays bounded."""
    home = Home(tmp_path / "home").made()
    home.online().close()
    routes, size = {}, len(dense_model(0.0))
    for number in range(50):
        name = f"m{number}"
        version = register_model(
            home.root, dense_model(number / 10), name=name, task=tt.regression(target="y"), columns=["a", "b"]
        )
        routes[name] = Route(name, (Arm("champion", version, 1.0),))
    write_routes(home.route_file, RouteTable(1, routes))
    options = WorkerOptions("127.0.0.1", 0, memory_budget=10 * 2 * size)
    process = subprocess.Popen([sys.executable, "-m", MODULE, *command(home.root, 1, options)])
    try:
        status = until(lambda: (said := read_status(home.run / "worker-1.json")) and said.pid == process.pid and said)
        assert (status.problem, len(status.versions)) == ("", 50)
        before = 90_000_000  # a worker without models has 65 to 75 MB
        for number in [*range(50), *np.random.default_rng(0).integers(0, 50, 100).tolist()]:
            code, _, body = call(status.port, "POST", f"/predict/m{number}", b'{"a": 0, "b": 0}')
            assert code == 200
            assert body["prediction"] == pytest.approx(number / 10, abs=1e-6)
        assert memory(process.pid) < before + 2 * 10 * size + 40_000_000
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


BREAKABLE = """
import os

class Handler:
    def initialize(self, context):
        if os.path.exists(FLAG):
            raise RuntimeError("not now")

    def handle(self, data, context):
        return [1.0 for _ in data]
"""


def test_a_model_without_a_process_is_not_ready_and_its_worker_is(tmp_path):
    flag = tmp_path / "flag"
    (tmp_path / "h.py").write_text(BREAKABLE.replace("FLAG", repr(str(flag))))
    home = tmp_path / "home"
    version = register_handler(home, tmp_path / "h.py", name="m", task=tt.regression(target="y"), columns=["x"])
    with serve_model(home, version, port=0) as one:
        port = int(one.url.rpartition(":")[2])

        def ready(path="/v2/models/m/ready"):
            status, _, body = call(port, "GET", path)
            return status, body

        assert ready() == (200, {"name": "m", "ready": True})
        flag.touch()
        (child,) = children(one.process.pid)
        os.kill(child, signal.SIGKILL)
        until(lambda: "not now" in ready()[1].get("reason", ""))
        assert ready()[0] == 503
        assert ready(f"/v2/models/m/versions/{version}/ready")[0] == 503
        assert ready("/v2/health/ready")[0] == 200
        flag.unlink()
        until(lambda: ready() == (200, {"name": "m", "ready": True}))
