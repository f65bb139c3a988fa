"""A setting that cannot be right is refused before anything starts: its name, what is wrong, what was got, what to do."""

import time
from pathlib import Path

import pytest
from tests.e2e.live_house import cli, make_project

from trimtab.app.home import Home
from trimtab.app.keeping import Keep
from trimtab.app.running import UpRequest, _options
from trimtab.app.setting_values import program, seconds, share, size, whole_number
from trimtab.core.settings import SETTINGS
from trimtab.errors import InputError

BAD = {
    "memory_budget": ["lots", "1KB", "-1", "1.5"],
    "cache_bytes": ["lots", "1KB", ""],
    "cache_ttl": ["soon", "0s", ""],
    "precomputed": ["yes"],
    "max_body": ["0", "-1", "1e6", "²", "9" * 5000],
    "max_batch_rows": ["many", "0"],
    "max_queue": ["0"],
    "deadline_ms": ["10s"],
    "server": ["apache"],
    "providers": ["gpu", ""],
    "access_log": ["/no/such/directory/log", "."],
    "access_log_share": ["half", "nan", "1.1"],
    "trace_share": ["-0.1"],
    "model_python": ["/no/such/python"],
    "records": ["later"],
    "records_when_full": ["ignore"],
    "records_segment": ["big", "1000"],
}
CASES = [(name, text) for name, texts in BAD.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_what_a_worker_cannot_be_told_is_refused_by_name(name, text, monkeypatch):
    monkeypatch.setenv(f"TRIMTAB_{name.upper()}", text)
    with pytest.raises(InputError, match=f"setting {name} ") as refused:
        _options(UpRequest(Path()), port=1, grpc_port=-1, driven=False)
    error = refused.value
    assert f"TRIMTAB_{name.upper()}" in error.what
    assert error.where == ""
    assert all((error.what, error.got, error.hint)), error.to_json()


@pytest.mark.parametrize(
    ("read", "name", "text"),
    [
        (whole_number, "port", "65536"),
        (whole_number, "console_port", "http"),
        (whole_number, "grpc_port", "-1"),
        (whole_number, "workers", "two"),
        (whole_number, "workers", "0"),
        (whole_number, "quarantine_rows", "all"),
        (seconds, "job_time", "1h"),
        (seconds, "job_time", "nan"),
        (seconds, "job_time", "0"),
    ],
)
def test_what_else_cannot_be_right(read, name, text, monkeypatch):
    monkeypatch.setenv(f"TRIMTAB_{name.upper()}", text)
    with pytest.raises(InputError, match=f"setting {name} ") as refused:
        read(name)
    assert all((refused.value.what, refused.value.got, refused.value.hint))


@pytest.mark.parametrize(("name", "text"), [("records_spools", "burn"), ("records_keep", "90"), ("records_keep", "0d")])
def test_how_records_are_kept(name, text, monkeypatch):
    monkeypatch.setenv(f"TRIMTAB_{name.upper()}", text)
    with pytest.raises(InputError, match=f"setting {name} ") as refused:
        Keep.read()
    assert all((refused.value.what, refused.value.got, refused.value.hint))


def test_every_setting_has_a_bad_value_here_or_takes_any_text():
    others = {
        "port",
        "console_port",
        "grpc_port",
        "workers",
        "quarantine_rows",
        "job_time",
        "records_spools",
        "records_keep",
    }
    assert {one.name for one in SETTINGS} - set(BAD) - others == {"home", "host"}


def test_what_is_right_is_read(monkeypatch):
    for name, text in {"cache_bytes": "64MB", "memory_budget": "12", "trace_share": "0.5"}.items():
        monkeypatch.setenv(f"TRIMTAB_{name.upper()}", text)
    assert (size("cache_bytes"), size("memory_budget"), share("trace_share")) == (64_000_000, 12, 0.5)
    assert (program("model_python"), seconds("job_time"), whole_number("port", 0)) == ("", 3600.0, 0)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("settings") / "clicks", until=time.time_ns() // 1000)


@pytest.mark.parametrize(
    ("name", "text"),
    [("CACHE_BYTES", "lots"), ("MEMORY_BUDGET", "1KB"), ("JOB_TIME", "1h"), ("PORT", "99999"), ("QUARANTINE_ROWS", "x"),
     ("HOME", __file__), ("WORKERS", "x"), ("CONSOLE_PORT", "70000"), ("GRPC_PORT", "x"), ("RECORDS_KEEP", "90"),
     ("MAX_QUEUE", "0")],
)  # fmt: skip
def test_up_says_so_in_one_line(name, text, project):
    done = cli("up", "-p", project, **{f"TRIMTAB_{name}": text})
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert f"TRIMTAB_{name}" in done.stderr
    assert text in done.stderr
    assert Home.of(project).ledger().head()[0] == 0  # nothing was taken over
