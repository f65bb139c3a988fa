"""A model whose answer is no number: every protocol says so, and it counts as a failure over all workers."""

import grpc
import msgspec
import numpy as np
import pytest
import tritonclient.grpc.service_pb2 as published
from tests.e2e.metered_house import scrape, total
from tests.e2e.protocol_worker import start
from tests.e2e.worker_house import call

from trimtab.adapters.wire.grpc_messages import SERVICE

BAD = "error:not_finite"
MODEL = "root"


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    home = tmp_path_factory.mktemp("root")
    more = {"metrics_folder": str(home / "run" / "metrics"), "grpc_port": 0}
    first, status = start(home, 1, **more)
    second, other = start(home, 2, **more)
    yield [status, other]
    for process in (first, second):
        process.terminate()
        assert process.wait(20) in (0, -15)


@pytest.fixture
def port(workers):
    return workers[0].port


def v2(port, values, **more):
    tensor = {"name": "features", "shape": [len(values), 1], "datatype": "FP32", "data": values}
    status, _, found = call(port, "POST", f"/v2/models/{MODEL}/infer", msgspec.json.encode({"inputs": [tensor]} | more))
    assert status == 200
    return found


def as_bytes(port, value):
    data = np.array([value], "<f4").tobytes()
    tensor = {"name": "features", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    length = f"Inference-Header-Content-Length: {len(head)}"
    status, headers, body = call(port, "POST", f"/v2/models/{MODEL}/infer", head + data, length)
    assert status == 200
    return msgspec.json.decode(body[: int(headers["inference-header-content-length"])])


def by_grpc(status, values):
    asked = published.ModelInferRequest(model_name=MODEL)
    contents = asked.inputs.add(name="features", datatype="FP32", shape=[len(values), 1]).contents
    contents.fp32_contents.extend(values)
    with grpc.insecure_channel(f"127.0.0.1:{status.grpc_port}") as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", response_deserializer=published.ModelInferResponse.FromString
        )
        return ask(asked.SerializeToString(), timeout=20)


def test_every_answer_of_the_protocol_carries_its_status(workers, port):
    assert v2(port, [-1.0])["parameters"] == {"status": BAD}
    assert v2(port, [-1.0])["outputs"][0]["data"] == [None]
    assert v2(port, [-1.0, -4.0], id="r")["parameters"] == {"status": BAD}
    assert v2(port, [4.0, -1.0])["parameters"] == {"status": f"ok;{BAD}"}
    assert as_bytes(port, -1.0)["parameters"] == {"status": BAD}
    for good in (v2(port, [4.0]), v2(port, [4.0, 9.0]), as_bytes(port, 4.0)):
        assert "parameters" not in good
    assert by_grpc(workers[0], [-1.0]).parameters["status"].string_param == BAD
    assert by_grpc(workers[0], [4.0, -1.0]).parameters["status"].string_param == f"ok;{BAD}"
    assert not by_grpc(workers[0], [4.0]).parameters


def test_it_is_a_failure_in_what_all_workers_count_and_the_alert_sees_it(workers, port):
    def counts():
        found = scrape(port)
        labels = {"model": MODEL, "arm": "champion"}
        return np.array(
            [
                total(found, "trimtab_predictions_total", **labels),
                total(found, "trimtab_prediction_failures_total", **labels),
                total(found, "trimtab_prediction_failures_by_kind_total", kind="not_finite", **labels),
            ]
        )

    before = counts()
    for status in workers:
        for value in (4.0, -1.0):
            body = msgspec.json.encode({"a": value})
            code, _, found = call(status.port, "POST", f"/predict/{MODEL}", body)
            assert (code, found["status"]) == (200, "ok" if value > 0 else BAD)
        v2(status.port, [1.0, -1.0, -1.0])
    answered, failed, by_kind = counts() - before
    assert (answered, failed, by_kind) == (4, 6, 6)
    assert failed / (answered + failed) > 0.001  # as TrimtabModelFails in docs/alerts.yml reckons
