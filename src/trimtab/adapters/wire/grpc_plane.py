"""The Open Inference Protocol over gRPC, in the event loop of the worker and through the same dispatcher as HTTP.

It is there for callers that speak it already. It costs several times what HTTP does: see ``docs/protocols.md``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from trimtab.adapters.wire.grpc_messages import METHODS, SERVICE, protocol
from trimtab.adapters.wire.grpc_tensors import decode_message, encode_message
from trimtab.errors import InputError, MissingExtra, TooLarge, TrimtabError, Unavailable, UnknownName
from trimtab.serving.ask import Steer
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.dispatch import Dispatcher
from trimtab.serving.tensors import TensorAnswer, describe

_log = logging.getLogger("trimtab.serving")
_PUSHBACK = (("grpc-retry-pushback-ms", "1000"),)
"""Says to a client that retries when to do so, as ``Retry-After`` does over HTTP."""

Method = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcPlane:
    """Answers the protocol's calls; one per worker, used from its event loop only.

    Parameters
    ----------
    wake
        Called after a request was submitted: the dispatcher has work.
    software
        Version of the server, as ``ServerMetadata`` tells it.

    Raises
    ------
    MissingExtra
        Without grpcio or protobuf.
    """

    def __init__(self, dispatcher: Dispatcher, *, wake: Callable[[], None], software: str = "") -> None:
        self._dispatcher, self._wake, self._software = dispatcher, wake, software
        self._grpc = _library()
        self._messages, self._undecodable = protocol()
        self._server: Any = None
        self.replies: Counter[str] = Counter()
        """Answers by status code."""

    async def start(self, host: str, port: int, *, max_body: int, max_waiting: int) -> int:
        """Listen; the port, which several workers may share.

        Parameters
        ----------
        max_body
            Largest message in bytes; a longer one is answered with ``RESOURCE_EXHAUSTED``.
        max_waiting
            Most calls at a time; further ones are answered with ``RESOURCE_EXHAUSTED``.

        Raises
        ------
        Unavailable
            When the address cannot be bound.
        """
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_body),
            ("grpc.max_metadata_size", 16_384),
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
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and wait for those that are under way."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _called(self, name: str) -> Method:
        steps: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._dispatcher.engine.live.table.generation > 0},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: {"name": "trimtab", "version": self._software, "extensions": []},
            "ModelMetadata": self._model_metadata,
        }
        step = steps.get(name)
        request, response = self._messages[f"{name}Request"], self._messages[f"{name}Response"]

        async def call(data: bytes, context: Any) -> bytes:
            try:
                asked = request.FromString(data)
                answer = await self._infer(asked, context) if step is None else response(**step(asked))
            except self._undecodable:
                error: Exception = InputError("the message cannot be read", hint=f"send an inference.{name}Request")
            except TrimtabError as found:
                error = found
            except Exception as found:  # noqa: BLE001 - the last line of defence: the worker lives on
                _log.exception("a call failed")
                error = found
            else:
                self.replies["OK"] += 1
                encoded: bytes = answer.SerializeToString()
                return encoded
            return await self._refuse(error, context)

        return call

    async def _refuse(self, error: Exception, context: Any) -> bytes:
        name = code_of(error)
        self.replies[name] += 1
        text = str(error) if isinstance(error, TrimtabError) else "an internal error. See the log of the worker."
        code = getattr(self._grpc.StatusCode, name)
        await context.abort(code, text, trailing_metadata=_PUSHBACK if name == "UNAVAILABLE" else ())
        return b""  # not reached: abort raises

    async def _infer(self, asked: Any, context: Any) -> Any:
        engine = self._dispatcher.engine
        timer = engine.pipeline.timer
        start = timer()
        model, version = asked.model_name, asked.model_version
        manifest = engine.live.described(model, version).manifest
        request = decode_message(asked, inputs=manifest.inputs, outputs=manifest.outputs, max_rows=engine.max_rows)
        raw = bool(asked.raw_input_contents)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def encode(found: TensorAnswer) -> Any:
            return encode_message(found, raw=raw)

        def resolve(result: Any) -> None:
            if not answer.done():  # the caller may have given up
                answer.set_result(result)

        said = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        steer = Steer(version, said.get("x-trimtab-unit", "")[:TEXT_LIMIT], said.get("x-trimtab-arm", ""))
        took = timer() - start
        self._dispatcher.submit_tensors(model, request, encode, resolve, steer=steer, decode_ns=took)
        self._wake()
        result = await answer
        if isinstance(result, TrimtabError):
            raise result
        return result

    def _model_ready(self, asked: Any) -> dict[str, Any]:
        try:
            self._dispatcher.engine.live.described(asked.name, asked.version)
        except (UnknownName, Unavailable):
            return {"ready": False}
        return {"ready": True}

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


def code_of(error: Exception) -> str:
    """The name of the gRPC status that says whose fault it was.

    Examples
    --------
    >>> code_of(UnknownName("no such model")), code_of(Unavailable("full")), code_of(ZeroDivisionError())
    ('NOT_FOUND', 'UNAVAILABLE', 'INTERNAL')
    """
    match error:
        case UnknownName():
            return "NOT_FOUND"
        case TooLarge():
            return "RESOURCE_EXHAUSTED"
        case InputError():
            return "INVALID_ARGUMENT"
        case Unavailable():
            return "UNAVAILABLE"
        case _:
            return "INTERNAL"


def _library() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise MissingExtra("grpcio is not installed", got=str(error), hint="pip install 'trimtab[grpc]'") from None
    return grpc
