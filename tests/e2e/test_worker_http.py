"""A real worker over a real socket: what each path answers, and what is refused."""

import asyncio
import math

import msgspec
import pytest
from tests.e2e.worker_house import Connection, WorkerHouse, call

GOOD = {"id": "r1", "shop": "aa", "basket": 10}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = WorkerHouse(tmp_path_factory.mktemp("worker"))
    made.versions = [made.add(bias) for bias in (0.0, 1.0)]
    made.route(("champion", made.versions[0], 1.0), ("shadow", made.versions[1], 0.0), rollout="ro")
    made.port = made.start(max_body=5000, max_rows=10).port
    yield made
    made.kill()


def post(house, path, body, *headers):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return call(house.port, "POST", path, raw, *headers)


def test_predict(house):
    status, _, answer = post(house, "/predict/m", GOOD)
    assert status == 200
    assert answer["prediction"] == pytest.approx(1 / (1 + math.exp(-0.012)), abs=1e-6)
    assert answer == {
        "id": "r1", "prediction": answer["prediction"], "version": house.versions[0], "arm": "champion", "status": "ok",
        "model": "m",
    }  # fmt: skip


def test_predict_many(house):
    status, _, answer = post(house, "/predict/m", {"instances": [{"shop": "a", "basket": 1}, GOOD]})
    assert status == 200
    assert len(answer["predictions"]) == 2
    assert answer["predictions"][1]["id"] == "r1"
    assert len(answer["predictions"][0]["id"]) == 32


def test_a_version_can_be_named(house):
    status, _, answer = post(house, f"/predict/m/versions/{house.versions[1]}", GOOD)
    assert (status, answer["version"], answer["arm"]) == (200, house.versions[1], "pinned")
    assert post(house, "/predict/m/versions/none", GOOD)[0] == 404
    assert call(house.port, "GET", f"/predict/m/versions/{house.versions[1]}")[0] == 405


def test_answers_and_shadow_scores_are_recorded(house):
    post(house, "/predict/m", {**GOOD, "id": "recorded"})

    def found():
        return {row.arm: row for row in house.records() if row.request_id == "recorded"}

    house.until(lambda: set(found()) == {"champion", "shadow"})
    rows = found()
    assert rows["shadow"].version == house.versions[1]
    assert rows["shadow"].outputs[0] > rows["champion"].outputs[0]
    assert rows["champion"].rollout == "ro"
    assert rows["champion"].feature_values().tolist() == [2, 10]
    assert rows["champion"].watermarks["sales"][0] == 2
    assert rows["champion"].timings[3] >= 0


def test_infer(house):
    tensor = {"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [10, 2]}
    status, _, answer = post(house, "/v2/models/m/infer", {"id": "t", "inputs": [tensor], "parameters": {"a": 1}})
    assert (status, answer["id"], answer["model_version"]) == (200, "t", house.versions[0])
    pinned = f"/v2/models/m/versions/{house.versions[1]}/infer"
    status, _, other = post(house, pinned, {"inputs": [tensor]})
    assert (status, other["model_version"]) == (200, house.versions[1])
    assert other["outputs"][0]["data"][0] > answer["outputs"][0]["data"][0]
    status, _, wrong = post(house, "/v2/models/m/infer", {"inputs": [{**tensor, "shape": [1, 3]}]})
    assert status == 400
    assert list(wrong) == ["error"]
    assert post(house, "/v2/models/m/versions/none/infer", {"inputs": [tensor]})[0] == 404


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "trimtab", "version": "test", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/m/ready", {"name": "m", "ready": True}),
    ],
)
def test_reading(house, path, expected):
    assert call(house.port, "GET", path)[::2] == (200, expected)
    assert call(house.port, "HEAD", path)[0] == 200


