"""What callers get wrong: a clear error as JSON, the process lives on, and nothing that was right is lost."""

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from tests.e2e.live_house import MODEL, VISIT, LiveHouse, cli, wait_until

from trimtab.adapters.wire.client import JsonClient
from trimtab.core.clock import DAY, HOUR, iso

pytest_plugins = ["tests.e2e.live_fixtures"]


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def house(trained, tmp_path_factory):
    made = LiveHouse(shutil.copytree(trained, tmp_path_factory.mktemp("bad") / "clicks"))
    made.start()
    yield made
    made.kill()


def send(url, method, path, body=b"", *, token=None, headers=()):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    sent = {"Content-Type": "application/json", **dict(headers)}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    if len(body) > 1_000_000:  # refused by its length: what is sent of it may meet a closed socket
        sent, body = sent | {"Content-Length": str(len(body))}, body[:100]
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw)


@pytest.fixture
def console(house):
    token = (house.home / "run" / "control.token").read_text()
    return lambda method, path, body=b"": send(house.facts["console"], method, path, body, token=token)


SALE = {"visit": "x1", "at": "2024-01-01", "shop": "north", "bought": True, "amount": 1.0}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/events/sales", b"{", 400, "the body is not JSON"),
        ("POST", "/v1/events/sales", b"\xff\xfe", 400, "the body is not JSON"),
        ("POST", "/v1/events/sales", b"[" * 100_000, 400, "the body is not JSON"),
        ("POST", "/v1/events/sales", b'{"amount": NaN}', 400, "the body is not JSON"),
        ("POST", "/v1/events/sales", b'"text"', 400, "an event, a list of events"),
        ("POST", "/v1/events/sales", b"[1]", 400, "an event, a list of events"),
        ("POST", "/v1/events/sales", b'{"rows": [{"visit": "a"}]}', 400, "is missing"),
        ("POST", "/v1/events/nothing", b"[]", 404, "no such source"),
        ("POST", "/v1/events/visits", b"[]", 404, "no such source"),
        ("POST", "/v1/events/..%2f..%2fetc", b"[]", 404, ""),
        ("POST", "/v1/events/sales", b" " * 1_100_000, 413, "too large"),
        ("POST", "/v1/events/sales", json.dumps([{}] * 10_001).encode(), 413, "too many events"),
        ("GET", "/v1/events/sales", b"", 405, ""),
        ("POST", "/v1/models/nothing/train", b'{"reason": "x"}', 404, "no such model"),
        ("POST", f"/v1/models/{MODEL}/destroy", b'{"reason": "x"}', 404, "no such request"),
        ("POST", f"/v1/models/{MODEL}/train", b"{}", 400, "a reason is needed"),
        ("POST", f"/v1/models/{MODEL}/train", b'{"reason": 3}', 400, "reason must be a text"),
        ("POST", f"/v1/models/{MODEL}/train", b'{"reason": "x", "force": "y"}', 400, "unknown fields"),
        ("POST", f"/v1/models/{MODEL}/train", b'{"reason": "x", "cutoff": "soon"}', 400, "not a time"),
        ("POST", "/v1/clock", b'{"now": 3}', 400, "the body must be"),
        ("GET", "/v1/log?at=yesterday", b"", 400, "not a time"),
        ("GET", "/v1/log?limit=-1", b"", 400, "limit must be"),
        ("GET", "/v1/log?model=nothing", b"", 404, "nothing is known"),
        ("GET", "/nowhere", b"", 404, ""),
    ],
)
def test_the_console_refuses_with_a_reason(house, console, method, path, body, status, words):
    events = console("GET", "/v1/status")[1]["ledger"]["events"]
    found, answer = console(method, path, body)
    assert found == status, answer
    assert words in answer["error"]
    if status in (400, 413):
        assert answer["kind"]
    assert console("GET", "/v1/status")[1]["ledger"]["events"] == events  # refusals are not kept one by one


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_nothing_but_health_without_the_token(house, token):
    for method, path in (("GET", "/"), ("GET", "/v1/status"), ("POST", "/v1/events/sales"), ("POST", "/v1/clock")):
        status, answer = send(house.facts["console"], method, path, b"[]", token=token)
        assert (status, answer["kind"]) == (401, "Unauthorized")
    assert send(house.facts["console"], "GET", "/health")[0] == 200


