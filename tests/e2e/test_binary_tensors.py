"""Tensors as bytes through real workers on both servers: what they say, and that no head or length breaks them."""

import http.client

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.protocol_worker import SUMS, start

PATH = "/v2/models/sums/infer"
ROW = np.array([[1.5, np.nan, 40]], "<f4")
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module", params=["httptools", "uvicorn"])
def port(request, tmp_path_factory):
    process, status = start(tmp_path_factory.mktemp(request.param), server=request.param, max_rows=10)
    yield status.port
    process.terminate()
    assert process.wait(20) in (0, -15)


@pytest.fixture(scope="module")
def caller(port):
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    yield made
    made.close()


def tensor(data, **more):
    size = {"parameters": {"binary_data_size": data.nbytes}}
    return {"name": "features", "shape": list(data.shape), "datatype": "FP32"} | size | more


def ask(caller, body, **headers):
    caller.request("POST", PATH, body, {name.replace("_", "-"): str(value) for name, value in headers.items()})
    answer = caller.getresponse()
    return answer.status, answer.headers, answer.read()


def as_bytes(caller, data=ROW, **more):
    head = msgspec.json.encode({"inputs": [tensor(data)]} | more)
    return ask(caller, head + data.tobytes(), **{LENGTH: len(head)})


def test_bytes_say_what_json_says(caller):
    said = {"name": "features", "shape": [1, 3], "datatype": "FP32", "data": [1.5, None, 40]}
    status, _, body = ask(caller, msgspec.json.encode({"id": "r", "inputs": [said]}))
    assert status == 200
    for _ in range(2):
        assert as_bytes(caller, id="r")[2] == body
    for wish in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "probability", "parameters": {"binary_data": True}}]},
    ):
        for named in ({}, {"id": "r"}, {}):
            status, headers, found = as_bytes(caller, **named, **wish)
            assert (status, headers["content-type"]) == (200, "application/octet-stream")
            length = int(headers[LENGTH])
            head = msgspec.json.decode(found[:length])
            assert head["model_version"] == SUMS
            assert head.get("id") == named.get("id")
            (output,) = head["outputs"]
            assert output == {
                "name": "probability", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4},
            }  # fmt: skip
            expected = np.array(msgspec.json.decode(body)["outputs"][0]["data"], "<f4")
            assert found[length:] == expected.tobytes()


def test_one_row_and_many_are_the_same(caller):
    rows = np.arange(9, dtype="<f4").reshape(3, 3)
    wish = {"parameters": {"binary_data_output": True}}
    together = as_bytes(caller, rows, **wish)[2]
    alone = [as_bytes(caller, rows[place : place + 1], **wish)[2][-4:] for place in range(3)]
    assert together[-12:] == b"".join(alone)


def test_a_client_library_is_answered(port):
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    for request_id in ("", "r", ""):
        sent = triton.InferInput("features", [1, 3], "FP32")
        sent.set_data_from_numpy(ROW)
        result = client.infer("sums", [sent], request_id=request_id)
        assert result.as_numpy("probability").shape == (1, 1)
        assert result.get_response().get("id", "") == request_id
    client.close()


@pytest.mark.parametrize("value", ["-1", "x", "1" * 20, "9999"])
def test_a_head_length_that_cannot_be_is_refused(caller, value):
    status, _, body = ask(caller, b"{}" + ROW.tobytes(), **{LENGTH: value})
    assert status == 400
    assert "error" in msgspec.json.decode(body)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_sent_is_answered_or_refused(caller, data):
    rows = np.frombuffer(data.draw(st.binary(min_size=12, max_size=12)), "<f4").reshape(1, 3)
    head = msgspec.json.encode({"inputs": [tensor(rows)], "parameters": {"binary_data_output": True}})
    body, length = head + rows.tobytes(), len(head)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(body)))
        body = body[:at] + data.draw(st.binary(max_size=2)) + body[at + data.draw(st.integers(0, 2)) :]
    length += data.draw(st.integers(-3, 3) | st.just(0))
    status, headers, found = ask(caller, body, **{LENGTH: length})
    assert status in (200, 400, 413)
    if status == 200:
        front = int(headers[LENGTH]) if LENGTH in headers else len(found)
        (output,) = msgspec.json.decode(found[:front])["outputs"]
        assert len(found) - front == output.get("parameters", {}).get("binary_data_size", 0)
    else:
        assert msgspec.json.decode(found)["error"]
