"""``trimtab up`` on either HTTP server; and what its API refuses as the command line does."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.live_house import MODEL, LiveHouse, cli

from trimtab.adapters.compute.supervisor import read_post
from trimtab.adapters.wire.client import JsonClient
from trimtab.loop import events as e

pytest_plugins = ["tests.e2e.live_fixtures"]


@pytest.fixture(scope="module")
def house(trained, tmp_path_factory):
    made = LiveHouse(shutil.copytree(trained, tmp_path_factory.mktemp("server") / "clicks"))
    yield made
    made.kill()


def carriers(house):
    """What each living worker was told to serve with."""
    posts = [read_post(house.home / "run", path.stem) for path in sorted((house.home / "run").glob("worker-*.pid"))]
    return [json.loads(post.command[2])["server"] for post in posts if post.held]


@pytest.mark.parametrize(
    ("options", "more", "server"),
    [((), {}, "httptools"), (("--server", "uvicorn"), {}, "uvicorn"), ((), {"TRIMTAB_SERVER": "uvicorn"}, "uvicorn")],
)
def test_both_servers_answer_under_up(house, options, more, server):
    house.start(*options, **more)
    assert carriers(house) == [server]
    with JsonClient(house.data) as data:
        found = house.predict(data, f"{server}-{len(options)}")
        assert 0 <= found["prediction"] <= 1
        assert data.get("/v2/models/" + MODEL)["name"] == MODEL
    house.stop()


@pytest.mark.parametrize(("options", "more"), [(("--server", "apache"), {}), ((), {"TRIMTAB_SERVER": "apache"})])
def test_an_unknown_server_is_refused_in_one_line(house, options, more):
    done = cli("up", "-p", house.project, "--port", "0", "--console-port", "0", *options, **more)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "trimtab: setting server (TRIMTAB_SERVER): there is no such choice. Got 'apache'."
        " Hint: httptools or uvicorn.\n"
    )
    assert carriers(house) == []


@pytest.mark.parametrize(
    ("value", "said"), [("1.5", "probabilities"), ("-0.1", "probabilities"), ("0.2,0.3", "another number of values")]
)
def test_a_constant_that_the_model_could_not_say_is_refused_over_http_as_by_the_command(house, value, said):
    if not list(house.statuses()):
        house.start()
    token = (house.home / "run" / "control.token").read_text()
    body = json.dumps({"to": "constant", "value": value, "reason": "incident"}).encode()
    url = f"{house.facts['console']}/v1/models/{MODEL}/kill"
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    with refused.value as answer:
        assert answer.code == 400
        by_http = json.load(answer)
    assert said in by_http["error"]
    done = cli(
        "kill", MODEL, "--to", "constant", "--value", value, "--reason", "incident", "-p", house.project, "--json"
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == by_http["error"]
    assert [event for event in house.events() if event.type == e.KILLED] == []
    assert not list(Path(house.home / "run").glob("kill-*.json"))


def test_a_constant_that_it_could_say_is_taken_over_http(house):
    if not list(house.statuses()):
        house.start()
    with house.console() as console:
        body = {"to": "constant", "value": "0.2", "reason": "incident"}
        assert console.post(f"/v1/models/{MODEL}/kill", body)["accepted"]
        assert console.post(f"/v1/models/{MODEL}/revive", {"reason": "over"})["accepted"]


def test_an_arm_that_is_not_in_the_route_is_refused_and_named(house):
    if not list(house.statuses()):
        house.start()
    done = cli("predict", MODEL, "shop=north", "basket=3", "--arm", "shadow", "-p", house.project)
    assert done.returncode != 0
    assert "no such arm. Got 'shadow'. Hint: the arms are champion" in done.stderr
    named = cli("predict", MODEL, "shop=north", "basket=3", "--arm", "champion", "-p", house.project, "--json")
    assert json.loads(named.stdout)["arm"] == "pinned"
