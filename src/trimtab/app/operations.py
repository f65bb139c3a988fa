"""The single steps: each asks the control process when one runs, and else takes its place for a moment."""

from __future__ import annotations

import getpass
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from trimtab.adapters.compute.supervisor import read_post
from trimtab.adapters.offline.parquet import read_history
from trimtab.adapters.project.file import find_project, load_project
from trimtab.adapters.wire.client import JsonClient
from trimtab.adapters.wire.status import read_status
from trimtab.app.asked import read_request
from trimtab.app.control import answer_of
from trimtab.app.fencing import CONTROL, Tenure, control_runs
from trimtab.app.home import HOME, Home, named_home
from trimtab.app.judging import judged
from trimtab.app.live import Live, open_home, standing_clock
from trimtab.app.overview import counts_of, ledger_status, log_events, models_status, records_status, workers_status
from trimtab.app.platform import sentence
from trimtab.app.replaying import checked_project
from trimtab.app.running import OWN_TOKEN
from trimtab.app.schedules import schedules_status
from trimtab.app.setting_values import seconds
from trimtab.app.signing import check_signed_head
from trimtab.app.standalone import alone_home, alone_status, refuse_alone
from trimtab.core.clock import instant, iso
from trimtab.core.ids import Json
from trimtab.core.ledger import Event, Ledger, model_stream
from trimtab.errors import JobFailed, ProjectError, TrimtabError, Unavailable
from trimtab.loop import events as e
from trimtab.loop.project import Problem, check, check_history

Result = dict[str, Any]
_POLL_S = 0.2
_START_S = 10.0
_MAKES = ("train", "register")
"""What may make a home where one was named."""


# -- the project


def check_project(path: Path) -> Result:
    """Everything that is wrong with a project, its histories included."""
    try:
        project = load_project(path)
    except ProjectError as error:
        if not error.where:
            raise
        return _checked([Problem.of(error)], [], [])
    problems = check(project)
    if not problems:
        history = {}
        for name, source in project.sources.items():
            if not source.history:
                continue
            try:
                history[name] = read_history(source, Path(project.root))
            except TrimtabError as error:
                problems.append(Problem.of(error))
        problems += check_history(project, history)
    return _checked(problems, sorted(project.models), sorted(project.sources))


def _checked(problems: Sequence[Problem], models: list[str], sources: list[str]) -> Result:
    fields = ("what", "got", "hint", "where")
    told = [{name: getattr(problem, name) for name in fields} for problem in problems]
    return {"problems": told, "models": models, "sources": sources}


# -- the way in


def home_of(path: Path, given: Path | None) -> Home:
    """The home that was named, or that of the project. It is not made: a folder without a project is left as it is.

    The project is not run: a rollback must reach the control process even while the file is being edited.
    """
    return named_home(given) or Home(find_project(path).parent / HOME)


def existing_home(path: Path, given: Path | None = None) -> Home:
    """The home that was named, else that of the project; where one is.

    Raises
    ------
    Unavailable
        When there is none: the project was never started or trained, or another place was meant.
    """
    named = named_home(given)
    folder = path if path.is_dir() else path.parent
    home = named or Home(folder.resolve() / HOME)
    refuse_alone(home)
    if not (home.root / "ledger.db").exists():
        what = "there is no home of a project here" if named else "this project has no home yet"
        hint = "`trimtab up` or `trimtab train` makes one; --home or TRIMTAB_HOME names one that is elsewhere"
        raise Unavailable(what, got=str(home.root), hint=hint)
    return home


