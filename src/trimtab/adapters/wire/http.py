"""The data plane's paths and what they answer, independent of the server that carries them.

::

    POST /predict/<model>[/versions/<v>]           by entity keys and inputs
    GET  /v2 · /v2/health/live · /v2/health/ready  Open Inference Protocol, version 2
    GET  /v2/models/<model>[/versions/<v>][/ready]
    POST /v2/models/<model>[/versions/<v>]/infer
    GET  /health · /metrics · /openapi.json · /docs
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from trimtab.adapters.wire.exchange import Incoming, Respond
from trimtab.adapters.wire.metrics import WorkerMetrics
from trimtab.adapters.wire.pacing import PacedRefusals
from trimtab.adapters.wire.reply import (
    BYTES_TYPE,
    HTML_TYPE,
    JSON_TYPE,
    TEXT_TYPE,
    Reply,
    refuse,
    reply_error,
    reply_json,
)
from trimtab.adapters.wire.shadowing import ShadowTurns
from trimtab.adapters.wire.turns import BatchTurns
from trimtab.core.ids import Json
from trimtab.errors import InputError, Overloaded, TooLate, TrimtabError, UnknownName
from trimtab.serving.ask import LONGEST_MS, NO_STEER, Steer
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.infer import EXTENSIONS, LENGTH_HEADER, Encoded, decode_infer, encode_infer, header_length
from trimtab.serving.openapi import describe_api
from trimtab.serving.tensors import TensorAnswer, describe

_log = logging.getLogger("trimtab.serving")
_READ = ("GET", "HEAD")
_JSON_ENOUGH = frozenset({JSON_TYPE, b"text/json", b"application/x-www-form-urlencoded", b"text/plain", b""})
"""What a body of JSON may be declared as: `curl -d` declares a form, and some clients plain text."""

_REMEMBERED = 1000
_UNIT, _ARM, _DEADLINE = b"x-trimtab-unit", b"x-trimtab-arm", b"x-trimtab-deadline-ms"
_ASIDE = 8
"""Batches that may wait for other processes at a time."""


class Target(NamedTuple):
    """What a path asks for."""

    kind: str
    """``predict``, ``infer`` or ``read``."""
    model: str
    version: str = ""
    parts: tuple[str, ...] = ()


class DataPlane:
    """Answers requests of the data plane; one per worker, used from its event loop only.

    Parameters
    ----------
    software
        Version of the server, as ``/v2`` tells it.
    page
        Makes ``/docs`` of the OpenAPI description; without it there is no such path.
    metrics
        What ``/metrics`` tells.
    hindered
        Why nothing can be answered at this moment; empty when it can.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        software: str = "",
        page: Callable[[Json], str] | None = None,
        metrics: WorkerMetrics | None = None,
        hindered: Callable[[], str] = lambda: "",
    ) -> None:
        self.dispatcher, self._hindered = dispatcher, hindered
        self.replies: Counter[int] = Counter()
        """Answers by HTTP status."""
        self._fixed: dict[str, Callable[[], Reply]] = {
            "health": self._health,
            "metrics": self._metrics,
            "v2": lambda: reply_json({"name": "trimtab", "version": software, "extensions": list(EXTENSIONS)}),
            "v2/health/live": lambda: reply_json({"live": True}),
            "v2/health/ready": self._ready,
            "openapi.json": lambda: reply_json(self._api()),
        }
        self._last: tuple[TrimtabError | None, bool, Reply] = (None, False, Reply(503, b""))
        """The last refusal: under overload the same is said again and again."""
        self.metrics = metrics or WorkerMetrics(None, "alone")
        self.threads = ThreadPoolExecutor(_ASIDE, "trimtab-aside")
        """For what blocks; starts no thread before it is needed."""
        self.shadow = ShadowTurns(dispatcher, self.threads)
        self._turns = BatchTurns(dispatcher, self.shadow, self.threads)
        self.wake = self._turns.wake
        self.paced = PacedRefusals()
        self._targets: dict[str, Target] = {}
        if page is not None:
            self._fixed["docs"] = lambda: Reply(200, page(self._api()).encode(), HTML_TYPE)
        self._software = software

    def take(self, incoming: Incoming, respond: Respond) -> None:
        """Answer one request, now or when its batch is done; whatever happens, ``respond`` is called once."""
        model = ""
        try:
            target = self._targets.get(incoming.path) or self._target(incoming.path)
            model = target.model
            if target.kind == "infer":
                self._infer(target, incoming, respond)
            elif target.kind == "predict":
                self._predict(target, incoming, respond)
            else:
                respond(self.counted(self._read(target, incoming)))
        except (Overloaded, TooLate) as error:
            self.paced.refuse(respond, self._refused(model, error, plain=incoming.path.startswith("/v2")))
        except TrimtabError as error:
            respond(self._refused(model, error, plain=incoming.path.startswith("/v2")))
        except Exception:  # noqa: BLE001 - the last line of defence: the caller gets an answer, the worker lives on
            _log.exception("a request failed")
            respond(self.counted(refuse(500, "an internal error", hint="see the log of the worker")))

    def counted(self, reply: Reply, _method: str = "", _path: str = "") -> Reply:
        """Count a reply, also one that was made before the request came this far."""
        self.replies[reply.status] += 1
        return reply

    def _refused(self, model: str, error: TrimtabError, *, plain: bool = False) -> Reply:
        known = model if model in self.dispatcher.engine.live.table.routes else ""  # nothing that callers make up
        self.metrics.meter.refused(known, type(error).__name__)
        if error is not self._last[0] or plain != self._last[1]:
            self._last = error.with_traceback(None), plain, reply_error(error, plain=plain)
        return self.counted(self._last[2])

    def _target(self, path: str) -> Target:
        """What a path asks for; remembered for the paths that are asked again and again."""
        parts = path.strip("/").split("/")
        match parts:
            case ["predict", model]:
                found = Target("predict", model)
            case ["predict", model, "versions", version]:
                found = Target("predict", model, version)
            case ["v2", "models", model, "infer"]:
                found = Target("infer", model)
            case ["v2", "models", model, "versions", version, "infer"]:
                found = Target("infer", model, version)
            case _:
                return Target("read", "", "", tuple(parts))
        if model in self.dispatcher.engine.live.table.routes:  # what callers make up is not remembered
            if len(self._targets) >= _REMEMBERED:
                self._targets.clear()
            self._targets[path] = found
        return found

    def _read(self, target: Target, incoming: Incoming) -> Reply:
        """Everything that is only read."""
        found = self._described_at(target.parts) or self._fixed.get("/".join(target.parts))
        if found is None:
            return refuse(404, "no such path", got=incoming.path[:200], hint="POST /predict/<model>, or GET /v2")
        if incoming.method not in _READ:
            return refuse(405, "this path is only read", got=incoming.method, headers=((b"allow", b"GET, HEAD"),))
        return found()

    def _described_at(self, parts: tuple[str, ...]) -> Callable[[], Reply] | None:
        match parts:
            case ("v2", "models", model):
                return lambda: reply_json(self._described(model, ""))
            case ("v2", "models", model, "versions", version):
                return lambda: reply_json(self._described(model, version))
            case ("v2", "models", model, "ready"):
                return lambda: self._model_ready(model, "")
            case ("v2", "models", model, "versions", version, "ready"):
                return lambda: self._model_ready(model, version)
        return None

    def _predict(self, target: Target, incoming: Incoming, respond: Respond) -> None:
        wrong = _wrong_post(incoming.method, incoming.headers.get(b"content-type", b""))
        if wrong is not None:
            respond(self.counted(wrong))
            return

        def resolve(result: bytes | TrimtabError) -> None:
            if isinstance(result, bytes):
                respond(self.counted(Reply(200, result)))
            else:
                respond(self._refused(target.model, result))

        self.dispatcher.submit(target.model, incoming.body, resolve, steer=_steer(target, incoming.headers))
        self.wake()

    def _infer(self, target: Target, incoming: Incoming, respond: Respond) -> None:
        headers = incoming.headers
        json_length = headers.get(LENGTH_HEADER)
        declared = headers.get(b"content-type", b"") if json_length is None else b""  # else it may be of bytes
        wrong = _wrong_post(incoming.method, declared)
        if wrong is not None:
            respond(self.counted(wrong))
            return

        def resolve(result: Encoded | bytes | TrimtabError) -> None:
            if isinstance(result, bytes):
                self.replies[200] += 1
                respond(Reply(200, result))
            elif isinstance(result, Encoded):
                self.replies[200] += 1
                respond(_infer_reply(result))
            else:
                respond(self._refused(target.model, result, plain=True))

        dispatcher = self.dispatcher
        steer = _steer(target, headers)
        length = header_length(json_length)
        if not (steer.version or steer.arm) and dispatcher.submit_plain(
            target.model, incoming.body, resolve, json_length=length, steer=steer
        ):
            self.wake()
            return
        engine = dispatcher.engine
        timer = engine.pipeline.timer
        start = timer()
        deployed = engine.live.described(target.model, target.version)
        asked = decode_infer(
            incoming.body,
            inputs=deployed.manifest.inputs,
            outputs=deployed.manifest.outputs,
            header_length=length,
            max_rows=engine.max_rows,
        )

        def encode(answer: TensorAnswer) -> Encoded:
            return encode_infer(answer, binary=asked.binary)

        took = timer() - start
        self.dispatcher.submit_tensors(target.model, asked, encode, resolve, steer=steer, decode_ns=took)
        self.wake()

    def _api(self) -> Json:
        engine = self.dispatcher.engine
        return describe_api(engine.live, software=self._software, max_rows=engine.max_rows)

    def _health(self) -> Reply:
        live = self.dispatcher.engine.live
        models = {name: {arm.name: arm.version for arm in route.arms} for name, route in live.table.routes.items()}
        ok = live.table.generation > 0
        status = {"status": "ok" if ok else "no route table yet", "generation": live.table.generation, "models": models}
        return reply_json(status, status=200 if ok else 503)

    def look(self) -> None:
        """Take down how things stand, for whoever is scraped."""
        self.metrics.look(self.dispatcher, shadow_failures=self.shadow.failures)
        self.dispatcher.look_aside()
        if self.dispatcher.queue:
            self.wake()

    def _metrics(self) -> Reply:
        self.look()
        return Reply(200, self.metrics.exposition(), TEXT_TYPE)

    def _ready(self) -> Reply:
        if reason := self._hindered():
            return reply_json({"ready": False, "reason": reason}, status=503)
        ready = self.dispatcher.engine.live.table.generation > 0
        return reply_json({"ready": ready}, status=200 if ready else 503)

    def _model_ready(self, model: str, version: str) -> Reply:
        try:
            trouble = self.dispatcher.engine.live.trouble(model, version)
        except UnknownName as error:
            return reply_error(error, plain=True)
        if reason := self._hindered() or trouble:
            return reply_json({"name": model, "ready": False, "reason": reason}, status=503)
        return reply_json({"name": model, "ready": True})

    def _described(self, model: str, version: str) -> Json:
        live = self.dispatcher.engine.live
        deployed = live.described(model, version)
        return {
            "name": model,
            "versions": live.versions(model),
            "platform": deployed.manifest.runtime,
            "parameters": {"runs_on": deployed.runtime.note},
            "inputs": describe(deployed.manifest.inputs, deployed.columns),
            "outputs": describe(deployed.manifest.outputs, deployed.manifest.classes),
        }


