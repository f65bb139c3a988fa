"""The same row over each protocol: JSON, the binary tensor extension, and gRPC with typed and with raw contents.

gRPC messages are written and read by hand here, so that the generator spends little on them.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from rig.load import Load
from rig.models import BenchModel, headers

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def binary_requests(model: BenchModel) -> list[bytes]:
    """HTTP requests whose tensors are bytes behind a JSON header, and which ask for bytes back."""
    made = []
    for row in model.rows:
        raw = row.astype("<f4").tobytes()
        tensor = {"name": "input", "shape": [1, model.features], "datatype": "FP32"}
        asked = {
            "inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
        head = msgspec.json.encode(asked)
        more = {"Inference-Header-Content-Length": str(len(head))}
        made.append(headers(f"/v2/models/{model.name}/infer", head + raw, more=more))
    return made


def binary_reader(model: BenchModel) -> Callable[[bytes], list[float]]:
    """Reads the values off the end of a response: its one output is all the bytes there are."""
    size = 4 * model.outputs

    def read(body: bytes) -> list[float]:
        return struct.unpack(f"<{model.outputs}f", body[-size:]) if body[-size - 1 : -size] == b"}" else []

    return read


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def grpc_requests(model: BenchModel, *, raw: bool) -> list[bytes]:
    """``ModelInferRequest`` messages."""
    made = []
    shape = _varint(1) + _varint(model.features)
    for row in model.rows:
        values = row.astype("<f4").tobytes()
        tensor = _field(1, b"input") + _field(2, b"FP32") + _field(3, shape)
        if not raw:
            tensor += _field(5, _field(6, values))
        message = _field(1, model.name.encode()) + _field(5, tensor)
        made.append(message + (_field(7, values) if raw else b""))
    return made


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    """Length-delimited fields of a message; the others are passed over."""
    found, place = [], 0
    while place < len(message):
        tag, place = _read(message, place)
        size, place = _read(message, place)
        if tag & 7 == 2:
            found.append((tag >> 3, message[place : place + size]))
            place += size
        elif tag & 7 != 0:
            return found
    return found


def _read(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7


def grpc_values(message: bytes) -> list[float]:
    """The values in a ``ModelInferResponse``, raw or typed."""
    fields = _fields(message)
    for number, content in fields:
        if number == 6:
            return np.frombuffer(content, "<f4").tolist()
    tensor = next(content for number, content in fields if number == 5)
    contents = next(content for number, content in _fields(tensor) if number == 5)
    return np.frombuffer(next(content for number, content in _fields(contents) if number == 6), "<f4").tolist()


def drive_grpc(
    port: int,
    requests: Sequence[bytes],
    check: Callable[[int, bytes], bool],
    *,
    connections: int,
    seconds: float = 0.0,
    count: int = 0,
) -> Load:
    """A closed loop over gRPC: as many calls at a time as there are connections, each on a channel of its own."""
    return asyncio.run(_driven(port, requests, check, connections, seconds, count))


async def _driven(port, requests, check, connections: int, seconds: float, count: int) -> Load:
    import grpc

    load, latencies, following = Load(), [], 0
    begun = time.perf_counter()
    end = begun + seconds if seconds else float("inf")
    left = count or 10**12

    async def caller(call) -> None:
        nonlocal following, left
        while left and time.perf_counter() < end:
            left -= 1
            row, following = following, (following + 1) % len(requests)
            sent = time.perf_counter_ns()
            try:
                answer = await call(requests[row])
            except grpc.aio.AioRpcError as error:
                load.errors += 1
                load.first_error = load.first_error or f"{error.code()}: {error.details()}"
                latencies.append(time.perf_counter_ns() - sent)
                continue
            latencies.append(time.perf_counter_ns() - sent)
            if not check(row, answer):
                load.wrong += 1
                load.first_error = load.first_error or f"wrong for row {row}: {answer[:200]!r}"

    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own) for _ in range(connections)]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        begun = time.perf_counter()
        end = begun + seconds if seconds else float("inf")
        await asyncio.gather(*(caller(channel.unary_unary(METHOD)) for channel in channels))
        load.seconds = time.perf_counter() - begun
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    load.latencies_ns, load.requests = np.array(latencies, np.int64), len(latencies)
    return load
