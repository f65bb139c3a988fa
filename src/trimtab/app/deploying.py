"""The deployment strategies, asked for by a person: kill switch, and rollouts whose end is waited for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.app.asked import read_constant, read_request
from trimtab.app.killing import KillOrder, check_constant, pull, wait_for
from trimtab.app.operations import ask, ask_directly, home_of, in_its_place, operator, running_control
from trimtab.app.platform import sentence
from trimtab.app.standalone import alone_home, refuse_alone
from trimtab.core.ledger import model_stream
from trimtab.errors import InputError, TrimtabError, Unavailable
from trimtab.loop import events as e

Result = dict[str, Any]
_POLL_S = 0.05
_WARM_S = 130.0
_KILL_S = 5.0
"""How long a kill switch waits for workers and for the control process to confirm it; it is in force before that."""


def deploy(
    path: Path,
    model: str,
    version: str,
    *,
    home: Path | None,
    reason: str,
    actor: str | None,
    force: bool,
    how: Mapping[str, str | None],
) -> Result:
    """Ask for a rollout; of a blue-green one, wait for the switch."""
    kind = "force" if force else "deploy"
    fields = {"version": version, "reason": reason, "actor": actor, **how}
    if not version and not how.get("winner") and how.get("strategy") != "ab":
        raise InputError("a version is needed", hint="trimtab deploy MODEL VERSION --reason …")
    refuse_alone(alone_home(path, home))
    if how.get("strategy") != "blue-green":
        return ask(path, model, kind, home=home, **fields)
    client = running_control(home_of(path, home))
    if client is not None:
        with client:
            answer = ask(path, model, kind, home=home, **fields)
            return _switched(answer, lambda: list(client.get(f"/v1/log?model={model}&limit=200")["events"]))
    with in_its_place(path, home) as live:
        body = {name: value for name, value in fields.items() if value} | {"actor": operator(actor)}
        answer = ask_directly(live, model, kind, body)

        def events() -> Sequence[Mapping[str, Any]]:
            live.warm()
            return [
                {"type": event.type, "data": event.data, "text": sentence(event)}
                for event in live.ledger.read(stream=model_stream(model))
            ]

        return _switched(answer, events)


def _switched(answer: Result, events: Callable[[], Sequence[Mapping[str, Any]]]) -> Result:
    """The answer once the green version answers everything, or was given up."""
    if not answer["accepted"] or not answer["rollout"]:
        return answer
    deadline = time.monotonic() + _WARM_S
    while time.monotonic() < deadline:
        found = list(events())
        for event in reversed(found):
            if event["type"] in (e.PROMOTED, e.REJECTED) and event["data"]["rollout"] == answer["rollout"]:
                done = event["type"] == e.PROMOTED
                return answer | {"accepted": done, "sentence": event["text"]}
        time.sleep(_POLL_S)
    raise Unavailable("the switch was not heard of in time", got=answer["sentence"], hint="`trimtab status` shows it")


def kill(
    path: Path, model: str, *, home: Path | None, to: str, value: str | None, reason: str, actor: str | None
) -> Result:
    """Pull the kill switch: in force first, then recorded."""
    refuse_alone(alone_home(path, home))
    place = home_of(path, home)
    fields = {"to": to, "value": value, "reason": reason, "actor": operator(actor), "id": secrets.token_hex(10)}
    asked = read_request("kill", fields, {})  # before anything is changed
    order = KillOrder(asked.id, model, asked.actor, asked.reason, read_constant({k: v for k, v in fields.items() if v}))
    check_constant(place, model, order.constant)
    began = time.monotonic()
    table = pull(place.route_file, place.run, order)
    workers = wait_for(place.run, table.generation, timeout_s=_KILL_S, model=model)
    effective = {
        "effective_ms": round((time.monotonic() - began) * 1000, 1),
        "generation": table.generation,
        "workers": workers.living,
        "obeying": workers.obeying,
        "problem": workers.problem,
    }
    try:
        recorded = _record(path, home, model, fields)
    except TrimtabError as error:
        told = f"The kill switch is on. It will be in the ledger as soon as a control process runs: {error}"
        recorded = {"accepted": True, "sentence": told, "event": None, "events": []}
    return recorded | effective


def _record(path: Path, home: Path | None, model: str, fields: Mapping[str, str | None]) -> Result:
    client = running_control(home_of(path, home), timeout_s=_KILL_S)
    body = {name: value for name, value in fields.items() if value}
    if client is not None:
        with client:
            return dict(client.post(f"/v1/models/{model}/kill", body))
    with in_its_place(path, home) as live:
        return ask_directly(live, model, "kill", body)


def revive(path: Path, model: str, *, home: Path | None, reason: str, actor: str | None) -> Result:
    """End the kill switch: the champion answers again."""
    return ask(path, model, "revive", home=home, reason=reason, actor=actor)
