"""A model that was made elsewhere, in a project: registered, judged, deployed and asked, all from the shell."""

import json
import re
import shutil
import time

import numpy as np
import pytest
from tests.e2e.live_house import CLICKS, MODEL, VISIT, LiveHouse, cli, make_project
from tests.e2e.worker_house import onnx_model

from trimtab.adapters.wire.client import JsonClient
from trimtab.core.clock import DAY, instant, iso
from trimtab.errors import UnknownName
from trimtab.loop import events as e

pytest_plugins = ["tests.e2e.live_fixtures"]
WIDTH = 7
"""Features of the project."""


@pytest.fixture(scope="module")
def house(trained, tmp_path_factory):
    made = LiveHouse(shutil.copytree(trained, tmp_path_factory.mktemp("brought") / "clicks"))
    (made.project / "basket.onnx").write_bytes(onnx_model(0.0, 1))
    (made.project / "all.onnx").write_bytes(onnx_model(0.0, WIDTH))
    (made.project / "handler.py").write_text(
        "def handle(data, context):\n    return [min(row['body']['basket'] / 100, 1.0) for row in data]\n"
    )
    made.start("--workers", "1")
    yield made
    made.kill()


def register(house, file, *more, kind="onnx"):
    done = cli("register", MODEL, house.project / file, "--kind", kind, "-p", house.project, "--json", *more)
    return done.returncode, json.loads(done.stdout)


def before(house, days):
    """A time before the end of the history."""
    live = json.loads(cli("status", "-p", house.project, "--json").stdout)
    return iso(instant(live["now"]) - days * DAY)


def told(house, *arguments):
    done = cli(*arguments, "-p", house.project, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_one_that_takes_inputs_of_the_request_is_registered_deployed_and_answers(house):
    code, made = register(
        house, "basket.onnx", "--columns", "basket", "--trained-until", before(house, 5), "--reason", "a rule of thumb",
        "--actor", "anna",
    )  # fmt: skip
    assert (code, made["registered"], made["passed"]) == (0, True, True), made
    version = made["version"]
    [event] = [one for one in house.events() if one.type == e.VERSION_BROUGHT]
    assert event.draft.actor == "operator:anna"
    assert (event.data["version"], event.data["reason"], event.data["by"]) == (version, "a rule of thumb", "anna")
    assert 0.5 < event.data["metrics"]["roc_auc"] <= 1
    assert event.data["rows"] > 100
    text = cli("log", "--model", MODEL, "-p", house.project).stdout
    assert f"({version[:8]}) was made elsewhere, anna registered it: a rule of thumb" in text
    [status] = told(house, "status")["models"]
    assert version in [one["version"] for one in status["versions"]]
    assert told(house, "gate", MODEL, str(made["number"]))["version"] == version

    shadowed = told(house, "deploy", MODEL, version, "--reason", "as any challenger")
    assert shadowed["accepted"]
    with JsonClient(house.data) as data:
        assert data.post(f"/predict/{MODEL}", {"id": "s1", **VISIT})["version"] != version
    told(house, "rollback", MODEL, "--reason", "enough")
    green = told(house, "deploy", MODEL, version, "--strategy", "blue-green", "--reason", "switch")
    assert green["accepted"], green
    found = told(house, "predict", MODEL, "shop=north", "basket=12.5")
    assert found["version"] == version
    assert found["outputs"] == [pytest.approx(1 / (1 + np.exp(-0.0125)), abs=1e-6)]
    assert [one.status for one in house.records() if one.version == version and one.arm == "champion"] == ["ok"]


def test_one_that_takes_the_features_of_the_project(house):
    code, made = register(house, "all.onnx")
    assert (code, made["registered"]) == (0, True)
    assert made["passed"] is False  # nobody said what it had learned from, so nothing can judge it
    refused = cli("deploy", MODEL, made["version"], "--reason", "x", "-p", house.project, "--json")
    assert refused.returncode == 1
    assert "only force" in json.loads(refused.stdout)["sentence"]
    forced = told(house, "deploy", MODEL, made["version"], "--force", "--reason", "we know it")
    assert forced["accepted"]
    with JsonClient(house.data) as data:
        seen = {data.post(f"/predict/{MODEL}", {"id": f"f{n}", **VISIT})["version"] for n in range(40)}
    assert made["version"] in seen
    told(house, "rollback", MODEL, "--reason", "enough")


def test_code_before_and_after_it_is_judged_shadowed_and_served_with_it(house):
    before_it, after_it = house.project / "scale.py", house.project / "turn.py"
    before_it.write_text("def preprocess(values):\n    return values * 1000\n")
    after_it.write_text("def postprocess(outputs):\n    return 1 - outputs\n")
    known = ("--columns", "basket", "--trained-until", before(house, 5))
    _, plain = register(house, "basket.onnx", *known, "--preprocess", before_it)
    code, made = register(house, "basket.onnx", *known, "--preprocess", before_it, "--postprocess", after_it)
    assert (code, made["registered"]) == (0, True), made
    ours = [one.data for one in house.events() if one.data.get("version") in (plain["version"], made["version"])]
    curves = {data["version"]: data["metrics"]["roc_auc"] for data in ours if "metrics" in data}
    assert curves[made["version"]] == pytest.approx(1 - curves[plain["version"]], abs=1e-3)
    how = ("--strategy", "blue-green", "--force", "--reason", "switch")
    assert told(house, "deploy", MODEL, str(made["number"]), *how)["accepted"]
    found = told(house, "predict", MODEL, "shop=north", "basket=0.5")
    assert found["outputs"] == [pytest.approx(1 - 1 / (1 + np.exp(-0.5)), abs=1e-6)]
    told(house, "rollback", MODEL, "--reason", "enough")


def test_a_handler(house):
    code, made = register(
        house, "handler.py", "--columns", "basket", "--trained-until", before(house, 5), kind="handler"
    )
    assert (code, made["registered"], made["passed"]) == (0, True, True), made
    green = told(house, "deploy", MODEL, made["version"], "--strategy", "blue-green", "--reason", "switch")
    assert green["accepted"], green
    assert told(house, "predict", MODEL, "shop=north", "basket=12.5")["outputs"] == [pytest.approx(0.125)]
    trained = cli("train", MODEL, "-p", house.project, "--json")  # with a champion that nothing here can score
    assert trained.returncode == 0, trained.stdout + trained.stderr
    told(house, "rollback", MODEL, "--reason", "enough")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--columns", "bucket"], "not the columns"),
        (["--columns", "basket", "--task", "regression"], "declares another task"),
        (["--columns", "basket", "--optional", "basket"], "what may be left out"),
    ],
)
def test_what_contradicts_the_project_is_refused_and_leaves_no_event(house, more, said):
    before = len(house.events())
    code, found = register(house, "basket.onnx", *more)
    assert code == 2
    assert said in found["error"]
    assert len(house.events()) == before


