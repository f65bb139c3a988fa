"""``trimtab latency`` and the status page, fed by real workers, with control running and without."""

import json

from tests.e2e.live_house import MODEL, cli, wait_until

from trimtab.adapters.wire.client import JsonClient

pytest_plugins = ["tests.e2e.live_fixtures"]


def latency(live, *options):
    done = cli("latency", "-p", live.project, "--json", *options)
    return done.returncode, json.loads(done.stdout)


def test_what_workers_count_is_shown_beside_the_budget(live):
    assert latency(live)[0] == 1  # nothing was answered yet
    live.start("--workers", "2")
    for number in range(20):
        with JsonClient(live.data) as data:  # a connection each: the kernel spreads them over the workers
            live.predict(data, f"r{number}")
    code, shown = latency(live)
    [arm] = shown["arms"]
    assert (code, arm["model"], arm["arm"], arm["requests"], arm["rows"]) == (0, MODEL, "champion", 20, 20)
    parts = {stage["part"]: stage for stage in arm["stages"]}
    assert set(parts) == {"ingest", "pre", "inference", "post", "serialise"}
    assert arm["budget"] == {"total_ms": 100, "percentile": 99, "buffer_ms": 0}
    assert sum(stage["budget_ms"] for stage in parts.values()) == 100
    assert 0 < parts["inference"]["p50_ms"] <= parts["inference"]["p99_ms"] < arm["total"]["p99_ms"] * 1.07
    assert sum(bar["count"] for bar in arm["distribution"]["total"]) == 20
    assert (latency(live, "--check")[0] == 0) == (not arm["broken"])

    code, told = latency(live, "--from", "records")
    [other] = told["arms"]
    assert (code, other["requests"], other["version"]) == (0, 20, arm["version"])
    assert other["total"]["mean_ms"] < arm["total"]["mean_ms"]  # without queue and record
    assert latency(live, "--from", "records", "--since", "2200-01-01")[0] == 1
    assert cli("latency", "nothing", "-p", live.project).returncode == 2
    text = cli("latency", MODEL, "-p", live.project).stdout
    assert "inference" in text
    assert "####" in text

    with live.console() as console:
        status = console.get("/v1/status")
    assert sum(worker["answered"] for worker in status["workers"]) == 20
    assert all(worker["errors"] == 0 for worker in status["workers"])
    assert any(worker["p99_ms"] for worker in status["workers"])
    assert status["models"][0]["latency"][0]["requests"] == 20
    live.kill()
    assert latency(live)[1]["arms"][0]["requests"] == 20
    live.start("--workers", "1")
    wait_until(lambda: latency(live)[1]["arms"][0]["requests"] == 20, what="the counts of before")


def test_after_a_rollback_the_version_that_answers_is_shown_and_counted(live):
    live.start("--workers", "1")
    assert cli("train", MODEL, "-p", live.project).returncode == 0
    first, second = [event.data["version"] for event in live.events() if event.type == "VersionRegistered"]

    def ask(number):
        with JsonClient(live.data) as data:
            answers = [live.predict(data, f"r{at}") for at in range(number)]
        return {(answer["version"], answer["arm"]) for answer in answers}

    def steer(verb, *arguments):
        done = cli(verb, MODEL, *arguments, "--reason", "by hand", "-p", live.project)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(version, arm="champion"):
        wait_until(lambda: ask(1) == {(version, arm)}, what=f"{version[:8]} as {arm}")

    steer("rollback")  # ends the rollout that the training began
    answers(first)
    steer("deploy", "2", "--strategy", "blue-green")
    answers(second)
    steer("rollback")
    answers(first)
    ask(20)
    for source in ("workers", "records"):
        told = {arm["arm"]: arm["version"] for arm in latency(live, "--from", source)[1]["arms"]}
        assert told["champion"] == first
    with live.console() as console:
        status = console.get("/v1/status")
    assert status["models"][0]["latency"][0]["version"] == first

    steer("deploy", "--strategy", "ab", "--arms", "a=1:0.5,b=1:0.5")
    assert "stays the champion" in steer("rollback")
    texts = [sentence["text"] for sentence in json.loads(cli("log", "-p", live.project, "--json").stdout)["events"]]
    assert any(text.endswith("approved the A/B test: by hand") for text in texts)