def _steer(target: Target, headers: Mapping[bytes, bytes]) -> Steer:
    """What path and headers say about who should answer."""
    unit, arm, within = headers.get(_UNIT), headers.get(_ARM), headers.get(_DEADLINE)
    if unit is None and arm is None and within is None and not target.version:
        return NO_STEER
    return Steer(target.version, _text(unit), _text(arm), nanoseconds(within))


def nanoseconds(value: bytes | None) -> int:
    """The caller's deadline; raises ``InputError`` when it is no number of milliseconds.

    Examples
    --------
    >>> nanoseconds(b"250"), nanoseconds(None)
    (250000000, 0)
    """
    if value is None:
        return 0
    if not value.isdigit() or not 0 < int(value[:12]) <= LONGEST_MS:
        raise InputError(
            "X-Trimtab-Deadline-Ms is no number of milliseconds",
            got=repr(value[:40]),
            hint=f"a whole number from 1 to {LONGEST_MS}",
        )
    return int(value) * 1_000_000


def _text(value: bytes | None) -> str:
    return "" if value is None else value[:TEXT_LIMIT].decode("utf-8", "replace")


def _infer_reply(encoded: Encoded) -> Reply:
    if encoded.header_length < 0:
        return Reply(200, encoded.body)
    return Reply(200, encoded.body, BYTES_TYPE, ((LENGTH_HEADER, b"%d" % encoded.header_length),))


def _wrong_post(method: str, content_type: bytes) -> Reply | None:
    if method == "POST" and (content_type == JSON_TYPE or not content_type):
        return None
    if method != "POST":
        return refuse(405, "this path takes a POST", got=method, headers=((b"allow", b"POST"),))
    declared = content_type.partition(b";")[0].strip().lower()
    if declared not in _JSON_ENOUGH and not declared.endswith(b"+json"):
        return refuse(
            415,
            "the body is not declared as JSON",
            got=content_type[:80].decode("latin-1"),
            hint="Content-Type: application/json",
        )
    return None
