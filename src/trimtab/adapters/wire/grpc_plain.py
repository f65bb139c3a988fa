"""The most frequent message, without detours: a row of float32 in, one output of floats out, typed or as bytes.

What is written here is what :mod:`trimtab.adapters.wire.grpc_tensors` writes, in parts that are made once; whatever is
out of the ordinary in a message is left to it.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from trimtab.adapters.wire.grpc_messages import protocol
from trimtab.adapters.wire.grpc_tensors import encode_message
from trimtab.errors import Unavailable
from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.live import Live
from trimtab.serving.plain import PlainReader
from trimtab.serving.recording import OK
from trimtab.serving.tensors import TensorAnswer, to_bytes

_ID = 0x1A
"""The tag of ``ModelInferResponse.id``."""
_PACKED = {"float32": "f", "float64": "d"}


def plain_row(message: Any, reader: PlainReader) -> bytes | None:
    """The row of a ``ModelInferRequest`` as little-endian float32; None when it is not of the plain kind."""
    inputs, outputs, raw = message.inputs, message.outputs, message.raw_input_contents
    if len(inputs) != 1 or len(outputs) > 1 or len(raw) > 1 or len(message.id) > TEXT_LIMIT or "\0" in message.id:
        return None
    tensor = inputs[0]
    if tensor.datatype != "FP32" or tensor.parameters or not reader.takes(tensor.name, tensor.shape):
        return None
    if outputs and (outputs[0].name != reader.output or outputs[0].parameters):
        return None
    if raw:
        return None if tensor.HasField("contents") else reader.row(raw[0])
    if len(tensor.contents.ListFields()) != 1:
        return None
    return reader.row(np.array(tensor.contents.fp32_contents, "<f4").tobytes())


class PlainMessages:
    """Writes answers to plain messages: the parts that do not change are made once per version.

    A message of protocol buffers is the join of its parts, so that only the id and the value are put in.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, bool], _Parts] = {}
        self._of: Live | None = None

    def write(self, live: Live, model: str, version: str, *, id: str, value: Any, raw: bool, status: str = OK) -> bytes:
        """A ``ModelInferResponse``; ``value`` is a float or a list of them.

        Raises
        ------
        Unavailable
            When that version has other outputs than one of floats.
        """
        if live is not self._of:
            self._of, self._parts = live, {}
        parts = self._parts.get((version, raw))
        if parts is None:
            parts = self._parts[version, raw] = _Parts(model, version, _output(live, model, version), raw=raw)
        return parts.written(id, value, status)


class _Parts:
    """The answer of one version, taken apart around its id and its value."""

    __slots__ = ("_dtype", "_front", "_pack", "_tail")

    def __init__(self, model: str, version: str, tensor: Tensor, *, raw: bool) -> None:
        packing = struct.Struct(f"<{math.prod(tensor.shape[1:])}{_PACKED[tensor.dtype]}")
        self._dtype, self._pack = tensor.dtype, packing.pack
        zeros = np.zeros((1, math.prod(tensor.shape[1:])))
        whole = encode_message(TensorAnswer(model, version, "", zeros, (tensor,)), raw=raw).SerializeToString()
        names = encode_message(TensorAnswer(model, version, "", zeros, (), ()), raw=raw).SerializeToString()
        # Fields come in the order of their numbers: names, then the id, then outputs, with the values at the very end.
        self._front, self._tail = names, whole[len(names) : len(whole) - packing.size]

    def written(self, id: str, value: Any, status: str) -> bytes:
        try:
            data: bytes = self._pack(*value) if type(value) is list else self._pack(value)
        except OverflowError:  # past the range of float32
            data = to_bytes(np.array(value, dtype=np.float64), self._dtype)
        name = id.encode()
        tail = self._tail if status == OK else _said(status) + self._tail
        if not name:
            return b"%b%b%b" % (self._front, tail, data)
        return b"%b%b%b%b%b" % (self._front, _length(len(name)), name, tail, data)


def _said(status: str) -> bytes:
    """The parameters of an answer that is not ``ok``."""
    message = protocol().messages["ModelInferResponse"]()
    message.parameters["status"].string_param = status
    said: bytes = message.SerializeToString()
    return said


def _length(size: int) -> bytes:
    """Tag and length of an id."""
    return bytes((_ID, size)) if size < 128 else bytes((_ID, size & 127 | 128, size >> 7))


def _output(live: Live, model: str, version: str) -> Tensor:
    outputs = (live.deployed.get(version) or live.answering(model)).manifest.outputs
    if len(outputs) != 1 or outputs[0].dtype not in _PACKED or -1 in outputs[0].shape[1:]:
        raise Unavailable("the model now gives other outputs", hint="read its description and send again")
    return outputs[0]
