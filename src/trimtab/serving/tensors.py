"""The Open Inference Protocol, version 2, as JSON: named tensors in, named tensors out.

A caller of this protocol brings the inputs of the model, so the feature stage is skipped. ``null`` in a floating tensor
is a missing value (NaN), which JSON cannot write otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from trimtab.errors import InputError, SchemaError, TooLarge
from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import MAX_ROWS, TEXT_LIMIT, not_json

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""Numpy dtype by the protocol's name for it."""
NAMES = {dtype: name for name, dtype in DATATYPES.items()}

_Size = Annotated[int, Meta(ge=0, le=2**31)]
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "b": msgspec.json.Decoder(list[bool]),
    "i": msgspec.json.Decoder(list[int]),
    "f": msgspec.json.Decoder(list[float | None]),
}
_NESTED: dict[str, msgspec.json.Decoder[Any]] = {
    "b": msgspec.json.Decoder(list[list[bool]]),
    "i": msgspec.json.Decoder(list[list[int]]),
    "f": msgspec.json.Decoder(list[list[float | None]]),
}


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[_Size]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct, gc=False):
    name: str


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: Annotated[str, Meta(max_length=TEXT_LIMIT)] = ""
    outputs: list[_Output] = []


_infer = msgspec.json.Decoder(_Infer)


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """A decoded infer request.

    ``values`` has shape (n, features): the model's inputs side by side in the order of its signature.
    """

    id: str
    values: NDArray[np.float32]
    outputs: tuple[str, ...]
    """Names of the outputs asked for; empty for all."""

    def row_ids(self, new_id: Callable[[], str]) -> list[str]:
        """An id per row: the request's own for one row, numbered for more.

        Examples
        --------
        >>> TensorRequest("r", np.zeros((2, 1), np.float32), ()).row_ids(lambda: "new")
        ['r/0', 'r/1']
        """
        base = self.id or new_id()
        return [base] if len(self.values) == 1 else [f"{base}/{row}" for row in range(len(self.values))]


@dataclass(frozen=True, slots=True)
class TensorAnswer:
    """The answer to a :class:`TensorRequest`, before a protocol writes it down."""

    model: str
    version: str
    """The digest of the version that answered."""
    id: str
    """Of the request; empty when it came without one."""
    values: NDArray[np.float64]
    """Shape (n, k): the model's outputs side by side in the order of its signature."""
    outputs: Sequence[Tensor]
    """The signature of the model's outputs."""
    asked: Sequence[str] = ()
    """Names of the outputs to send; empty for all."""

    def blocks(self) -> list[tuple[Tensor, NDArray[np.float64]]]:
        """Every output that is to be sent, with its columns: shape (n, width)."""
        found = []
        start = 0
        for tensor in self.outputs:
            width = math.prod(tensor.shape[1:])
            if not self.asked or tensor.name in self.asked:
                found.append((tensor, self.values[:, start : start + width]))
            start += width
        return found


def decode_infer(
    body: bytes, *, inputs: Sequence[Tensor], outputs: Sequence[Tensor], max_rows: int = MAX_ROWS
) -> TensorRequest:
    """Read an infer request against the signature of a model.

    Raises
    ------
    SchemaError
        A tensor is missing, unknown, of a type that would lose information, or of another shape.
    TooLarge
        More rows than allowed.
    InputError
        The body is not JSON.

    Examples
    --------
    >>> body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, null]}]}'
    >>> decode_infer(body, inputs=[Tensor("x", "float32", (-1, 2))], outputs=[]).values
    array([[ 1., nan]], dtype=float32)
    """
    try:
        asked = _infer.decode(body)
    except msgspec.ValidationError as error:
        raise SchemaError("not an infer request", got=str(error), hint="see the Open Inference Protocol V2") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(error, body) from None
    given = {tensor.name: tensor for tensor in asked.inputs}
    names = [tensor.name for tensor in inputs]
    if sorted(names) != sorted(tensor.name for tensor in asked.inputs):
        raise SchemaError(
            "these are not the inputs of the model", got=", ".join(given), hint=f"send {', '.join(names)}"
        )
    known = {tensor.name for tensor in outputs}
    for wanted in asked.outputs:
        if wanted.name not in known:
            raise SchemaError(
                "no such output", got=repr(wanted.name), hint=f"the outputs are {', '.join(sorted(known))}"
            )
    blocks = [_matrix(given[tensor.name], tensor, max_rows) for tensor in inputs]
    rows = {len(block) for block in blocks}
    if len(rows) != 1:
        raise SchemaError("the inputs have different numbers of rows", got=", ".join(map(str, sorted(rows))))
    values = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
    return TensorRequest(asked.id, values, tuple(output.name for output in asked.outputs))


