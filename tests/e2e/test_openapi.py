"""The OpenAPI description holds for a real worker: nothing that it allows breaks it, and no answer surprises."""

import json
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from html import unescape

import pytest
from tests.e2e.protocol_worker import SHAPES_1, SHAPES_2, start, table

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "negative_data_rejection",
)  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    process, status = start(tmp_path_factory.mktemp("openapi"), max_body=100_000, max_rows=50)
    yield f"http://127.0.0.1:{status.port}"
    process.terminate()
    assert process.wait(20) in (0, -15)


@pytest.fixture(scope="module")
def document(url):
    return json.loads(read(url + "/openapi.json")[1])


def read(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
        return answer.headers["content-type"], answer.read()


def newest(path):
    """A version that the model of a path has."""
    routes = table().routes
    return next((routes[name].arms[-1].version for name in path.split("/") if name in routes), "")


def test_generated_requests_never_break_it_and_never_get_an_undocumented_answer(url, tmp_path):
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        '[parameters]\n"header.X-Trimtab-Deadline-Ms" = "60000"\n'  # a shorter one may rightly be refused with 503
        "[checks.negative_data_rejection]\nexpected-statuses = [400, 404, 405, 413, 415]\n"
    )
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{url}/openapi.json"]
    command += ["--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", "10", "--max-failures", "5"]
    command += ["--generation-deterministic", "--no-color", "--warnings", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) generated, \1 passed", done.stdout)[1]) > 500


def test_every_example_is_answered(url, document):
    asked = 0
    for path, methods in document["paths"].items():
        if "post" not in methods:
            continue
        content = methods["post"]["requestBody"]["content"]["application/json"]
        bodies = (
            [one["value"] for one in content["examples"].values()] if "examples" in content else [content["example"]]
        )
        for body in bodies:
            kind, answer = read(url + path.replace("{version}", newest(path)), body)
            assert kind == "application/json"
            assert json.loads(answer)
            asked += 1
    assert asked == 20


def test_the_description_follows_what_is_live(document):
    assert document["openapi"] == "3.1.0"
    paths = set(document["paths"])
    assert {
        "/predict/late",
        "/predict/sums",
        "/v2/models/shapes/infer",
        "/v2/models/shapes/versions/{version}/infer",
    } <= paths
    assert "/predict/late/versions/{version}" in paths
    assert "/predict/shapes" not in paths  # it has no named columns
    (version,) = document["paths"]["/v2/models/shapes/versions/{version}"]["parameters"]
    assert version["schema"]["enum"] == sorted([SHAPES_1, SHAPES_2])
    body = document["paths"]["/predict/late"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    one, many = body["oneOf"]
    assert one["required"] == ["origin", "gate", "distance", "night", "leaves"]
    assert one["properties"]["distance"] == {"type": "number", "minimum": 0, "maximum": 9000}
    assert one["properties"]["seats"] == {"type": ["integer", "null"], "minimum": 1, "maximum": 900}
    assert many["properties"]["instances"]["maxItems"] == 50
    for path in ("/predict/late", "/v2/models/shapes/infer"):
        headers = {one["name"] for one in document["paths"][path]["post"]["parameters"]}
        assert {"X-Trimtab-Unit", "X-Trimtab-Arm", "X-Trimtab-Deadline-Ms"} <= headers


def test_the_page_needs_nothing_from_elsewhere_and_its_lines_work(url, document):
    kind, body = read(url + "/docs")
    page = body.decode()
    assert kind == "text/html; charset=utf-8"
    assert re.findall(r'(?:src|href)="(?!data:|#|/openapi.json)[^"]*"', page) == []
    assert all(path in page for path in document["paths"])
    lines = [unescape(line) for line in re.findall(r"<code>(curl [^<]*)</code>", page)]
    posts = [line for line in lines if " -d " in line]
    assert len(posts) == 20
    for line in posts:
        _, _, target, _, header, _, data = shlex.split(line)
        request = urllib.request.Request(target.replace("$URL", url), data.encode(), dict([header.split(": ")]))
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200


def test_what_only_exists_for_tensors_says_so(url):
    with pytest.raises(urllib.error.HTTPError) as error:
        read(url + "/predict/shapes", {"x": 1})
    with error.value as answer:
        assert answer.code == 400
        assert "/v2/models/<model>/infer" in json.loads(answer.read())["hint"]