def test_a_browser_without_the_token_gets_a_page_that_says_what_to_do(house):
    request = urllib.request.Request(house.facts["console"] + "/", headers={"Accept": "text/html,*/*;q=0.8"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    page = refused.value.read().decode()
    assert refused.value.code == 401
    assert refused.value.headers["content-type"].startswith("text/html")
    for words in ("A token is needed", "/?token=", "--new-token", "TRIMTAB_TOKEN"):
        assert words in page
    refused.value.close()


def test_bad_rows_cost_themselves_and_no_others(house, console):
    at = iso(now())
    good = SALE | {"at": at}
    rows = [
        good | {"visit": "g1"},
        good | {"visit": "b1", "amount": "many"},
        good | {"visit": "b2", "amount": None},
        good | {"visit": "b3", "amount": -5},
        good | {"visit": "b4", "at": "soon"},
        good | {"visit": "b5", "at": iso(now() + HOUR)},
        good | {"visit": "b6", "shop": ""},
        good | {"visit": "b7", "bought": "perhaps"},
        good | {"visit": "g1", "amount": 2.0},
        good | {"visit": "g2", "unheard": 1},
    ]
    status, answer = console("POST", "/v1/events/sales", json.dumps(rows).encode())
    assert status == 200, answer
    assert (answer["accepted"], answer["repeated"]) == (2, 0)
    report = answer["quarantined"]
    assert report["quarantined"] == 8
    assert {row["index"] for row in report["rows"]} == {1, 2, 3, 4, 5, 6, 7, 8}
    reasons = {(item["column"], item["reason"]) for item in report["reasons"]}
    assert ("at", "known in the future") in reasons
    assert ("visit", "duplicate") in reasons
    shown = next(source for source in console("GET", "/v1/status")[1]["sources"] if source["name"] == "sales")
    assert shown["quarantined"] >= 8
    assert shown["watermark"]["seq"] == shown["rows"] == answer["rows_of_source"]


def test_late_and_repeated_events_are_taken_once(house, console):
    def post(visit, at):
        body = json.dumps([SALE | {"visit": visit, "at": iso(at)}]).encode()
        return console("POST", "/v1/events/sales", body)[1]

    first = post("late-1", now())
    late = post("late-2", now() - DAY)  # it happened yesterday, and we could not have known it before now
    assert (late["accepted"], late["rows_of_source"]) == (1, first["rows_of_source"] + 1)
    again = post("late-1", now())
    assert (again["accepted"], again["repeated"], again["rows_of_source"]) == (0, 1, late["rows_of_source"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/predict/{MODEL}", b"{", 400),
        (f"/predict/{MODEL}", b'{"shop": "north"}', 400),
        (f"/predict/{MODEL}", b'{"shop": "north", "basket": "full"}', 400),
        (f"/predict/{MODEL}", b'{"shop": "north", "basket": NaN}', 400),
        (f"/predict/{MODEL}", b'{"shop": "north", "basket": 1e999}', 400),
        (f"/predict/{MODEL}", b'{"shop": "north", "basket": -1}', 400),
        (f"/predict/{MODEL}", b'{"shop": 7, "basket": 1}', 400),
        (f"/predict/{MODEL}", b'{"instances": []}', 400),
        (f"/predict/{MODEL}", b" " * 1_100_000, 413),
        ("/predict/nothing", json.dumps(VISIT).encode(), 404),
    ],
)
def test_the_data_plane_refuses_with_a_reason(house, path, body, status):
    found, answer = send(house.data, "POST", path, body)
    assert found == status, answer
    assert answer["error"]
    assert answer["kind"]


def test_an_unknown_entity_is_answered_from_what_is_known(house):
    found, answer = send(house.data, "POST", f"/predict/{MODEL}", json.dumps(VISIT | {"shop": "new shop"}).encode())
    assert (found, answer["status"]) == (200, "ok")


def test_a_corrupted_bundle_never_goes_live(live):
    """The bytes of a version are changed on disk after it was trained: the old route stays, and it is said why."""
    live.start()
    with live.console() as console, JsonClient(live.data) as data:
        champion = live.predict(data, "r1")["version"]
        version = json.loads(cli("train", MODEL, "-p", live.project, "--json").stdout)["version"]
        forced = {"version": version, "reason": "a test"}
        assert console.post(f"/v1/models/{MODEL}/force", forced)["accepted"]
        assert console.post(f"/v1/models/{MODEL}/rollback", {"reason": "a test"})["accepted"]
        wait_until(lambda: next(live.statuses()).versions == (champion,), what="the way back")
        corrupt(live.home / "blobs", version)
        assert console.post(f"/v1/models/{MODEL}/force", forced)["accepted"]
        said = wait_until(lambda: (found := next(live.statuses())).problem and found, what="the refusal")
        assert version[:12] in said.problem
        assert live.predict(data, "r2")["version"] == champion
        assert said.problem in console.get("/v1/status")["workers"][0]["state"]
    # A worker that has just been started has no old route, but the champion is whole.
    live.stop()
    live.start()
    with JsonClient(live.data) as data:
        assert live.predict(data, "r3")["version"] == champion
        assert version[:12] in wait_until(lambda: next(live.statuses()).problem, what="the reason")


def corrupt(blobs, version):
    """Change a byte of a manifest, wherever the store keeps it."""
    [path] = [path for path in blobs.rglob("*") if path.is_file() and version.endswith(path.name)]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"buys", b"bugs"))