def test_metadata(house):
    status, _, answer = call(house.port, "GET", "/v2/models/m")
    assert status == 200
    assert answer["versions"] == sorted(house.versions)
    columns = {"parameters": {"columns": ["sales.shop.count_1h", "calc.basket"]}}
    assert answer["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 2]} | columns]
    assert call(house.port, "GET", f"/v2/models/m/versions/{house.versions[1]}")[0] == 200
    assert call(house.port, "GET", f"/v2/models/m/versions/{house.versions[1]}/ready")[0] == 200


def test_health_and_metrics(house):
    status, _, health = call(house.port, "GET", "/health")
    assert (status, health["status"], health["generation"]) == (200, "ok", 1)
    assert health["models"] == {"m": {"champion": house.versions[0], "shadow": house.versions[1]}}

    def answered():
        lines = call(house.port, "GET", "/metrics")[2].decode().splitlines()
        name = f'trimtab_predictions_total{{model="m",version="{house.versions[0][:12]}",arm="champion"}}'
        return next((int(line.split()[-1]) for line in lines if line.startswith(name)), 0)

    before = answered()
    post(house, "/predict/m", GOOD)
    assert answered() == before + 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/predict/m", b"{", 400, "JSON"),
        ("POST", "/predict/m", b"", 400, "JSON"),
        ("POST", "/predict/m", b"\xff\xfe", 400, "JSON"),
        ("POST", "/predict/m", b'{"shop": 1, "basket": 1}', 400, "shop"),
        ("POST", "/predict/m", b'{"shop": "a"}', 400, "basket"),
        ("POST", "/predict/m", b'{"shop": "a", "basket": NaN}', 400, "JSON"),
        ("POST", "/predict/m", b'{"shop": "a", "basket": 1e999}', 400, "basket"),
        ("POST", "/predict/m", b'{"shop": "a", "basket": 1001}', 400, "1000"),
        ("POST", "/predict/m", b'{"shop": "a", "basket": 1, "x": 1}', 400, "unknown field"),
        ("POST", "/predict/m", b"[" * 4000, 400, "body"),
        ("POST", "/predict/none", b"{}", 404, "none"),
        ("POST", "/v2/models/none/infer", b"{}", 404, "none"),
        ("GET", "/v2/models/none", b"", 404, "none"),
        ("GET", "/v2/models/none/ready", b"", 404, "none"),
        ("GET", "/nowhere", b"", 404, "no such path"),
        ("GET", "/predict/m/x", b"", 404, "no such path"),
        ("GET", "/predict/m", b"", 405, "POST"),
        ("DELETE", "/v2/models/m", b"", 405, "read"),
        ("PUT", "/v2/models/m/infer", b"{}", 405, "POST"),
        ("POST", "/predict/m", b"x" * 5001, 413, "too large"),
        (
            "POST",
            "/predict/m",
            b'{"instances": [' + b",".join([b'{"shop":"a","basket":1}'] * 11) + b"]}",
            413,
            "instances",
        ),
    ],
)
def test_refusals_are_explained(house, method, path, body, status, word):
    found, headers, answer = call(house.port, method, path, body)
    assert found == status, answer
    assert word in str(answer)
    assert headers["content-type"] == "application/json"
    assert ("allow" in headers) == (status == 405)


@pytest.mark.parametrize(
    "declared", ["application/x-www-form-urlencoded", "text/plain", "Application/JSON; charset=utf-8"]
)
def test_json_is_taken_whatever_it_is_declared_as(house, declared):
    """`curl -d` declares a form."""
    assert post(house, "/predict/m", GOOD, f"content-type: {declared}")[0] == 200
    tensor = {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    assert post(house, "/v2/models/m/infer", tensor, f"content-type: {declared}")[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        "content-type: application/octet-stream", "content-encoding: gzip", "content-type: text/csv",
        "content-type: application/xml; charset=utf-8", "content-type: application/x-ndjson",
    ],
)  # fmt: skip
def test_binary_compressed_and_foreign_bodies_are_refused(house, header):
    assert post(house, "/predict/m", GOOD, header)[0] == 415
    tensor = {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    assert post(house, "/v2/models/m/infer", tensor, header)[0] == 415


def test_a_version_may_be_named_by_its_first_digits(house):
    version = post(house, "/predict/m", GOOD)[2]["version"]
    tensor = {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    for digits in (8, 12, 64):
        named = post(house, f"/predict/m/versions/{version[:digits]}", GOOD)
        assert (named[0], named[2]["version"], named[2]["arm"]) == (200, version, "pinned")
        named = post(house, f"/v2/models/m/versions/{version[:digits].upper()}/infer", tensor)
        assert (named[0], named[2]["model_version"]) == (200, version)
        assert call(house.port, "GET", f"/v2/models/m/versions/{version[:digits]}/ready")[0] == 200
    for short in (version[:7], "0" * 12, version[:12] + "x"):
        status, _, found = post(house, f"/predict/m/versions/{short}", GOOD)
        assert (status, "8 digits" in str(found)) == (404, True)


def test_the_columns_of_a_model_are_named_in_their_order(house):
    columns = ["sales.shop.count_1h", "calc.basket"]
    told = call(house.port, "GET", "/v2/models/m")[2]
    assert told["inputs"][0]["parameters"] == {"columns": columns}
    assert "parameters" not in told["outputs"][0]
    document = call(house.port, "GET", "/openapi.json")[2]
    schema = document["paths"]["/v2/models/m/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    data = schema["properties"]["inputs"]["prefixItems"][0]["properties"]["data"]
    assert data["x-columns"] == columns
    assert ", ".join(columns) in data["description"]


def test_an_oversize_body_without_a_length_is_cut_off(house):
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    head = b"POST /predict/m HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"

    async def flood():
        async with Connection(house.port) as connection:
            return await connection.raw(head + chunk * 3)

    status, headers, _ = asyncio.run(flood())
    assert (status, headers["connection"]) == (413, "close")


def test_a_chunked_body_is_put_together(house):
    body = msgspec.json.encode(GOOD)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:5], body[5:])) + b"0\r\n\r\n"
    head = b"POST /predict/m HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"

    async def send():
        async with Connection(house.port) as connection:
            first = await connection.raw(head + chunks)
            return first, await connection.raw(head + chunks)

    first, second = asyncio.run(send())
    assert (first[0], second[0]) == (200, 200)


def test_noise_does_not_hurt(house):
    async def noise():
        for data in (
            b"\x00" * 100,
            b"GET / HTTP/9\r\n\r\n",
            b"POST /predict/m HTTP/1.1\r\ncontent-length: 50\r\n\r\nhalf",
        ):
            async with Connection(house.port) as connection:
                connection._writer.write(data)
                await connection._writer.drain()
        async with Connection(house.port) as connection:
            return await connection.predict("after")

    assert asyncio.run(noise())["id"] == "after"
