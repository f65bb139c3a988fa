"""The Open Inference Protocol over gRPC, in the event loop of the worker and through the same dispatcher as HTTP.

It is there for callers that speak it already. It costs several times what HTTP does: see ``docs/protocols.md``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from trimtab.adapters.wire.grpc_calls import CANCELLED, REQUEST_ID, Call, CallWatch, code_of
from trimtab.adapters.wire.grpc_leaving import age_ms, all_gone, close_port
from trimtab.adapters.wire.grpc_messages import METHODS, SERVICE, protocol
from trimtab.adapters.wire.grpc_plain import PlainMessages, plain_row
from trimtab.adapters.wire.grpc_tensors import decode_message, encode_message
from trimtab.adapters.wire.http import nanoseconds
from trimtab.errors import InputError, MissingExtra, TooLate, TrimtabError, Unavailable, UnknownName
from trimtab.serving.ask import Ask, Steer, row_status
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.tensors import TensorAnswer, describe

_log = logging.getLogger("trimtab.serving")
_PUSHBACK = ("grpc-retry-pushback-ms", "1000")
"""Says to a client that retries when to do so, as ``Retry-After`` does over HTTP."""
_TO_RETRY = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_UNIT, _ARM, _DEADLINE = "x-trimtab-unit", "x-trimtab-arm", "x-trimtab-deadline-ms"
_LONGEST_NS = 600_000_000_000

Method = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcPlane:
    """Answers the protocol's calls; one per worker, used from its event loop only.

    Parameters
    ----------
    wake
        Called after requests were submitted: the dispatcher has work.
    watch
        Told of every call.
    software
        Version of the server, as ``ServerMetadata`` tells it.
    hindered
        Why nothing can be answered at this moment; empty when it can.

    Raises
    ------
    MissingExtra
        Without grpcio or protobuf.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        wake: Callable[[], None],
        watch: CallWatch,
        software: str = "",
        hindered: Callable[[], str] = lambda: "",
    ) -> None:
        self._hindered = hindered
        self._dispatcher, self._wake, self._watch, self._software = dispatcher, wake, watch, software
        self._grpc = _library()
        self._messages, self._undecodable = protocol()
        self._plain = PlainMessages()
        self._server: Any = None
        self._port, self._drain_s = 0, 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        """Once it listens."""
        self._stopped: asyncio.Future[None] | None = None

    async def start(self, host: str, port: int, *, max_body: int, max_waiting: int, drain_s: float = 10.0) -> int:
        """Listen; the port, which several workers may share.

        Parameters
        ----------
        max_body
            Largest message in bytes; a longer one is answered with ``RESOURCE_EXHAUSTED``.
        max_waiting
            Most calls at a time; further ones are answered with ``RESOURCE_EXHAUSTED``.
        drain_s
            How long :meth:`stop` may take: so soon callers are asked to connect anew, which their library does unseen.

        Raises
        ------
        Unavailable
            When the address cannot be bound.
        """
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_body),
            ("grpc.max_metadata_size", 16_384),
            ("grpc.max_connection_age_ms", age_ms(drain_s)),
        ]
        self._server = self._grpc.aio.server(options=options, maximum_concurrent_rpcs=max_waiting)
        handlers = {name: self._grpc.unary_unary_rpc_method_handler(self._called(name)) for name in METHODS}
        self._server.add_generic_rpc_handlers((self._grpc.method_handlers_generic_handler(SERVICE, handlers),))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {address}", got=str(error), hint="choose another port") from None
        await self._server.start()
        self._port, self._drain_s, self._loop = bound, drain_s, asyncio.get_running_loop()
        return bound

    def leave(self) -> None:
        """Begin to :meth:`stop`; may be called from a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping)

    async def stop(self) -> None:
        """Leave the port to others, wait until the callers have gone to them, then end."""
        if self._loop is not None:
            await self._stopping()

    def _stopping(self) -> asyncio.Future[None]:
        if self._stopped is None:
            self._stopped = asyncio.ensure_future(self._stop())
        return self._stopped

    async def _stop(self) -> None:
        begun = asyncio.get_running_loop().time()
        close_port(self._port)
        await all_gone(self._port, within_s=self._drain_s)
        await self._server.stop(max(0.0, begun + self._drain_s - asyncio.get_running_loop().time()))

    def _called(self, name: str) -> Method:
        steps: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._ready()},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: {"name": "trimtab", "version": self._software, "extensions": []},
            "ModelMetadata": self._model_metadata,
        }
        step = steps.get(name)
        request, response = self._messages[f"{name}Request"], self._messages[f"{name}Response"]

        async def called(data: bytes, context: Any) -> bytes:
            said = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            call = self._watch.begin(name, said)
            if call.request_id:
                context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            asked = None
            try:
                asked = request.FromString(data)
                if step is None:
                    encoded = await self._infer(asked, _steer(asked, said, context), call)
                else:
                    encoded = response(**step(asked)).SerializeToString()
            except self._undecodable:
                error: Exception = InputError("the message cannot be read", hint=f"send an inference.{name}Request")
            except TrimtabError as found:
                error = found
            except asyncio.CancelledError:
                late = context.time_remaining() == 0
                self._watch.ended(call, "DEADLINE_EXCEEDED" if late else CANCELLED)
                raise
            except Exception as found:  # noqa: BLE001 - the last line of defence: the worker lives on
                _log.exception("a call failed")
                error = found
            else:
                self._watch.ended(call, "OK")
                return encoded
            model = getattr(asked, "model_name", "")
            known = model if model in self._dispatcher.engine.live.table.routes else ""  # nothing callers make up
            self._watch.refused(known, error)
            return await self._refuse(error, call, context)

        return called

    async def _refuse(self, error: Exception, call: Call, context: Any) -> bytes:
        name = code_of(error)
        self._watch.ended(call, name, error)
        text = str(error) if isinstance(error, TrimtabError) else "an internal error. See the log of the worker."
        more = [(REQUEST_ID, call.request_id)] if call.request_id else []
        if name in _TO_RETRY and isinstance(error, Unavailable):
            more.append(_PUSHBACK)
        await context.abort(getattr(self._grpc.StatusCode, name), text, trailing_metadata=tuple(more))
        return b""  # not reached: abort raises

    async def _infer(self, asked: Any, steer: Steer, call: Call) -> bytes:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def resolve(result: Any) -> None:
            if not answer.done():  # the caller may have given up
                self._watch.handed(call)
                answer.set_result(result)

        if steer.version or steer.arm or not self._submit_plain(asked, resolve, steer, call.start):
            self._submit(asked, resolve, steer, call.start)
        self._wake()
        result = await answer
        if isinstance(result, TrimtabError):
            raise result
        encoded: bytes = result
        return encoded

    def _submit_plain(self, asked: Any, resolve: Callable[[Any], None], steer: Steer, start: int) -> bool:
        dispatcher, model = self._dispatcher, asked.model_name
        plain = dispatcher.plain(model)
        row = plain_row(asked, plain.reader) if plain is not None else None
        if plain is None or row is None:
            return False
        raw, name = len(asked.raw_input_contents) > 0, asked.id

        def encode(ask: Ask) -> bytes:
            answers, _, value = ask.told[0]
            live, status = dispatcher.engine.live, row_status(answers, value)
            return self._plain.write(live, model, answers.version, id=name, value=value, raw=raw, status=status)

        now = dispatcher.engine.pipeline.timer()
        ask = Ask(plain.lane, [name or self._watch.new_id()], row, encode=encode, resolve=resolve,
                  decode_ns=now - start, came=now)  # fmt: skip
        dispatcher.submit_row(ask, steer)
        return True

    def _submit(self, asked: Any, resolve: Callable[[Any], None], steer: Steer, start: int) -> None:
        engine = self._dispatcher.engine
        manifest = engine.live.described(asked.model_name, asked.model_version).manifest
        request = decode_message(asked, inputs=manifest.inputs, outputs=manifest.outputs, max_rows=engine.max_rows)
        raw = bool(asked.raw_input_contents)

        def encode(found: TensorAnswer) -> bytes:
            encoded: bytes = encode_message(found, raw=raw).SerializeToString()
            return encoded

        took = engine.pipeline.timer() - start
        self._dispatcher.submit_tensors(asked.model_name, request, encode, resolve, steer=steer, decode_ns=took)

    def _ready(self) -> bool:
        return self._dispatcher.engine.live.table.generation > 0 and not self._hindered()

    def _model_ready(self, asked: Any) -> dict[str, Any]:
        try:
            trouble = self._dispatcher.engine.live.trouble(asked.name, asked.version)
        except (UnknownName, Unavailable):
            return {"ready": False}
        return {"ready": not (trouble or self._hindered())}

    def _model_metadata(self, asked: Any) -> dict[str, Any]:
        live = self._dispatcher.engine.live
        manifest = live.described(asked.name, asked.version).manifest
        return {
            "name": asked.name,
            "versions": live.versions(asked.name),
            "platform": manifest.runtime,
            "inputs": describe(manifest.inputs),
            "outputs": describe(manifest.outputs),
        }


def _steer(asked: Any, said: Mapping[str, str], context: Any) -> Steer:
    """What message and metadata say about who should answer, and until when."""
    within = said.get(_DEADLINE)
    within_ns = nanoseconds(None if within is None else within.encode("utf-8", "replace"))
    left = context.time_remaining()
    if left is not None:
        if left <= 0:
            raise TooLate("the deadline of the call has passed", hint="allow more time")
        within_ns = min(within_ns or _LONGEST_NS, int(left * 1e9))
    version = getattr(asked, "model_version", "")
    return Steer(version, said.get(_UNIT, "")[:TEXT_LIMIT], said.get(_ARM, ""), within_ns)


def _library() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise MissingExtra("grpcio is not installed", got=str(error), hint="pip install 'trimtab[grpc]'") from None
    return grpc