def encode_infer(answer: TensorAnswer) -> bytes:
    """Write an infer response as JSON."""
    rows = len(answer.values)
    written = [
        {
            "name": tensor.name,
            "datatype": NAMES[tensor.dtype],
            "shape": [rows, *tensor.shape[1:]],
            "data": _plain(block, tensor.dtype),
        }
        for tensor, block in answer.blocks()
    ]
    body = {"model_name": answer.model, "model_version": answer.version, "id": answer.id, "outputs": written}
    return msgspec.json.encode(body if answer.id else {name: part for name, part in body.items() if name != "id"})


def describe(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Tensors as the protocol's model metadata shows them."""
    return [{"name": t.name, "datatype": NAMES.get(t.dtype, t.dtype), "shape": list(t.shape)} for t in tensors]


def _plain(block: NDArray[np.float64], dtype: str) -> list[Any]:
    flat: list[Any] = block.reshape(-1).tolist()
    if np.dtype(dtype).kind in "iub" and all(map(math.isfinite, flat)):
        return [bool(value) if dtype == "bool" else int(value) for value in flat]
    return flat


def _matrix(given: _Input, declared: Tensor, max_rows: int) -> NDArray[np.float32]:
    inner = declared.shape[1:]
    if len(given.shape) != len(declared.shape) or tuple(given.shape[1:]) != inner:
        raise SchemaError(
            f"input {given.name!r} has another shape",
            got=str(given.shape),
            hint=f"send {[-1, *inner]}, -1 for the rows",
        )
    rows = given.shape[0]
    if rows > max_rows:
        raise TooLarge("too many rows in one body", got=str(rows), hint=f"send at most {max_rows} at a time")
    if rows == 0:
        raise InputError("there are no rows", got=str(given.shape), hint="send at least one")
    dtype = DATATYPES.get(given.datatype, "")
    if not dtype or not np.can_cast(dtype, declared.dtype, "same_kind"):
        wanted = NAMES.get(declared.dtype, declared.dtype)
        raise SchemaError(f"input {given.name!r} has another datatype", got=given.datatype, hint=f"send {wanted}")
    flat = _numbers(given, np.dtype(dtype))
    if flat.size != math.prod(given.shape):
        raise SchemaError(
            f"input {given.name!r} has another number of values than its shape says",
            got=f"{flat.size} for {given.shape}",
        )
    with np.errstate(over="ignore"):
        values = flat.astype(np.float32).reshape(rows, -1)
    if np.isinf(values).any():
        raise SchemaError(f"input {given.name!r} holds a value past the range of {declared.dtype}")
    return values


def _numbers(given: _Input, dtype: np.dtype[Any]) -> NDArray[Any]:
    if given.data is msgspec.UNSET:
        raise SchemaError(f"input {given.name!r} has no data", hint="send it as JSON, in the field data")
    raw = bytes(given.data)
    kind = "i" if dtype.kind == "u" else dtype.kind
    nested = raw[1:].lstrip()[:1] == b"["
    try:
        found = np.array((_NESTED if nested else _FLAT)[kind].decode(raw), dtype="f8" if kind == "f" else dtype)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(
            f"input {given.name!r} holds another kind of value than {given.datatype}", got=str(error)
        ) from None
    except (OverflowError, ValueError):
        raise SchemaError(
            f"input {given.name!r} is ragged, or holds a number past the range of {given.datatype}"
        ) from None
    if nested and found.ndim == 2 and list(found.shape) != given.shape:
        raise SchemaError(f"input {given.name!r} is nested differently from its shape", got=str(list(found.shape)))
    return found.reshape(-1)
