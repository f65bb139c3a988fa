"""The most frequent requests of the Open Inference Protocol, without detours: a row of numbers in, one out.

They come as JSON, or as bytes behind a head of JSON. What is written here is, byte for byte, what
:mod:`trimtab.serving.infer` writes; whatever is out of the ordinary in a request (other types, several rows,
parameters, mistakes) is left to it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.infer import Encoded
from trimtab.serving.recording import OK
from trimtab.serving.tensors import NAMES, to_bytes

_HEADS, _HEAD_BYTES = 64, 1024
"""So many heads are remembered, of at most so many bytes."""
_INFINITY, _MINUS_INFINITY = struct.pack("<f", math.inf), struct.pack("<f", -math.inf)
"""As bytes: to look for them is cheap, and only where they are found somewhere, in step or not, values are read."""
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


class _Bytes(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    binary_data_size: int


class _InputBytes(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Bytes


class _Wanted(msgspec.Struct, gc=False, forbid_unknown_fields=True, frozen=True):
    binary_data: bool | UnsetType = UNSET


class _Output(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    parameters: _Wanted = _Wanted()


class _WantedOfAll(msgspec.Struct, gc=False, forbid_unknown_fields=True, frozen=True):
    binary_data_output: bool = False


class _Head(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    inputs: list[_InputBytes]
    id: Annotated[str, Meta(max_length=TEXT_LIMIT)] = ""
    outputs: list[_Output] = []
    parameters: _WantedOfAll = _WantedOfAll()


_decode = msgspec.json.Decoder(_Infer).decode
_decode_head = msgspec.json.Decoder(_Head).decode


class Plain(NamedTuple):
    """What a plain request says."""

    id: str
    row: bytes
    """Its features, as little-endian float32."""
    binary: bool = False
    """Whether the answer is wanted as bytes."""


class PlainReader:
    """Reads one row for a model with one input of floats.

    Parameters
    ----------
    output
        Name of the one output of every version that answers; empty where they differ: bytes are not read then.

    Examples
    --------
    >>> reader = PlainReader(Tensor("x", "float32", (-1, 2)))
    >>> reader.read(b'{"id": "r", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}')
    Plain(id='r', row=b'\\x00\\x00\\x80?\\x00\\x00\\x00@', binary=False)
    """

    __slots__ = ("_heads", "_name", "_pack", "_shape", "_size", "output")

    def __init__(self, declared: Tensor, *, output: str = "") -> None:
        self._name, self._shape, self.output = declared.name, [1, *declared.shape[1:]], output
        packing = struct.Struct(f"<{math.prod(self._shape)}f")
        self._pack, self._size = packing.pack, packing.size
        self._heads: dict[bytes, bool] = {}
        """Heads without an id, which callers repeat byte for byte, and whether they ask for bytes."""

    @staticmethod
    def of(inputs: Sequence[Tensor], *, output: str = "") -> PlainReader | None:
        """A reader for this signature; None when it needs more than one."""
        fits = len(inputs) == 1 and inputs[0].dtype in ("float32", "float64") and -1 not in inputs[0].shape[1:]
        return PlainReader(inputs[0], output=output) if fits else None

    def read(self, body: bytes) -> Plain | None:
        """A request that is all JSON; None when it is not of the plain kind."""
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
                or "\0" in asked.id
            ):
                return None
            return Plain(asked.id, self._pack(*given.data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, struct.error, OverflowError):
            return None  # explained by the full decoder

    def read_bytes(self, body: bytes, length: int) -> Plain | None:
        """A request whose row follows ``length`` bytes of JSON; None when it is not of the plain kind."""
        if len(body) - length != self._size or not self.output:
            return None
        head, name = body[:length], ""
        binary = self._heads.get(head)
        if binary is None:
            found = self._read_head(head)
            if found is None:
                return None
            name, binary = found
        row = self.row(body[length:])
        return None if row is None else Plain(name, row, binary)

    def takes(self, name: str, shape: Sequence[int]) -> bool:
        """Whether that is the input, and one row of it."""
        return name == self._name and list(shape) == self._shape

    def row(self, data: bytes) -> bytes | None:
        """The same bytes when they are a row that the model may be given; else None."""
        if len(data) != self._size:
            return None
        if (_INFINITY in data or _MINUS_INFINITY in data) and np.isinf(np.frombuffer(data, "<f4")).any():
            return None  # refused by the full decoder; a missing value is NaN
        return data

    def _read_head(self, head: bytes) -> tuple[str, bool] | None:
        """The id, and whether the answer is wanted as bytes."""
        try:
            asked = _decode_head(head)
            (given,) = asked.inputs
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            return None
        if (
            given.shape != self._shape
            or given.name != self._name
            or given.datatype != "FP32"
            or given.parameters.binary_data_size != self._size
            or len(asked.outputs) > 1
            or "\0" in asked.id
        ):
            return None
        binary: bool | UnsetType = UNSET
        if asked.outputs:
            if asked.outputs[0].name != self.output:
                return None
            binary = asked.outputs[0].parameters.binary_data
        if binary is UNSET:
            binary = asked.parameters.binary_data_output
        if not asked.id and len(head) <= _HEAD_BYTES:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[head] = binary
        return asked.id, binary


class PlainWriter:
    """Writes the answer of one version to one row, where the model has one output of floats.

    Examples
    --------
    >>> writer = PlainWriter("m", "v", [Tensor("y", "float32", (-1, 1))])
    >>> writer.write("r", 0.5)[-60:]
    b'[{"name":"y","datatype":"FP32","shape":[1,1],"data":[0.5]}]}'
    >>> writer.write_bytes("r", 0.5).body[-9:]
    b'4}}]}\\x00\\x00\\x00?'
    """

    __slots__ = ("_after_id", "_bytes_tail", "_dtype", "_front", "_middle", "_pack")

    def __init__(self, model: str, version: str, outputs: Sequence[Tensor]) -> None:
        (tensor,) = outputs
        head = msgspec.json.encode({"model_name": model, "model_version": version})[:-1]
        one = {"name": tensor.name, "datatype": NAMES[tensor.dtype], "shape": [1, *tensor.shape[1:]]}
        tail = b',"outputs":[' + msgspec.json.encode(one)[:-1] + b',"data":'
        self._front, self._middle, self._after_id = head, head + b',"id":', tail
        self._dtype = tensor.dtype
        packing = struct.Struct(f"<{math.prod(tensor.shape[1:])}{'f' if tensor.dtype == 'float32' else 'd'}")
        sized = msgspec.json.encode(one | {"parameters": {"binary_data_size": packing.size}})
        self._pack, self._bytes_tail = packing.pack, b',"outputs":[' + sized + b"]}"

    @staticmethod
    def of(model: str, version: str, outputs: Sequence[Tensor]) -> PlainWriter | None:
        """A writer for this signature; None when it needs more than one."""
        fits = len(outputs) == 1 and outputs[0].dtype in ("float32", "float64") and -1 not in outputs[0].shape[1:]
        return PlainWriter(model, version, outputs) if fits else None

    def write(self, id: str, value: Any, status: str = OK) -> bytes:
        """The response to a request with that id (empty for none); ``value`` is a float or a list of them."""
        data = _encode(value if type(value) is list else [value])
        tail = self._after_id if status == OK else _said(status) + self._after_id
        if id:
            return b"%b%b%b%b}]}" % (self._middle, _encode(id), tail, data)
        return b"%b%b%b}]}" % (self._front, tail, data)

    def write_bytes(self, id: str, value: Any, status: str = OK) -> Encoded:
        """The same with the value as bytes."""
        try:
            data = self._pack(*value) if type(value) is list else self._pack(value)
        except OverflowError:  # past the range of float32
            data = to_bytes(np.array(value, dtype=np.float64), self._dtype)
        tail = self._bytes_tail if status == OK else _said(status) + self._bytes_tail
        head = b"%b%b%b" % (self._middle, _encode(id), tail) if id else self._front + tail
        return Encoded(head + data, len(head))


def _said(status: str) -> bytes:
    return b',"parameters":{"status":%b}' % _encode(status)


_encode = msgspec.json.Encoder().encode