def running_control(home: Home, *, timeout_s: float = 120.0) -> JsonClient | None:
    """The control process of a home, None when none runs.

    Raises
    ------
    Unavailable
        When one runs that does not say where.
    """
    deadline = time.monotonic() + _START_S
    while control_runs(home.run):
        try:
            facts = msgspec.json.decode((home.run / CONTROL).read_bytes())
            token = os.environ.get("TRIMTAB_TOKEN") or (home.run / OWN_TOKEN).read_text()
            return JsonClient(facts["console"], token=token, timeout_s=timeout_s)
        except FileNotFoundError:  # it is just starting, or has just stopped
            if time.monotonic() > deadline:
                raise Unavailable(
                    "a control process runs but does not say where", got=str(home.run), hint="wait until it is ready"
                ) from None
            time.sleep(_POLL_S)
        except PermissionError as error:
            raise Unavailable(
                "the token of the control process cannot be read", got=str(error), hint="set TRIMTAB_TOKEN"
            ) from None
    return None


@contextmanager
def in_its_place(path: Path, given: Path | None) -> Iterator[Live]:
    """Be the control process for a moment: the loops of a project, without its observers and its ingest."""
    project = checked_project(path)
    home = open_home(project, given)
    clock, driven = standing_clock(home)
    ledger = home.ledger()
    check_signed_head(home, ledger)
    tenure = Tenure(home.run, ledger, clock)
    try:
        yield Live(project, home, clock=clock, driven=driven, ledger=ledger, tenure=tenure)
    finally:
        tenure.close()


def operator(actor: str | None) -> str:
    """Who asks: the one named, else the user of this machine."""
    try:
        return actor or f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name
        return "operator:cli"


def ask(path: Path, model: str, kind: str, *, home: Path | None = None, **fields: str | None) -> Result:
    """Ask for something; what became of it: ``{accepted, sentence, event, job, events}``."""
    body = {"id": secrets.token_hex(10), **{name: value for name, value in fields.items() if value}}
    body["actor"] = operator(fields.get("actor"))
    # Anything else may not make a home where one was named: a wrong name must not leave an empty one behind.
    if kind not in _MAKES:
        refuse_alone(alone_home(path, home))
    place = home_of(path, home) if named_home(home) is None or kind in _MAKES else existing_home(path, home)
    client = running_control(place)
    if client is not None:
        with client:
            return dict(client.post(f"/v1/models/{model}/{kind}", body))
    with in_its_place(path, home) as live:
        return ask_directly(live, model, kind, body)


def ask_directly(live: Live, model: str, kind: str, body: Mapping[str, Json]) -> Result:
    """Ask in the place of the control process."""
    asked = read_request(kind, body, live.versions(model))
    return answer_of(asked, live.ask(model, asked))


# -- the steps


def train_once(path: Path, model: str, *, cutoff: str | None, home: Path | None = None) -> Result:
    """Ask for a training and wait until it is over."""
    fields = {"reason": "asked for on the command line", "cutoff": cutoff, "actor": None}
    began = time.monotonic()
    client = running_control(home_of(path, home))
    if client is not None:
        with client:
            answer = ask(path, model, "train", home=home, **fields)
            ended, followed = _wait(_accepted(answer), lambda: _remote_events(client, model))
    else:
        with in_its_place(path, home) as live:
            body = {name: value for name, value in fields.items() if value} | {"actor": operator(None)}
            answer = ask_directly(live, model, "train", body)

            def events() -> list[Mapping[str, Json]]:
                live.models[model].finish_trainings(live.clock.now())
                return [_plain(event) for event in live.ledger.read(stream=model_stream(model))]

            ended, followed = _wait(_accepted(answer), events)
    data = ended["data"]
    if ended["type"] == e.TRAINING_FAILED:
        raise JobFailed("the training failed", got=str(data["error"]))
    return {
        "model": model,
        "version": data["version"],
        "rows": data["rows"],
        "trained_until": iso(data["trained_until"]),
        "metrics": data["metrics"],
        "seconds": round(time.monotonic() - began, 3),
        "decisions": [event["text"] for event in followed],
        "rejected": any(event["type"] == e.REJECTED for event in followed),
    }


def _accepted(answer: Result) -> str:
    if not answer["accepted"] or not answer.get("job"):
        raise JobFailed("the loop does not train now", got=str(answer["sentence"]))
    return str(answer["job"])


