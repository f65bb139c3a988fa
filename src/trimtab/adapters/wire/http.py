"""The data plane's paths and what they answer, independent of the server that carries them.

::

    POST /predict/<model>                          by entity keys and inputs
    GET  /v2 · /v2/health/live · /v2/health/ready  Open Inference Protocol, version 2
    GET  /v2/models/<model>[/versions/<v>][/ready]
    POST /v2/models/<model>[/versions/<v>]/infer
    GET  /health · /metrics
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from trimtab.adapters.wire.metrics import exposition
from trimtab.adapters.wire.reply import BYTES_TYPE, TEXT_TYPE, Reply, refuse, reply_error, reply_json
from trimtab.core.ids import Json
from trimtab.errors import TrimtabError, UnknownName
from trimtab.serving.dispatch import Dispatcher, Resolve
from trimtab.serving.infer import EXTENSIONS, LENGTH_HEADER, Encoded, decode_infer, encode_infer, header_length
from trimtab.serving.tensors import TensorAnswer, describe

_log = logging.getLogger("trimtab.serving")
_READ = ("GET", "HEAD")
_BINARY = frozenset({"application/octet-stream", "application/gzip", "application/zip"})


class DataPlane:
    """Answers requests of the data plane; one per worker, used from its event loop only.

    Parameters
    ----------
    software
        Version of the server, as ``/v2`` tells it.
    """

    def __init__(self, dispatcher: Dispatcher, *, software: str = "") -> None:
        self.dispatcher = dispatcher
        self.replies: Counter[int] = Counter()
        """Answers by HTTP status."""
        self.shadow_failures = 0
        """Shadow scores lost to an error, most likely of the store."""
        self._fixed: dict[str, Callable[[], Reply]] = {
            "health": self._health,
            "metrics": lambda: Reply(200, exposition(dispatcher, self.replies, self.shadow_failures), TEXT_TYPE),
            "v2": lambda: reply_json({"name": "trimtab", "version": software, "extensions": list(EXTENSIONS)}),
            "v2/health/live": lambda: reply_json({"live": True}),
            "v2/health/ready": self._ready,
        }
        self._running = False
        self._woken = asyncio.Event()

    async def handle(
        self, method: str, path: str, content_type: str, body: bytes, *, json_length: bytes | None = None
    ) -> Reply:
        """Answer one request whose body has been read.

        Parameters
        ----------
        json_length
            The header ``Inference-Header-Content-Length``, when it came.
        """
        parts = path.strip("/").split("/")
        plain = parts[0] == "v2"
        try:
            reply = await self._routed(method, parts, content_type, body, json_length)
        except TrimtabError as error:
            reply = reply_error(error, plain=plain)
        return self.counted(reply)

    def counted(self, reply: Reply) -> Reply:
        """Count a reply, also one that was made before the request came this far."""
        self.replies[reply.status] += 1
        return reply

    async def shadow(self) -> None:
        """Score the shadow queue whenever nobody waits for an answer, a few rows at a time, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self.dispatcher.engine.shadow_rows:
                if self.dispatcher.queue:
                    await asyncio.sleep(0.0005)
                    continue
                self.shadow_step()
                await asyncio.sleep(0)  # let what has arrived go first

    def shadow_step(self) -> int:
        """Score a few rows of the shadow queue; whatever goes wrong costs these scores, not the worker."""
        try:
            return self.dispatcher.step_shadow()
        except Exception:  # noqa: BLE001 - logged below; the worker lives on
            _log.exception("shadow scores are lost")
            self.shadow_failures += 1
            return self.dispatcher.engine.shadow_rows

    async def _routed(
        self, method: str, parts: list[str], content_type: str, body: bytes, json_length: bytes | None
    ) -> Reply:
        declared = content_type if json_length is None else ""  # with that header the body may be of bytes
        match parts:
            case ["predict", model]:
                return _wrong_post(method, content_type) or await self._posted(
                    lambda resolve: self.dispatcher.submit(model, body, resolve)
                )
            case ["v2", "models", model, "infer"]:
                return _wrong_post(method, declared) or await self._infer(model, "", body, json_length)
            case ["v2", "models", model, "versions", version, "infer"]:
                return _wrong_post(method, declared) or await self._infer(model, version, body, json_length)
        found = self._read(parts)
        if found is None:
            return refuse(404, "no such path", got="/" + "/".join(parts), hint="POST /predict/<model>, or GET /v2")
        if method not in _READ:
            return refuse(405, "this path is only read", got=method, headers=((b"allow", b"GET, HEAD"),))
        return found()

    def _read(self, parts: list[str]) -> Callable[[], Reply] | None:
        match parts:
            case ["v2", "models", model]:
                return lambda: reply_json(self._described(model, ""))
            case ["v2", "models", model, "versions", version]:
                return lambda: reply_json(self._described(model, version))
            case ["v2", "models", model, "ready"]:
                return lambda: self._model_ready(model, "")
            case ["v2", "models", model, "versions", version, "ready"]:
                return lambda: self._model_ready(model, version)
        return self._fixed.get("/".join(parts))

    async def _infer(self, model: str, version: str, body: bytes, json_length: bytes | None) -> Reply:
        engine = self.dispatcher.engine
        timer = engine.pipeline.timer
        start = timer()
        deployed = engine.live.pinned(model, version) if version else engine.live.answering(model)
        asked = decode_infer(
            body,
            inputs=deployed.manifest.inputs,
            outputs=deployed.manifest.outputs,
            header_length=header_length(json_length),
            max_rows=engine.max_rows,
        )
        took = timer() - start

        def encode(answer: TensorAnswer) -> Reply:
            return _infer_reply(encode_infer(answer, binary=asked.binary))

        return await self._posted(
            lambda resolve: self.dispatcher.submit_tensors(
                model, asked, encode, resolve, version=version, decode_ns=took
            ),
            plain=True,
        )

    async def _posted(self, submit: Callable[[Resolve], None], *, plain: bool = False) -> Reply:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply | bytes | TrimtabError] = loop.create_future()

        def resolve(result: Reply | bytes | TrimtabError) -> None:
            if not answer.done():
                answer.set_result(result)

        submit(resolve)
        self.wake(loop)
        result = await answer
        if isinstance(result, TrimtabError):
            return reply_error(result, plain=plain)
        return Reply(200, result) if isinstance(result, bytes) else result

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what waits, after the sockets that are ready now have been read: they share the batch."""
        if not self._running:
            self._running = True
            loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.dispatcher.step()
        finally:
            self._running = len(self.dispatcher.queue) > 0
            if self._running:
                loop.call_soon(self._run, loop)
            if self.dispatcher.engine.shadow_rows:
                self._woken.set()

    def _health(self) -> Reply:
        live = self.dispatcher.engine.live
        models = {name: {arm.name: arm.version for arm in route.arms} for name, route in live.table.routes.items()}
        ok = live.table.generation > 0
        status = {"status": "ok" if ok else "no route table yet", "generation": live.table.generation, "models": models}
        return reply_json(status, status=200 if ok else 503)

    def _ready(self) -> Reply:
        ready = self.dispatcher.engine.live.table.generation > 0
        return reply_json({"ready": ready}, status=200 if ready else 503)

    def _model_ready(self, model: str, version: str) -> Reply:
        try:
            self._described(model, version)
        except UnknownName as error:
            return reply_error(error, plain=True)
        return reply_json({"name": model, "ready": True})

    def _described(self, model: str, version: str) -> Json:
        live = self.dispatcher.engine.live
        deployed = live.pinned(model, version) if version else live.answering(model)
        return {
            "name": model,
            "versions": sorted({arm.version for arm in live.table.route(model).arms}),
            "platform": deployed.manifest.runtime,
            "parameters": {"runs_on": deployed.runtime.note},
            "inputs": describe(deployed.manifest.inputs),
            "outputs": describe(deployed.manifest.outputs),
        }


def _infer_reply(encoded: Encoded) -> Reply:
    if encoded.header_length < 0:
        return Reply(200, encoded.body)
    return Reply(200, encoded.body, BYTES_TYPE, ((LENGTH_HEADER, str(encoded.header_length).encode()),))


def _wrong_post(method: str, content_type: str) -> Reply | None:
    if method != "POST":
        return refuse(405, "this path takes a POST", got=method, headers=((b"allow", b"POST"),))
    # Whatever else it says (`curl -d` declares a form), the body is read as JSON. These say that it is not text at all.
    declared = content_type.partition(";")[0].strip().lower()
    if declared in _BINARY or declared.startswith(("image/", "audio/", "video/", "multipart/")):
        return refuse(
            415, "the body is not declared as JSON", got=content_type[:80], hint="Content-Type: application/json"
        )
    return None
