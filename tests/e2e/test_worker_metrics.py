"""Two workers on one port: whichever is scraped answers for both, and nothing is lost when one is killed."""

import asyncio
import shutil
import subprocess

import msgspec
import pytest
from tests.e2e.metered_house import scrape, total
from tests.e2e.worker_house import Connection, WorkerHouse, call


@pytest.fixture
def house(tmp_path):
    made = WorkerHouse(tmp_path)
    made.versions = [made.add(bias) for bias in (0.0, 1.0)]
    made.route(("champion", made.versions[0], 1.0))
    yield made
    made.kill()


def ask(port, count, *, connections=8):
    """Send this many requests, over enough connections that the kernel gives every worker some."""

    async def some(number):
        async with Connection(port) as connection:
            for place in range(number, count, connections):
                await connection.predict(f"r{place}")

    async def all_of_them():
        await asyncio.gather(*(some(number) for number in range(connections)))

    asyncio.run(all_of_them())


def test_totals_over_workers_are_what_was_sent_and_never_fall(house):
    more = {"metrics_folder": str(house.home / "run" / "metrics")}
    port = house.start(1, **more).port
    house.start(2, port=port, **more)
    sent, seen = 0, 0.0
    for round_ in range(4):
        ask(port, 200)
        sent += 200
        for _ in range(6):  # whichever worker the connection reaches
            found = scrape(port)
            answered = total(found, "trimtab_predictions_total", model="m", arm="champion")
            assert answered == sent
            assert total(found, "trimtab_request_duration_seconds_count") == sent
            assert total(found, "trimtab_stage_duration_seconds_count", stage="queue") == sent
            assert total(found, "http_server_request_duration_seconds_count", http_route="/predict/{model}") == sent
            assert total(found, "trimtab_records_written_total") == sent
            assert total(found, "trimtab_requests_in_flight") >= 1  # the scrape
            seen, before = answered, seen
            assert seen >= before
        if round_ == 0:
            assert total(found, "trimtab_workers") == 2
            house.processes[0].kill()  # between the last answer and any further word of it
            house.processes[0].wait()
            assert total(scrape(port), "trimtab_predictions_total") == sent
            assert total(scrape(port), "trimtab_workers") == 1
        if round_ == 1:
            house.start(1, port=port, **more)
            assert total(scrape(port), "trimtab_predictions_total") == sent
    assert not list((house.home / "run" / "metrics").rglob(f"worker-1-{house.processes[0].pid}-*"))


def test_arms_refusals_and_the_shadow_are_told_apart(house):
    house.route(("champion", house.versions[0], 0.5), ("canary", house.versions[1], 0.5))
    port = house.start(1, metrics_folder=str(house.home / "run" / "metrics")).port
    ask(port, 100)
    assert call(port, "POST", "/predict/m", b"{")[0] == 400
    assert call(port, "POST", "/predict/none", b"{}")[0] == 404
    assert call(port, "GET", "/" + "x" * 50)[0] == 404
    body = msgspec.json.encode({"instances": [{"shop": "aa", "basket": 1}] * 40})
    assert call(port, "POST", "/predict/m", body)[0] == 200
    found = scrape(port)
    arms = {arm: total(found, "trimtab_predictions_total", arm=arm) for arm in ("champion", "canary")}
    assert sum(arms.values()) == 140
    assert min(arms.values()) > 20
    assert total(found, "trimtab_request_duration_seconds_count") == 101
    assert sum(total(found, "trimtab_batch_rows_sum", arm=arm) for arm in arms) == 140
    assert total(found, "trimtab_requests_refused_total", model="m") == 1
    assert total(found, "trimtab_requests_refused_total", model="", kind="UnknownName") == 1
    assert total(found, "trimtab_http_responses_total", code="404") == 2
    assert total(found, "http_server_request_duration_seconds_count", http_route="") == 1
    house.route(("champion", house.versions[0], 1.0), ("shadow", house.versions[1], 0.0))
    house.until(lambda: total(scrape(port), "trimtab_route_generation") == house.generation)

    def scored():
        return total(scrape(port), "trimtab_predictions_total", arm="shadow", version=house.versions[1][:12])

    before = scored()
    ask(port, 10)
    house.until(lambda: scored() == before + 10)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
def test_promtool_finds_nothing_to_complain_of(house):
    port = house.start(1, metrics_folder=str(house.home / "run" / "metrics")).port
    ask(port, 20)
    text = call(port, "GET", "/metrics")[2].decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("server", ["httptools", "uvicorn"])
def test_the_access_log_has_every_request_and_no_body(house, server):
    log = house.home / "access.log"
    port = house.start(1, access_log=str(log), server=server).port
    status, headers, _ = call(
        port,
        "POST",
        "/predict/m",
        b'{"shop": "aa", "basket": 17}',
        "x-request-id: mine-1",
        "authorization: Bearer hush",
    )
    assert (status, headers["x-request-id"]) == (200, "mine-1")
    status, headers, _ = call(port, "GET", "/health", b"", "x-request-id: bad id\t")
    assert status == 200
    made = headers["x-request-id"]
    assert made not in ("", "bad id")
    house.until(lambda: log.exists() and len(log.read_bytes().splitlines()) == 2)
    first, second = map(msgspec.json.decode, log.read_bytes().splitlines())
    assert (first["request_id"], first["model"], first["arm"], first["rows"]) == ("mine-1", "m", "champion", 1)
    assert first["version"] == house.versions[0][:12]
    assert list(first["stages_us"]) == [
        "decode", "queue", "features", "preprocess", "infer", "postprocess", "encode", "record",
    ]  # fmt: skip
    assert sum(first["stages_us"].values()) <= first["us"] + 10
    assert (second["path"], second["status"], second["request_id"]) == ("/health", 200, made)
    text = log.read_text()
    assert "basket" not in text
    assert "hush" not in text
