"""The most frequent request of the Open Inference Protocol, without detours: a row of numbers in, one out, as JSON.

What is written here is, byte for byte, what :mod:`trimtab.serving.infer` writes; whatever is out of the ordinary in a
request (other types, several rows, missing values, parameters, mistakes) is left to it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.tensors import NAMES

_FLOATS = frozenset({"FP32", "FP64"})


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]
    parameters: msgspec.Raw | UnsetType = UNSET


class _Infer(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: Annotated[str, Meta(max_length=TEXT_LIMIT)] = ""
    outputs: msgspec.Raw | UnsetType = UNSET
    parameters: msgspec.Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Infer).decode


class PlainReader:
    """Reads one row for a model with one input of floats.

    Examples
    --------
    >>> reader = PlainReader(Tensor("x", "float32", (-1, 2)))
    >>> reader.read(b'{"id": "r", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}')
    ('r', b'\\x00\\x00\\x80?\\x00\\x00\\x00@')
    """

    __slots__ = ("_name", "_pack", "_shape")

    def __init__(self, declared: Tensor) -> None:
        self._name, self._shape = declared.name, [1, *declared.shape[1:]]
        self._pack = struct.Struct(f"<{math.prod(self._shape)}f").pack

    @staticmethod
    def of(inputs: Sequence[Tensor]) -> PlainReader | None:
        """A reader for this signature; None when it needs more than one."""
        fits = len(inputs) == 1 and inputs[0].dtype in ("float32", "float64") and -1 not in inputs[0].shape[1:]
        return PlainReader(inputs[0]) if fits else None

    def read(self, body: bytes) -> tuple[str, bytes] | None:
        """The id and the row as little-endian float32; None when the request is not of the plain kind."""
        try:
            asked = _decode(body)
            (given,) = asked.inputs
            if (
                given.shape != self._shape
                or given.name != self._name
                or given.datatype not in _FLOATS
                or asked.outputs is not UNSET
                or asked.parameters is not UNSET
                or given.parameters is not UNSET
            ):
                return None
            return asked.id, self._pack(*given.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, struct.error, OverflowError):
            return None  # explained by the full decoder


class PlainWriter:
    """Writes the answer of one version to one row, where the model has one output of floats.

    Examples
    --------
    >>> PlainWriter("m", "v", [Tensor("y", "float32", (-1, 1))]).write("r", 0.5)[-60:]
    b'[{"name":"y","datatype":"FP32","shape":[1,1],"data":[0.5]}]}'
    """

    __slots__ = ("_after_id", "_front", "_middle")

    def __init__(self, model: str, version: str, outputs: Sequence[Tensor]) -> None:
        (tensor,) = outputs
        head = msgspec.json.encode({"model_name": model, "model_version": version})[:-1]
        one = {"name": tensor.name, "datatype": NAMES[tensor.dtype], "shape": [1, *tensor.shape[1:]]}
        tail = b',"outputs":[' + msgspec.json.encode(one)[:-1] + b',"data":'
        self._front, self._middle, self._after_id = head, head + b',"id":', tail

    @staticmethod
    def of(model: str, version: str, outputs: Sequence[Tensor]) -> PlainWriter | None:
        """A writer for this signature; None when it needs more than one."""
        fits = len(outputs) == 1 and outputs[0].dtype in ("float32", "float64")
        return PlainWriter(model, version, outputs) if fits else None

    def write(self, id: str, value: Any) -> bytes:
        """The response to a request with that id (empty for none); ``value`` is a float or a list of them."""
        data = _encode(value if type(value) is list else [value])
        if id:
            return b"%b%b%b%b}]}" % (self._middle, _encode(id), self._after_id, data)
        return b"%b%b%b}]}" % (self._front, self._after_id, data)


_encode = msgspec.json.Encoder().encode
