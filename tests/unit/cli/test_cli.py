"""The command line: options in, functions of ``trimtab.app`` called, text or JSON and an exit code out."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from trimtab import app
from trimtab.cli.main import COMMANDS, trimtab
from trimtab.errors import InputError, JobFailed, LedgerCorrupt, ProjectError, UnknownName
from trimtab.web.terminal import Tick

MONTH = {
    "month": "2013-03",
    "requests": 1000,
    "labelled": 970,
    "base_rate": 0.2,
    "frozen": {"loss": 0.5, "auc": 0.7, "ece": 0.03},
    "trimtab": {"loss": 0.51, "auc": 0.69, "ece": 0.04},
    "lost": True,
}
REPLAYED = {
    "digest": "ab" * 32,
    "outcome": "late",
    "loss": "log_loss",
    "months": [MONTH],
    "total": MONTH | {"month": "total", "lost": False},
    "decisions": [{"when": "2013-03-04T00:00:00Z", "kind": "train", "sentence": "Trained.", "evidence": {}}],
    "counts": {"requests answered": 1000},
    "timings": {"features": 1.5},
    "parity": {"sampled": 10, "mismatch": 0},
}
AT = "2013-08-15T14:05Z"
LIVE = {
    "model": "late",
    "version": "4f9c2a7be1d0",
    "since": "2013-08-05T00:00:00Z",
    "actor": "loop",
    "approved_by": "operator:ada",
    "reason": "it beats the champion",
    "arms": [{"name": "champion", "version": "4f9c2a7be1d0", "share": 1.0}],
    "evidence": {"e_value": 22.4, "guardrails": {"errors": 0}},
}
EVENT = {"seq": 1, "when": AT, "stream": "model:late", "type": "Promoted", "actor": "loop", "text": "It answers now."}


@pytest.fixture
def fake(monkeypatch):
    """Stand in for one function of the app; remembers how it was called."""
    calls = []

    def put(name, result):
        def function(*args, **kwargs):
            calls.append((args, kwargs))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(app, name, function, raising=False)
        return calls

    return put


def run(*arguments):
    return CliRunner().invoke(trimtab, arguments)


def test_every_command_explains_itself_and_shows_an_example():
    for command in COMMANDS:
        done = run(command.name, "--help")
        assert done.exit_code == 0
        assert "Examples:" in done.output
        assert f"trimtab {command.name}" in done.output
        assert "--json" in done.output
        assert "--project" in done.output
        assert command.help


def test_check_ends_with_one_when_there_are_problems(fake):
    problem = {"what": "no such column", "got": "'dealy'", "hint": "did you mean 'delay'?", "where": "project.py:12"}
    fake("check", {"problems": [problem], "models": [], "sources": []})
    done = run("check")
    assert done.exit_code == 1
    assert done.output.splitlines()[:3] == [
        "project.py:12: no such column",
        "    got:  'dealy'",
        "    hint: did you mean 'delay'?",
    ]


def test_check_says_ok(fake):
    calls = fake("check", {"problems": [], "models": ["late"], "sources": ["landings"]})
    done = run("check", "-p", "here")
    assert (done.exit_code, done.output) == (0, "ok: models late; sources landings\n")
    assert str(calls[0][0][0]) == "here"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad", got="x"), 2),
        (UnknownName("no such model", got="'m'"), 2),
        (ProjectError("a project that cannot work"), 2),
        (JobFailed("the job died"), 1),
        (LedgerCorrupt("changed"), 1),
    ],
)
def test_an_error_is_one_line_on_stderr_or_json_on_stdout(fake, error, code):
    fake("status", error)
    plain, coded = run("status"), run("status", "--json")
    assert plain.exit_code == coded.exit_code == code
    assert plain.stdout == ""
    assert plain.stderr.count("\n") == 1
    assert plain.stderr.startswith(f"trimtab: {error.what}")
    assert json.loads(coded.stdout)["kind"] == type(error).__name__
    assert coded.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "m", "v"),
        ("deploy", "m", "v", "--force"),
        ("rollback", "m"),
        ("approve", "m", "v"),
        ("train",),
        ("nonsense",),
        ("log", "--limit", "-1"),
        ("predict", "m", "carrier"),
    ],
)
def test_bad_input_ends_with_two(arguments, fake):
    fake("predict", {})
    assert run(*arguments).exit_code == 2


def test_replay_prints_the_months_and_the_digest(fake, monkeypatch):
    monkeypatch.setattr(app, "monotonic", lambda: 0)

    def replay(project, *, progress, **_):
        progress(Tick(0, 0, 10, 0, decision="Trained on everything."))
        progress(Tick(10, 0, 10, 1000))
        return REPLAYED

    monkeypatch.setattr(app, "replay", replay)
    done = run("replay", "--seed", "3")
    assert done.exit_code == 0
    assert "1970-01-01 00:00  Trained on everything." in done.output
    assert "<- retraining lost" in done.output
    assert f"1 decision, digest {'ab' * 32}" in done.output


def test_replay_as_json_keeps_stdout_for_the_answer(fake, monkeypatch):
    monkeypatch.setattr(app, "monotonic", lambda: 0)
    calls = fake("replay", REPLAYED)
    done = run("replay", "--json", "--fault", "a", "--fault", "b")
    assert json.loads(done.stdout)["digest"] == "ab" * 32
    assert calls[0][1]["fault"] == ["a", "b"]


@pytest.mark.parametrize("option", ["--report", "--out"])
@pytest.mark.parametrize("place", ["missing/x.html", "file/x.html", "closed/x.html"])
def test_replay_says_first_that_its_outcome_cannot_be_written(fake, tmp_path, monkeypatch, option, place):
    monkeypatch.setattr(app, "monotonic", lambda: 0)
    calls = fake("replay", REPLAYED)
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and real(path, mode))
    done = run("replay", option, str(tmp_path / place))
    if option == "--out" and place.startswith("missing"):  # it is made, with the directories above it
        assert done.exit_code == 0
        return
    assert (done.exit_code, calls) == (2, [])
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


def test_gate_ends_with_one_when_the_version_does_not_pass(fake):
    check = {"name": "roc_auc", "value": 0.61, "bound": 0.7, "side": "at_least", "passed": False}
    fake("gate", {"passed": False, "checks": [check]})
    done = run("gate", "late", "4f9c")
    assert done.exit_code == 1
    assert "FAILED" in done.output
    assert done.output.endswith("not passed\n")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("deploy", ("late", "4f9c", "--reason", "because", "--force", "--actor", "operator:ada")),
        ("approve", ("late", "4f9c", "--reason", "read it", "--deny")),
        ("rollback", ("late", "--reason", "complaints")),
        ("revive", ("late", "--reason", "it is over")),
        ("deploy", ("late", "--reason", "better", "--winner", "b")),
    ],
)
def test_asking_for_a_change(fake, name, arguments):
    calls = fake(name, {"accepted": True, "sentence": "It was taken up.", "event": "e1"})
    done = run(name, *arguments)
    assert (done.exit_code, done.output) == (0, "It was taken up.\n")
    assert calls[0][1]["reason"]
    fake(name, {"accepted": False, "sentence": "Nothing waits.", "event": None})
    assert run(name, *arguments).exit_code == 1


KILLED = {
    "accepted": True, "sentence": "The switch is on.", "effective_ms": 12.5, "workers": 2, "obeying": 2, "problem": "",
}  # fmt: skip


def test_kill_says_how_many_obey_and_after_how_long(fake):
    calls = fake("kill", KILLED)
    done = run("kill", "late", "--to", "constant", "--value", "0.2", "--reason", "incident")
    assert (done.exit_code, done.output) == (0, "The switch is on.\n2 of 2 workers obey after 12.5 ms\n")
    assert (calls[0][1]["to"], calls[0][1]["value"]) == ("constant", "0.2")
    fake("kill", KILLED | {"problem": "no memory", "obeying": 1})
    done = run("kill", "late", "--to", "previous", "--reason", "incident")
    assert done.exit_code == 1
    assert "A worker cannot: no memory" in done.output


def test_deploy_passes_its_strategy_on(fake):
    calls = fake("deploy", {"accepted": True, "sentence": "ok", "event": "e1"})
    assert run("deploy", "late", "2", "--strategy", "canary", "--share", "0.1", "--reason", "r").exit_code == 0
    assert calls[0][1]["how"] == {"strategy": "canary", "share": "0.1", "arms": None, "unit": None, "winner": None}
    assert run("deploy", "late", "2", "--strategy", "red", "--reason", "r").exit_code == 2


@pytest.mark.parametrize("kept", [True, False])
def test_ab_shows_the_arms_and_fails_on_a_broken_split(fake, kept):
    arm = {"name": "a", "version": "4f" * 32, "share": 0.5, "requests": 10, "units": 5, "errors": 0, "rows": 0}
    other = {"arm": "b", "against": "a", "difference": 0.1, "low": 0.05, "high": 0.15, "evidence": 40.0}
    fake("ab", {
        "model": "late", "test": "t" * 20, "unit": "user", "metric": "outcome", "since": AT, "ended": None,
        "arms": [arm | {"mean": None, "low": None, "high": None}],
        "differences": [other | {"verdict": "higher", "waits": ""}, other | {"verdict": "open", "waits": "few units"}],
        "alpha": 0.05, "split_evidence": 1.0, "split_kept": kept,
    })  # fmt: skip
    done = run("ab", "late")
    assert done.exit_code == (0 if kept else 1)
    for words in ("a: version 4f4f4f4f4f4f, 50%", "b - a: 0.1 (0.05 to 0.15)", "higher", "open (few units)"):
        assert words in done.output
    assert ("believe none" in done.output) != kept


def test_log_at_answers_what_was_live_who_approved_it_and_on_what_evidence(fake):
    calls = fake("log", {"events": [EVENT], "live": [LIVE], "verified": 7})
    done = run("log", "--at", AT, "--verify")
    assert calls[0][1] == {"home": None, "at": AT, "model": None, "limit": 50, "verify": True}
    for words in ("late: 4f9c2a7be1d0", "approved by operator:ada", "e_value: 22.4", "errors: 0", "7 events"):
        assert words in done.output
    assert done.output.splitlines()[-1] == "2013-08-15 14:05  model:late               It answers now."


def test_log_at_shows_floors_as_sentences_with_what_was_measured(fake):
    checks = [
        {"measure": "roc_auc", "value": 0.74, "bound": 0.7, "side": "at_least", "passed": True},
        {"measure": "latency_p99_ms", "value": None, "bound": 50.0, "side": "at_most", "passed": True},
    ]
    floors = {"checks": checks, "measured_values": {"latency_p99_ms": 0.21}}
    fake("log", {"events": [], "live": [LIVE | {"evidence": {"days": 9, "floors": floors, "other": [{"a": None}]}}]})
    output = run("log", "--at", AT).output
    for words in ("roc_auc 0.74, at least 0.7: passed", "latency_p99_ms 0.21, at most 50: passed", "days: 9"):
        assert words in output
    assert "{" not in output
    assert "None" not in output


def test_check_counts_one_problem_as_one(fake):
    fake("check", {"problems": [{"what": "w"}], "models": [], "sources": []})
    assert run("check").output.splitlines()[-1] == "1 problem"


@pytest.mark.parametrize(
    "arguments", [("deploy", "m", "v"), ("train",), ("nonsense",), ("log", "--limit", "-1"), ("log", "--colour")]
)
def test_a_misused_command_answers_as_json_where_json_was_asked_for(arguments):
    done = run(*arguments, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["kind"] == "InputError"
    assert done.stderr == ""


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "trimtab", "--version"], capture_output=True, text=True, check=True)
    assert "version" in done.stdout


def test_log_says_when_nothing_was_live(fake):
    fake("log", {"events": [], "live": []})
    assert "nothing was live" in run("log", "--at", AT).output


def test_predict_takes_pairs_and_a_file_and_pairs_win(fake, tmp_path):
    calls = fake("predict", {"model": "late", "outputs": [float("nan")]})
    source = tmp_path / "request.json"
    source.write_text('{"carrier": "AA", "distance": 760}')
    done = run("predict", "late", "carrier=UA", "--from", str(source), "--json")
    assert calls[0][0][2] == {"carrier": "UA", "distance": 760}
    assert json.loads(done.stdout)["outputs"] == [None]


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_predict_refuses_a_file_that_is_no_object(fake, tmp_path, text):
    fake("predict", {})
    source = tmp_path / "request.json"
    source.write_text(text)
    done = run("predict", "late", "--from", str(source))
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


def test_status_shows_what_is_live_and_what_waits(fake):
    model = {
        "name": "late",
        "live": {"version": "4f9c2a7be1d0aa", "since": "2013-08-05T00:00:00Z", "reason": "it beats the champion"},
        "waiting": {"what": "approval", "version": "77aa", "since": "2013-08-06T00:00:00Z"},
        "rollout": {"step": "shadow", "challenger": "77aa", "since": "2013-08-05T00:00:00Z", "evidence": {"e": 3.0}},
        "drift": [{"feature": "wind", "severity": "critical", "psi": 0.4, "alarm": 0.1}],
    }
    source = {"name": "landings", "rows": 5, "watermark": {"known": "2013-08-06T01:00:00Z"}}
    fake("status", {"project": "flights", "now": AT, "models": [model], "sources": [source], "workers": []})
    output = run("status").output
    for words in ("4f9c2a7be1d0 live since 2013-08-05 00:00", "waiting: approval 77aa", "drift critical: wind", "e: 3"):
        assert words in output


def test_up_says_where_it_answers_and_reports_a_refusal(monkeypatch):
    seen = {}

    def up(project, *, ready, **settings):
        seen.update(settings)
        ready({"data_plane": "http://127.0.0.1:8080", "console": "x", "pid": 12345, "token_from": "environment"})

    monkeypatch.setattr(app, "up", up)
    done = run("up", "--workers", "2")
    assert (done.exit_code, done.output) == (
        0,
        "data_plane: http://127.0.0.1:8080\npid: 12345\ntoken: that of TRIMTAB_TOKEN\n",
    )
    assert callable(seen.pop("page"))
    unset = dict.fromkeys(("home", "host", "port", "console_port", "grpc_port", "clock", "memory_budget", "server"))
    assert seen == unset | {"workers": 2, "take_over": False, "new_token": False}

    def broken(project, **_):
        raise ProjectError("a project file that raises", where="project.py:3")

    monkeypatch.setattr(app, "up", broken)
    assert run("up").exit_code == 2


def test_train_prints_its_facts(fake):
    fake("train", {"model": "late", "version": "4f9c", "metrics": {"roc_auc": 0.74}})
    assert run("train", "late").output == "model: late\nversion: 4f9c\nmetrics:\n  roc_auc: 0.74\n"


def test_train_tells_what_followed_and_ends_with_one_when_it_was_rejected(fake):
    fake("train", {"model": "late", "decisions": ["Version 1 fails its floors", "It is rejected"], "rejected": True})
    done = run("train", "late")
    assert (done.exit_code, done.output) == (1, "model: late\nVersion 1 fails its floors\nIt is rejected\n")
    fake("train", {"model": "late", "decisions": ["Version 2 is the champion"], "rejected": False})
    assert run("train", "late").exit_code == 0
    assert "answers nothing until" not in run("train", "--help").output


WITH_A_HOME = {
    "train": ["m"],
    "gate": ["m", "v"],
    "deploy": ["m", "v", "--reason", "r"],
    "approve": ["m", "v", "--reason", "r"],
    "rollback": ["m", "--reason", "r"],
    "status": [],
    "latency": [],
    "log": [],
    "send": ["sales", "-"],
    "predict": ["m"],
    "up": [],
    "kill": ["m", "--to", "previous", "--reason", "r"],
    "revive": ["m", "--reason", "r"],
    "ab": ["m"],
    "quantise": ["m"],
    "restart-workers": [],
    "tune": ["m", "--p99", "5ms"],
    "batch": ["m", "--in", "r.parquet", "--out", "s.parquet"],
}


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_that_works_on_a_home_takes_it(name, fake):
    """A check reads no home, and a replay has one of its own; register hands it on in its own way."""
    calls = fake(name.replace("-", "_"), InputError("stop here"))
    done = run(name, *WITH_A_HOME.get(name, []), "--home", "/srv/shop")
    assert done.exit_code == 2
    assert [str(kwargs["home"]) for _, kwargs in calls] == (["/srv/shop"] if name in WITH_A_HOME else [])


def test_help_does_not_load_what_it_does_not_need():
    code = (
        "import sys; sys.argv = ['trimtab', '--help']\n"
        "from trimtab.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'numpy', 'pyarrow', 'onnxruntime', 'pandas'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


SENT = {"source": "sales", "sent": 1200, "accepted": 1190, "repeated": 10, "quarantined": 0, "reasons": [], "rows": []}


def test_send_counts_rows_and_ends_with_one_when_some_were_quarantined(fake, tmp_path):
    file = tmp_path / "sales.jsonl"
    file.write_text("")
    calls = fake("send", SENT)
    done = run("send", "sales", str(file))
    assert (done.exit_code, done.output) == (0, "sales: 1,200 rows sent, 1,190 accepted, 10 repeated, 0 quarantined\n")
    assert calls[0][0][1:] == ("sales", file)
    bad = [{"row": n, "column": "amount", "reason": "out of range", "value": "-1"} for n in range(1, 13)]
    reasons = [{"column": "amount", "reason": "out of range", "rows": 12}]
    fake("send", SENT | {"quarantined": 12, "reasons": reasons, "rows": bad})
    done = run("send", "sales", str(file))
    assert done.exit_code == 1
    assert "  12 x amount: out of range\n  row 1: amount = -1: out of range\n" in done.output
    assert done.output.endswith("  2 more; --json lists the first 1,000\n")
    coded = run("send", "sales", str(file), "--json")
    assert (coded.exit_code, len(json.loads(coded.stdout)["rows"])) == (1, 12)
    assert run("send", "sales", str(tmp_path / "absent.jsonl")).exit_code == 2
