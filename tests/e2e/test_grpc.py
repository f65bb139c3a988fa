"""gRPC of a real worker, spoken by hand: typed values, refusals, limits, and several workers on one port."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc.service_pb2 as published
from tests.e2e.protocol_worker import SHAPES_1, SHAPES_2, start

from trimtab.adapters.wire.grpc_messages import METHODS, SERVICE, TABLE, protocol


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    home = tmp_path_factory.mktemp("grpc")
    first, status = start(home, 1, grpc_port=0, max_body=20_000, max_rows=10)
    second, other = start(home, 2, grpc_port=status.grpc_port, max_body=20_000, max_rows=10)
    assert other.grpc_port == status.grpc_port
    yield [(first, status), (second, other)]
    for process in (first, second):
        process.terminate()
        assert process.wait(20) in (0, -15)


@pytest.fixture
def channel(workers):
    with grpc.insecure_channel(f"127.0.0.1:{workers[0][1].grpc_port}") as made:
        yield made


def ask(channel, method, data, *, timeout=20):
    raw = data if isinstance(data, bytes) else data.SerializeToString()
    response = getattr(published, f"{method}Response")
    return channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=response.FromString)(raw, timeout=timeout)


def infer(rows=1, **more):
    asked = published.ModelInferRequest(model_name="shapes", **more)
    for name, datatype, shape, field, values in (
        ("x", "FP32", [rows, 3], "fp32_contents", [1.0, 2.0, 3.0] * rows),
        ("count", "INT64", [rows, 1], "int64_contents", [4] * rows),
        ("flag", "BOOL", [rows], "bool_contents", [True] * rows),
    ):
        getattr(asked.inputs.add(name=name, datatype=datatype, shape=shape).contents, field).extend(values)
    return asked


def refused(channel, data, method="ModelInfer"):
    with pytest.raises(grpc.RpcError) as error:
        ask(channel, method, data)
    return error.value.code().name, error.value.details()


@pytest.mark.parametrize("name", TABLE)
def test_the_messages_are_the_published_ones(name):
    outer, _, inner = name.rpartition(".")
    theirs = getattr(getattr(published, outer), inner) if outer else getattr(published, name)

    def fields(message):
        return {
            (one.name, one.number, one.type, one.is_repeated, one.message_type and one.message_type.full_name,
             one.containing_oneof and one.containing_oneof.name)
            for one in message.DESCRIPTOR.fields
        }  # fmt: skip

    assert fields(protocol().messages[name]) == fields(theirs)


def test_typed_values_give_typed_values(channel):
    answer = ask(channel, "ModelInfer", infer(rows=2, id="r"))
    assert (answer.id, answer.model_name, answer.model_version) == ("r", "shapes", SHAPES_1)
    assert list(answer.raw_output_contents) == []
    scores, label = answer.outputs
    assert (scores.name, scores.datatype, list(scores.shape)) == ("scores", "FP32", [2, 3])
    assert list(scores.contents.fp32_contents) == [16, 18, 20] * 2
    assert (list(label.shape), list(label.contents.int64_contents)) == ([2], [2, 2])


def test_the_first_digits_name_a_version(channel):
    asked = infer(model_version=SHAPES_2[:12])
    assert ask(channel, "ModelInfer", asked).model_version == SHAPES_2
    code, text = refused(channel, infer(model_version=SHAPES_2[:7]))
    assert (code, "first 8 digits" in text) == ("NOT_FOUND", True)


def test_metadata_names_an_arm(channel):
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=published.ModelInferResponse.FromString)
    answer = call(infer().SerializeToString(), timeout=20, metadata=[("x-trimtab-arm", "shadow"), ("x-some-bin", b"1")])
    assert answer.model_version == SHAPES_2
    with pytest.raises(grpc.RpcError) as error:
        call(infer().SerializeToString(), timeout=20, metadata=[("x-trimtab-arm", "none")])
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_bytes_give_bytes(channel):
    asked = infer()
    for tensor in asked.inputs:
        tensor.ClearField("contents")
    parts = [np.array([1, np.nan, 3], "<f4"), np.array([4], "<i8"), np.array([1], "?")]
    asked.raw_input_contents.extend(part.tobytes() for part in parts)
    answer = ask(channel, "ModelInfer", asked)
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4"), [16, np.nan, 20])
    asked.raw_input_contents[1] = b"\0" * 7
    assert refused(channel, asked)[0] == "INVALID_ARGUMENT"
    del asked.raw_input_contents[1]
    assert "number of entries" in refused(channel, asked)[1]
    asked = infer()
    asked.raw_input_contents.extend(part.tobytes() for part in parts)
    assert "contents beside" in refused(channel, asked)[1]


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (lambda asked: asked.inputs.pop(), "INVALID_ARGUMENT", "not the inputs"),
        (lambda asked: asked.inputs.append(asked.inputs[0]), "INVALID_ARGUMENT", "not the inputs"),
        (lambda asked: asked.inputs[0].shape.pop(), "INVALID_ARGUMENT", "another shape"),
        (lambda asked: asked.inputs[0].shape.__setitem__(0, -1), "INVALID_ARGUMENT", "no rows"),
        (lambda asked: asked.inputs[0].shape.__setitem__(0, 2), "INVALID_ARGUMENT", "number of values"),
        (lambda asked: asked.inputs[0].shape.__setitem__(0, 11), "RESOURCE_EXHAUSTED", "too many rows"),
        (lambda asked: asked.inputs[0].ClearField("contents"), "INVALID_ARGUMENT", "fp32_contents"),
        (lambda asked: asked.inputs[0].contents.int_contents.append(1), "INVALID_ARGUMENT", "fp32_contents"),
        (lambda asked: setattr(asked.inputs[0], "datatype", "BYTES"), "INVALID_ARGUMENT", "BYTES is not taken"),
        (lambda asked: setattr(asked.inputs[0], "datatype", "FP16"), "INVALID_ARGUMENT", "raw_input_contents"),
        (lambda asked: asked.inputs[0].contents.fp32_contents.__setitem__(0, np.inf), "INVALID_ARGUMENT", "range"),
        (lambda asked: setattr(asked, "model_name", "none"), "NOT_FOUND", "no such model"),
        (lambda asked: setattr(asked, "model_name", ""), "NOT_FOUND", "no such model"),
        (lambda asked: setattr(asked, "model_version", "none"), "NOT_FOUND", "no such version"),
        (lambda asked: setattr(asked, "id", "i" * 300), "INVALID_ARGUMENT", "id is too long"),
        (lambda asked: setattr(asked, "id", "\0"), "INVALID_ARGUMENT", "NUL"),
        (lambda asked: asked.outputs.add(name="none"), "INVALID_ARGUMENT", "no such output"),
    ],
)
def test_refusals_have_a_code_and_a_reason(channel, change, code, word):
    asked = infer()
    change(asked)
    found = refused(channel, asked)
    assert found[0] == code
    assert word in found[1]


def test_noise_and_size(channel):
    assert refused(channel, b"\xff\xff\xff")[0] == "INVALID_ARGUMENT"
    assert refused(channel, b"\x00" * 30_000)[0] == "RESOURCE_EXHAUSTED"
    assert refused(channel, b"", method="ModelInfer")[0] == "NOT_FOUND"
    for method in METHODS[:2]:
        assert ask(channel, method, b"")
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(f"/{SERVICE}/RepositoryIndex")(b"", timeout=5)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_workers_share_the_port_and_one_that_ends_fails_no_call(workers):
    """Every channel is a connection of its own; those of a worker that ends go to the other."""
    port = workers[0][1].grpc_port
    option = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(12):
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=option) as made:
            assert ask(made, "ModelInfer", infer()).outputs
    workers[1][0].terminate()
    workers[1][0].wait(20)
    for _ in range(6):
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=option) as made:
            assert ask(made, "ModelInfer", infer()).outputs


def test_an_unready_worker_says_when_to_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.e2e.protocol_worker.write_routes", lambda *_: None)
    process, status = start(tmp_path, 1, grpc_port=0)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{status.grpc_port}") as made:
            assert not ask(made, "ServerReady", b"").ready
            assert ask(made, "ServerLive", b"").live
            assert not ask(made, "ModelReady", published.ModelReadyRequest(name="shapes")).ready
            with pytest.raises(grpc.RpcError) as error:
                ask(made, "ModelInfer", infer())
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert dict(error.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    finally:
        process.terminate()
        process.wait(20)
