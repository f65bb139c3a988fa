"""The client libraries of another server, unchanged, against real workers over real sockets."""

import threading

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tests.e2e.protocol_worker import SHAPES_1, SHAPES_2, start
from tritonclient.utils import InferenceServerException

X = np.array([[1, 2, 3], [9, 5, 4]], np.float32)
COUNT = np.array([[1], [2]], np.int64)
FLAG = np.array([False, True])
SCORES = X * 2 + COUNT + FLAG[:, None] * 10
LABEL = np.array([2, 0])


@pytest.fixture(scope="module")
def status(tmp_path_factory):
    process, found = start(tmp_path_factory.mktemp("triton"), grpc_port=0)
    yield found
    process.terminate()
    assert process.wait(20) in (0, -15)


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request, status):
    if request.param == "http":
        made = triton_http.InferenceServerClient(f"127.0.0.1:{status.port}")
    else:
        made = triton_grpc.InferenceServerClient(f"127.0.0.1:{status.grpc_port}")
    made.kind = request.param
    yield made
    made.close()


def inputs(library, *, binary=True, rows=slice(None), drop=()):
    found = []
    for name, data, datatype in (("x", X, "FP32"), ("count", COUNT, "INT64"), ("flag", FLAG, "BOOL")):
        if name in drop:
            continue
        sent = library.InferInput(name, list(data[rows].shape), datatype)
        how = {"binary_data": binary} if library is triton_http else {}
        sent.set_data_from_numpy(data[rows], **how)
        found.append(sent)
    return found


def library_of(client):
    return triton_http if client.kind == "http" else triton_grpc


def check(result):
    np.testing.assert_allclose(result.as_numpy("scores"), SCORES)
    assert result.as_numpy("scores").dtype == np.float32
    assert result.as_numpy("label").tolist() == LABEL.tolist()
    assert result.as_numpy("label").dtype == np.int64


def test_liveness_readiness_and_metadata(client):
    more = {"as_json": True} if client.kind == "grpc" else {}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("shapes")
    assert client.is_model_ready("shapes", SHAPES_2)
    assert not client.is_model_ready("none")
    assert not client.is_model_ready("shapes", "none")
    server = client.get_server_metadata(**more)
    assert (server["name"], server["version"]) == ("trimtab", "test")
    model = client.get_model_metadata("shapes", **more)
    assert (model["name"], model["platform"]) == ("shapes", "onnx")
    assert model["versions"] == sorted([SHAPES_1, SHAPES_2])
    assert [(one["name"], one["datatype"], [int(size) for size in one["shape"]]) for one in model["inputs"]] == [
        ("x", "FP32", [-1, 3]), ("count", "INT64", [-1, 1]), ("flag", "BOOL", [-1]),
    ]  # fmt: skip
    assert [one["name"] for one in model["outputs"]] == ["scores", "label"]
    assert client.get_model_metadata("shapes", SHAPES_2, **more)["name"] == "shapes"


def test_infer_as_the_client_does_by_default(client):
    result = client.infer("shapes", inputs(library_of(client)), request_id="r7")
    check(result)
    answer = result.get_response() if client.kind == "http" else result.get_response(as_json=True)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("r7", "shapes", SHAPES_1)


def test_a_named_version_answers(client):
    result = client.infer("shapes", inputs(library_of(client)), model_version=SHAPES_2)
    np.testing.assert_allclose(result.as_numpy("scores"), SCORES + 100)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True), (False, False)])
def test_json_and_bytes_either_way(status, sent, wanted):
    client = triton_http.InferenceServerClient(f"127.0.0.1:{status.port}")
    asked = [
        triton_http.InferRequestedOutput(name, binary_data=binary)
        for name, binary in zip(("scores", "label"), wanted, strict=True)
    ]
    check(client.infer("shapes", inputs(triton_http, binary=sent), outputs=asked))
    client.close()


def test_one_output_alone(client):
    library = library_of(client)
    result = client.infer("shapes", inputs(library), outputs=[library.InferRequestedOutput("label")])
    assert result.as_numpy("label").tolist() == LABEL.tolist()
    assert result.as_numpy("scores") is None


def test_a_missing_value_and_a_model_of_one_tensor(client):
    library = library_of(client)
    sent = library.InferInput("features", [2, 3], "FP32")
    sent.set_data_from_numpy(np.array([[1, np.nan, 3], [4, 5, 6]], np.float32))
    found = client.infer("sums", [sent]).as_numpy("probability")
    np.testing.assert_allclose(found[:, 0], np.tanh(np.array([4, 15]) / 1e4), rtol=1e-6)


def test_many_at_once(client):
    library = library_of(client)
    if client.kind == "grpc":
        results = []
        done = threading.Semaphore(0)

        def answered(result, error):
            results.append(error or result)
            done.release()

        for _ in range(40):
            client.async_infer("shapes", inputs(library), answered)
        assert all(done.acquire(timeout=20) for _ in range(40))
    else:
        waiting = [client.async_infer("shapes", inputs(library)) for _ in range(40)]
        results = [one.get_result() for one in waiting]
    for result in results:
        check(result)


def refused(client, model="shapes", sent=None, **more):
    with pytest.raises(InferenceServerException) as error:
        client.infer(model, inputs(library_of(client)) if sent is None else sent, **more)
    return error.value.status(), error.value.message()


def test_refusals_say_what_is_wrong(client):
    library = library_of(client)
    bad, missing = ("400", "404") if client.kind == "http" else ("INVALID_ARGUMENT", "NOT_FOUND")
    text = library.InferInput("x", [2, 3], "BYTES")
    text.set_data_from_numpy(np.array([[b"a"] * 3] * 2, dtype=object))
    narrow = library.InferInput("x", [2, 2], "FP32")
    narrow.set_data_from_numpy(X[:, :2])
    endless = library.InferInput("x", [2, 3], "FP32")
    endless.set_data_from_numpy(np.full((2, 3), np.inf, np.float32))
    rest = inputs(library, drop=["x"])
    for status, word, found in (
        (missing, "no such model", refused(client, "none")),
        (missing, "no such version", refused(client, model_version="none")),
        (bad, "not the inputs", refused(client, sent=rest)),
        (bad, "BYTES is not taken", refused(client, sent=[text, *rest])),
        (bad, "another shape", refused(client, sent=[narrow, *rest])),
        (bad, "past the range", refused(client, sent=[endless, *rest])),
        (bad, "no such output", refused(client, outputs=[library.InferRequestedOutput("other")])),
        (bad, "classification", refused(client, outputs=[library.InferRequestedOutput("scores", class_count=2)])),
    ):
        assert status in str(found[0])
        assert word in found[1]