def test_again_is_refused_in_words(house):
    once = register(house, "basket.onnx", "--columns", "basket", "--trained-until", "2020-01-01")
    again = register(house, "basket.onnx", "--columns", "basket", "--trained-until", "2020-01-01")
    assert once[1]["version"] == again[1]["version"]
    assert (again[0], again[1]["registered"]) == (1, False)
    assert "registered already" in again[1]["sentence"]


def test_a_version_that_is_nowhere_is_not_taken_over_http(house):
    with house.console() as console, pytest.raises(UnknownName):
        console.post(f"/v1/models/{MODEL}/register", {"version": "ab" * 32, "reason": "x", "facts": "{}"})


def test_without_a_control_process_and_before_any_training(tmp_path):
    """The first version of a project may be one that was made elsewhere."""
    root = make_project(tmp_path / "clicks", until=time.time_ns() // 1000)
    (root / "basket.onnx").write_bytes(onnx_model(0.0, 1))
    made = cli("register", MODEL, root / "basket.onnx", "--kind", "onnx", "--columns", "basket", "-p", root)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "registered from basket.onnx" in made.stdout
    done = cli("deploy", MODEL, "1", "--force", "--reason", "to begin with", "-p", root, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verified = cli("log", "--verify", "-p", root)
    assert (verified.returncode, "is the champion" in verified.stdout) == (0, True)
    house = LiveHouse(root)
    try:
        house.start()
        found = told(house, "predict", MODEL, "shop=north", "basket=12.5")
        assert found["outputs"] == [pytest.approx(1 / (1 + np.exp(-0.0125)), abs=1e-6)]
    finally:
        house.kill()


def test_a_project_without_any_history_can_begin_with_it(tmp_path):
    root = tmp_path / "clicks"
    shutil.copytree(CLICKS, root)
    text = (root / "project.py").read_text()
    (root / "project.py").write_text(re.sub(r'history="[^"]*",', "", text))
    (root / "basket.onnx").write_bytes(onnx_model(0.0, 1))
    made = cli("register", MODEL, root / "basket.onnx", "--kind", "onnx", "--columns", "basket", "-p", root)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "no rows to judge it on" in made.stdout
