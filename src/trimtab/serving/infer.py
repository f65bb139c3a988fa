"""Infer requests and responses of the Open Inference Protocol over HTTP: JSON, and its binary tensor extension.

With the extension the body is JSON followed by the bytes of the tensors, one after the other, in the order in which
they are named. The header ``Inference-Header-Content-Length`` says how long the JSON is; of a tensor,
``parameters.binary_data_size`` says how many bytes are its own. Bytes are little-endian, rows one after the other. A
tensor either has ``data`` or has bytes, and one body may hold both kinds. An output is sent as bytes when
``parameters.binary_data`` of it says so, or, for all that do not say, ``parameters.binary_data_output`` of the request.

References
----------
https://github.com/kserve/open-inference-protocol and, for the extension,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from trimtab.errors import InputError, SchemaError
from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import MAX_ROWS, TEXT_LIMIT, not_json
from trimtab.serving.tensors import (
    NAMES,
    SentTensor,
    TensorAnswer,
    TensorRequest,
    check_id,
    check_inputs,
    check_outputs,
    from_bytes,
    read_inputs,
    to_bytes,
)

EXTENSIONS = ("binary_tensor_data",)
"""What ``GET /v2`` names."""
LENGTH_HEADER = b"inference-header-content-length"

_Size = Annotated[int, Meta(ge=0, le=2**31)]


def _lists(depth: int) -> dict[str, msgspec.json.Decoder[Any]]:
    kinds: dict[str, Any] = {"b": bool, "i": int, "f": float | None}
    for _ in range(depth):
        kinds = {kind: GenericAlias(list, (inner,)) for kind, inner in kinds.items()}
    return {kind: msgspec.json.Decoder(wanted) for kind, wanted in kinds.items()}


_NESTED = {depth: _lists(depth) for depth in range(1, 5)}
"""Decoders of nested data by depth, as deep as anybody's tensors are."""


class _InputParameters(msgspec.Struct, gc=False):
    binary_data_size: _Size | UnsetType = UNSET
    shared_memory_region: msgspec.Raw | UnsetType = UNSET


class _OutputParameters(msgspec.Struct, gc=False):
    binary_data: bool | UnsetType = UNSET
    classification: msgspec.Raw | UnsetType = UNSET
    shared_memory_region: msgspec.Raw | UnsetType = UNSET


class _InferParameters(msgspec.Struct, gc=False):
    binary_data_output: bool = False


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[_Size]
    datatype: str
    data: msgspec.Raw | UnsetType = UNSET
    parameters: _InputParameters | UnsetType = UNSET


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: _OutputParameters | UnsetType = UNSET


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: Annotated[str, Meta(max_length=TEXT_LIMIT)] = ""
    outputs: list[_Output] = []
    parameters: _InferParameters | UnsetType = UNSET


_infer = msgspec.json.Decoder(_Infer)


class Encoded(NamedTuple):
    """An infer response: what goes into the body."""

    body: bytes
    header_length: int = -1
    """Bytes of JSON at its front when tensors follow as bytes; -1 when all of it is JSON."""


def header_length(value: bytes | None) -> int:
    """What ``Inference-Header-Content-Length`` says, -1 without it.

    Raises
    ------
    InputError
        When it is no number.

    Examples
    --------
    >>> header_length(b"120"), header_length(None)
    (120, -1)
    """
    if value is None:
        return -1
    text = value.strip()
    if not text.isdigit() or len(text) > 15:
        raise InputError(
            "the header Inference-Header-Content-Length is no length",
            got=repr(value[:40]),
            hint="it counts the bytes of JSON at the front of the body",
        )
    return int(text)


def decode_infer(
    body: bytes,
    *,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    header_length: int = -1,
    max_rows: int = MAX_ROWS,
) -> TensorRequest:
    """Read an infer request against the signature of a model.

    Parameters
    ----------
    header_length
        Bytes of JSON at the front of the body, tensors following as bytes; -1 when all of it is JSON.

    Raises
    ------
    SchemaError
        A tensor is missing, unknown, of a type that would lose information, or of another shape or size.
    TooLarge
        More rows than allowed.
    InputError
        The body is not JSON, or shorter than its header says.

    Examples
    --------
    >>> body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, null]}]}'
    >>> decode_infer(body, inputs=[Tensor("x", "float32", (-1, 2))], outputs=[]).values
    array([[ 1., nan]], dtype=float32)
    """
    if header_length > len(body):
        raise InputError(
            "the body is shorter than Inference-Header-Content-Length says",
            got=f"{len(body)} bytes for {header_length}",
            hint="the header counts the bytes of JSON, the tensors follow them",
        )
    head = memoryview(body)[:header_length] if header_length >= 0 else body
    try:
        asked = _infer.decode(head)
    except msgspec.ValidationError as error:
        raise SchemaError("not an infer request", got=str(error), hint="see the Open Inference Protocol V2") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(error, bytes(head[:80])) from None
    check_id(asked.id)
    check_inputs(asked.inputs, inputs)
    sent = _sent(asked.inputs, body, len(body) if header_length < 0 else header_length)
    names, binary = _wanted(asked, outputs)
    return TensorRequest(asked.id, read_inputs(sent, inputs, max_rows=max_rows), names, binary)