_FOLLOWS = frozenset(
    {e.TRAINING_REPEATED, e.FLOORS_JUDGED, e.ROLLOUT_STARTED, e.GATE_JUDGED, e.APPROVAL_REQUESTED, e.TRAFFIC_SHIFTED}
    | {e.PROMOTED, e.REJECTED}
)


def _wait(
    job: str, events: Callable[[], Sequence[Mapping[str, Json]]]
) -> tuple[Mapping[str, Json], list[Mapping[str, Json]]]:
    """The end of a training, and what the loop decided about its version in the same step."""
    deadline = time.monotonic() + seconds("job_time") + 60
    while time.monotonic() < deadline:
        found = events()
        for place, event in enumerate(found):
            if event["type"] in (e.TRAINING_FINISHED, e.TRAINING_FAILED) and event["data"]["job"] == job:
                version = event["data"].get("version", "")
                later = [after for after in found[place + 1 :] if after["data"].get("version") == version]
                return event, [after for after in later if after["type"] in _FOLLOWS]
        time.sleep(_POLL_S)
    raise JobFailed("the training did not end in time", got=job, hint="see its directory below jobs/")


def _remote_events(client: JsonClient, model: str) -> list[Mapping[str, Json]]:
    return list(client.get(f"/v1/log?model={model}&limit=200")["events"])


def _plain(event: Event) -> Mapping[str, Json]:
    return {"type": event.type, "data": event.data, "text": sentence(event)}


def judge(path: Path, model: str, version: str, *, home: Path | None = None) -> Result:
    """What the gates of a model say of a version, from the ledger: its floors, and the comparison."""
    return judged(existing_home(path, home).ledger(), model, version)


def show_status(path: Path, *, home: Path | None = None) -> Result:
    """What the status page shows, also when no control process runs."""
    served = alone_home(path, home)
    if served is not None:
        return alone_status(served)
    place = existing_home(path, home)
    client = running_control(place)
    if client is not None:
        with client:
            return dict(client.get("/v1/status"))
    ledger = place.ledger()
    clock, _ = standing_clock(place)
    streams = dict.fromkeys(event.stream for event in ledger.read())
    models = [stream.removeprefix("model:") for stream in streams if stream.startswith("model:")]
    posts = [read_post(place.run, file.stem) for file in sorted(place.run.glob("worker-*.pid"))]
    found = counts_of(place.root)
    return {
        "project": place.root.parent.name if place.root.name == HOME else place.root.name,
        "now": iso(clock.now()),
        "ledger": ledger_status(ledger),
        "control": {"state": "gone", "pid": None, "since": None},
        "models": models_status(ledger, sorted(models), clock.now(), series=place.series()),
        "sources": [],
        "batches": schedules_status(place, ledger, clock.now()),
        "workers": workers_status(place.run, {post.name: "running" for post in posts if post.held}, found),
        "records": records_status(found, place),
    }


def show_log(
    path: Path, *, at: str | None, model: str | None, limit: int, verify: bool, home: Path | None = None
) -> Result:
    """What was decided, from the ledger alone."""
    place = existing_home(path, home)
    ledger = place.ledger()
    checked = {"verified": _verified(place, ledger)} if verify else {}
    return checked | log_events(ledger, at=None if at is None else instant(at), model=model, limit=limit)


def _verified(home: Home, ledger: Ledger) -> int:
    from trimtab.adapters.ledger.sqlite import SqliteLedger

    assert isinstance(ledger, SqliteLedger)
    checked = ledger.verify()
    check_signed_head(home, ledger)
    return checked


def data_plane(home: Home) -> str:
    """Where a living worker of a home answers; the control process need not run.

    Raises
    ------
    Unavailable
        When none lives.
    """
    for file in sorted(home.run.glob("worker-*.pid")):
        said = read_status(file.with_suffix(".json"))
        if said is not None and read_post(home.run, file.stem).held:
            host = f"[{said.host}]" if ":" in said.host else said.host
            return f"http://{host}:{said.port}"
    raise Unavailable("no serving worker runs", got=str(home.root), hint="start `trimtab up`, or give --home or --url")
