"""What the command line says of a home that `trimtab serve` serves, where there is no project."""

import json

import pytest
from tests.e2e.live_house import cli
from tests.e2e.worker_house import onnx_model

import trimtab as tt
from trimtab.app.alone import register_model, serve_model
from trimtab.errors import UnknownName


def registered(home, bias=0.0, name="m"):
    return register_model(home, onnx_model(bias), name=name, task=tt.regression(target="y"), columns=["a", "b"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("alone")
    version = registered(place / ".trimtab")
    with serve_model(place / ".trimtab", version, port=0) as served:
        served.predict([{"a": 1, "b": 2}] * 3)
        yield place


@pytest.fixture(params=["project", "home"])
def where(request, folder):
    return ("-p", folder) if request.param == "project" else ("--home", folder / ".trimtab")


@pytest.mark.parametrize(
    "asked",
    [
        ("restart-workers",),
        ("kill", "m", "--to", "constant", "--value", "1", "--reason", "x"),
        ("revive", "m", "--reason", "x"),
        ("rollback", "m", "--reason", "x"),
        ("deploy", "m", "0" * 12, "--reason", "x"),
        ("log",),
    ],
)
def test_what_a_project_decides_is_refused_with_what_to_do_instead(folder, where, asked):
    before = (folder / ".trimtab" / "route.json").read_bytes()
    done = cli(*asked, *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert "this home serves a model by itself" in done.stderr
    assert "end `trimtab serve` and start it again" in done.stderr
    assert (folder / ".trimtab" / "route.json").read_bytes() == before
    assert list((folder / ".trimtab" / "run").glob("kill-*")) == []
    assert not (folder / ".trimtab" / "ledger.db").exists()


def test_status_latency_and_a_question_need_no_project(where):
    done = cli("predict", "m", "a=1", "b=2", "--json", *where)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["outputs"] == [pytest.approx(0.50075, abs=1e-5)]
    done = cli("status", *where)
    assert done.returncode == 0, done.stderr
    assert "m: " in done.stdout
    assert "worker worker-1: running" in done.stdout
    [one] = json.loads(cli("status", "--json", *where).stdout)["models"]
    assert one["live"]["reason"] == "trimtab serve"
    [arm] = json.loads(cli("latency", "m", "--json", *where).stdout)["arms"]
    assert (arm["model"], arm["arm"], arm["rows"] >= 4) == ("m", "champion", True)
    assert cli("latency", *where).returncode == 0
    assert cli("latency", "other", *where).returncode == 2


def test_tune_says_what_puts_its_choice_in_force(folder):
    done = cli("tune", "m", "--p99", "5s", "--seconds", "0.2", "--workers", "1", "--threads", "1", "--batch", "1",
               "--home", folder / ".trimtab")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "start `trimtab serve` again" in done.stdout
    assert "restart-workers" not in done.stdout


def test_a_version_may_be_named_by_its_first_digits(tmp_path):
    first, second = registered(tmp_path), registered(tmp_path, 1.0, "other")
    with serve_model(tmp_path, first[:8], port=0) as served:
        assert (served.version, served.model) == (first, "m")
    for odd in (first[:7], "0" * 12, "0" * 64, "latest"):
        with pytest.raises(UnknownName) as refused:
            serve_model(tmp_path, odd, port=0)
        assert f"{first[:12]} (m)" in refused.value.hint
        assert f"{second[:12]} (other)" in refused.value.hint
    done = cli("serve", "latest", "--home", tmp_path)
    assert (done.returncode, first[:12] in done.stderr) == (2, True)


def test_serve_leaves_a_directory_without_models_as_it_is(tmp_path):
    done = cli("serve", "0" * 12, "-p", tmp_path)
    assert (done.returncode, "nothing was registered here" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