def encode_infer(answer: TensorAnswer, *, binary: Sequence[str] = ()) -> Encoded:
    """Write an infer response.

    Parameters
    ----------
    binary
        Names of the outputs that follow the JSON as bytes; see :attr:`TensorRequest.binary`.
    """
    rows = len(answer.values)
    written: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for tensor, block in answer.blocks():
        one = {"name": tensor.name, "datatype": NAMES[tensor.dtype], "shape": [rows, *tensor.shape[1:]]}
        if tensor.name in binary:
            data = to_bytes(block, tensor.dtype)
            tail.append(data)
            written.append(one | {"parameters": {"binary_data_size": len(data)}})
        else:
            written.append(one | {"data": _plain(block, tensor.dtype)})
    body: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        body["id"] = answer.id
    if answer.status:
        body["parameters"] = {"status": answer.status}
    head = msgspec.json.encode(body | {"outputs": written})
    return Encoded(b"".join([head, *tail]), len(head)) if tail else Encoded(head)


def _sent(given: Sequence[_Input], body: bytes, start: int) -> list[SentTensor]:
    """The inputs, each with where its values are; every byte of the body must belong to one."""
    found = []
    at = start
    for tensor in given:
        size = UNSET if tensor.parameters is UNSET else tensor.parameters.binary_data_size
        if tensor.parameters is not UNSET and tensor.parameters.shared_memory_region is not UNSET:
            raise SchemaError(
                f"input {tensor.name!r} lies in shared memory, which is not taken", hint="send it in the body"
            )
        if size is UNSET:
            read = partial(_numbers, tensor)
        elif tensor.data is not UNSET:
            raise SchemaError(f"input {tensor.name!r} has data and bytes", hint="send one of data, binary_data_size")
        elif at + size > len(body):
            raise SchemaError(
                f"the bytes of input {tensor.name!r} are past the end of the body",
                got=f"{size} bytes at {at} of {len(body)}",
                hint="Inference-Header-Content-Length counts the JSON, the tensors follow it in their order",
            )
        else:
            read = partial(from_bytes, tensor.name, memoryview(body)[at : at + size])
            at += size
        found.append(SentTensor(tensor.name, tensor.shape, tensor.datatype, read))
    if at != len(body):
        raise SchemaError(
            "the body is longer than its tensors",
            got=f"{len(body) - at} bytes too many",
            hint="the values of binary_data_size add up to what follows the JSON",
        )
    return found


def _wanted(asked: _Infer, outputs: Sequence[Tensor]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the outputs asked for, empty for all, and those that are to be sent as bytes; each name once."""
    names = tuple(dict.fromkeys(output.name for output in asked.outputs))
    every = asked.parameters is not UNSET and asked.parameters.binary_data_output
    if not names:
        return (), tuple(tensor.name for tensor in outputs) if every else ()
    check_outputs(names, outputs)
    binary = []
    for output in asked.outputs:
        said = output.parameters
        if said is UNSET:
            said = _OutputParameters()
        for name, found in (("classification", said.classification), ("shared memory", said.shared_memory_region)):
            if found is not UNSET:
                raise SchemaError(
                    f"output {output.name!r} is asked for as {name}, which is not given", hint="ask for it plain"
                )
        if every if said.binary_data is UNSET else said.binary_data:
            binary.append(output.name)
    return names, tuple(dict.fromkeys(binary))


def _plain(block: NDArray[np.float64], dtype: str) -> list[Any]:
    flat: list[Any] = block.reshape(-1).tolist()
    if np.dtype(dtype).kind in "iub" and all(map(math.isfinite, flat)):
        return [bool(value) if dtype == "bool" else int(value) for value in flat]
    return flat


def _numbers(given: _Input, dtype: np.dtype[Any]) -> NDArray[Any]:
    if given.data is UNSET:
        raise SchemaError(
            f"input {given.name!r} has no data",
            hint="send it in the field data, or as bytes with parameters.binary_data_size",
        )
    raw = bytes(given.data)
    kind = "i" if dtype.kind == "u" else dtype.kind
    depth = _depth(raw)
    try:
        found = np.array(_NESTED[min(depth, 4)][kind].decode(raw), dtype="f8" if kind == "f" else dtype)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(
            f"input {given.name!r} holds another kind of value than {given.datatype}", got=str(error)
        ) from None
    except (OverflowError, ValueError):
        raise SchemaError(
            f"input {given.name!r} is ragged, or holds a number past the range of {given.datatype}"
        ) from None
    if depth > 1 and list(found.shape) != given.shape:
        raise SchemaError(f"input {given.name!r} is nested differently from its shape", got=str(list(found.shape)))
    return found.reshape(-1)


def _depth(raw: bytes) -> int:
    """How deep the data is nested: brackets at its front, at least 1."""
    depth = 0
    for byte in raw[:64]:
        if byte == 0x5B:
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return max(depth, 1)
