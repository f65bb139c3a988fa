"""Named tensors in, named tensors out: what every form of the Open Inference Protocol, version 2, has in common.

A caller of this protocol brings the inputs of the model, so the feature stage is skipped. NaN in a floating tensor is a
missing value; an infinity is refused. How a request is written, as JSON, binary or protocol buffers, is read elsewhere:
:mod:`trimtab.serving.infer` and the gRPC adapter make a :class:`TensorRequest` of it and write a :class:`TensorAnswer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError, SchemaError, TooLarge
from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import TEXT_LIMIT

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
"""Numpy dtype by the protocol's name for it. ``BYTES`` (text) and ``BF16`` are not taken: models have numbers."""
NAMES = {dtype: name for name, dtype in DATATYPES.items()}

_DTYPES = {name: np.dtype(dtype) for name, dtype in DATATYPES.items()}
_WHY = {
    "BYTES": "; BYTES is not taken, a model here has numbers",
    "BF16": "; BF16 is not taken, what it holds is an FP32 without its last bits",
}
_SHOWN = 200
"""Characters of what was sent that an error repeats."""
_EXACT = 2**24
"""Largest integer up to which every one is a float32."""


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """A decoded infer request.

    ``values`` has shape (n, features): the model's inputs side by side in the order of its signature.
    """

    id: str
    values: NDArray[np.float32]
    outputs: tuple[str, ...]
    """Names of the outputs asked for; empty for all."""
    binary: tuple[str, ...] = ()
    """Those of the outputs that are wanted as bytes and not as JSON."""

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
    status: str = ""
    """Of its rows, where one is not ``ok``: one for all that have the same, else one per row, with ``;`` between."""

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


class SentTensor(NamedTuple):
    """One input as a caller sent it; its values are read once its shape and type are known to be acceptable."""

    name: str
    shape: Sequence[int]
    datatype: str
    read: Callable[[np.dtype[Any]], NDArray[Any]]
    """Gives the values, flat, as the dtype; raises ``SchemaError`` when they are no such values."""


def check_inputs(sent: Sequence[Any], inputs: Sequence[Tensor]) -> None:
    """Refuse tensors with other names than the inputs of a model, before anything is made of them: there may be many.

    Parameters
    ----------
    sent
        Each with a ``name``, however it was written.

    Raises
    ------
    SchemaError
        When one is missing, unknown, or there twice.
    """
    if len(sent) != len(inputs) or {tensor.name for tensor in sent} != {tensor.name for tensor in inputs}:
        raise SchemaError(
            "these are not the inputs of the model",
            got=", ".join(tensor.name[:_SHOWN] for tensor in sent[:_SHOWN])[:_SHOWN] or "none",
            hint=f"send {', '.join(tensor.name for tensor in inputs)}, each once",
        )


def read_inputs(sent: Sequence[SentTensor], inputs: Sequence[Tensor], *, max_rows: int) -> NDArray[np.float32]:
    """The inputs of a model side by side, shape (n, features), in the order of its signature.

    Parameters
    ----------
    sent
        With the names of the inputs, see :func:`check_inputs`.

    Raises
    ------
    SchemaError
        A tensor is of a type that would lose information, or of another shape.
    TooLarge
        More rows than allowed.
    InputError
        There are no rows.
    """
    given = {tensor.name: tensor for tensor in sent}
    if len(inputs) == 1:
        return _matrix(sent[0], inputs[0], max_rows)
    blocks = [_matrix(given[tensor.name], tensor, max_rows) for tensor in inputs]
    rows = {len(block) for block in blocks}
    if len(rows) != 1:
        raise SchemaError("the inputs have different numbers of rows", got=", ".join(map(str, sorted(rows))))
    return np.concatenate(blocks, axis=1)


def check_id(text: str) -> None:
    """Refuse an id that no record could hold; a request without one has the empty text.

    Raises
    ------
    SchemaError
        When it is too long, or has a NUL in it.
    """
    if len(text) > TEXT_LIMIT:
        raise SchemaError("the id is too long", got=f"{len(text)} characters", hint=f"at most {TEXT_LIMIT}")
    if "\0" in text:
        raise SchemaError("the id has a NUL in it", got=repr(text[:40]), hint="remove it")


def check_outputs(asked: Sequence[str], outputs: Sequence[Tensor]) -> None:
    """Refuse names that are no outputs of the model.

    Raises
    ------
    SchemaError
        When there is such a name.
    """
    known = {tensor.name for tensor in outputs}
    for name in asked:
        if name not in known:
            raise SchemaError(
                "no such output", got=repr(name)[:200], hint=f"the outputs are {', '.join(sorted(known))}"
            )


def from_bytes(name: str, data: memoryview | bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values from little-endian bytes, without a copy where they lie aligned.

    Raises
    ------
    SchemaError
        The bytes are no whole number of values, or a boolean is neither 0 nor 1.

    Examples
    --------
    >>> from_bytes("x", b"\\x01\\x00\\x02\\x00", np.dtype("int16"))
    array([1, 2], dtype=int16)
    """
    if len(data) % dtype.itemsize:
        raise SchemaError(
            f"the bytes of input {name!r} are no whole number of values",
            got=f"{len(data)} bytes",
            hint=f"a value takes {dtype.itemsize} bytes",
        )
    found = np.frombuffer(data, dtype.newbyteorder("<"))
    if dtype.kind == "b" and found.view(np.uint8).max(initial=0) > 1:
        raise SchemaError(f"input {name!r} holds a boolean that is neither 0 nor 1", got="a byte above 1")
    return found if found.flags.aligned else found.copy()


def to_bytes(block: NDArray[np.float64], dtype: str) -> bytes:
    """The columns of one output as little-endian bytes, row after row."""
    with np.errstate(invalid="ignore", over="ignore"):
        return block.astype(_DTYPES[NAMES[dtype]].newbyteorder("<")).tobytes()


def describe(tensors: Sequence[Tensor], columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Tensors as the protocol's model metadata shows them, with the names of their columns where they have some.

    Examples
    --------
    >>> describe([Tensor("x", "float32", (-1, 2))], ["age", "visits"])
    [{'name': 'x', 'datatype': 'FP32', 'shape': [-1, 2], 'parameters': {'columns': ['age', 'visits']}}]
    """
    found: list[dict[str, Any]] = []
    for tensor, names in zip(tensors, columns_of(tensors, columns), strict=True):
        one = {"name": tensor.name, "datatype": NAMES.get(tensor.dtype, tensor.dtype), "shape": list(tensor.shape)}
        found.append(one | ({"parameters": {"columns": names}} if names else {}))
    return found


def columns_of(tensors: Sequence[Tensor], columns: Sequence[str]) -> list[list[str]]:
    """For each tensor the names of its columns; none for all of them where there are more or fewer names than columns.

    Examples
    --------
    >>> columns_of([Tensor("x", "float32", (-1, 2)), Tensor("y", "float32", (-1,))], ["a", "b", "c"])
    [['a', 'b'], ['c']]
    """
    widths = [math.prod(tensor.shape[1:]) for tensor in tensors]
    if sum(widths) != len(columns):
        return [[] for _ in tensors]
    ends = list(accumulate(widths))
    return [list(columns[end - width : end]) for width, end in zip(widths, ends, strict=True)]


def _matrix(given: SentTensor, declared: Tensor, max_rows: int) -> NDArray[np.float32]:
    shape = tuple(given.shape)
    if len(shape) != len(declared.shape) or shape[1:] != declared.shape[1:]:
        raise SchemaError(
            f"input {given.name!r} has another shape",
            got=str(list(shape))[:100],
            hint=f"send {[-1, *declared.shape[1:]]}, -1 for the rows",
        )
    rows = shape[0]
    if rows > max_rows:
        raise TooLarge("too many rows in one body", got=str(rows), hint=f"send at most {max_rows} at a time")
    if rows <= 0:
        raise InputError("there are no rows", got=str(list(shape)), hint="send at least one")
    dtype = _dtype(given, declared)
    flat = given.read(dtype)
    if flat.size != math.prod(shape):
        raise SchemaError(
            f"input {given.name!r} has another number of values than its shape says",
            got=f"{flat.size} for {list(shape)}",
        )
    if dtype.kind in "iu" and np.dtype(declared.dtype).kind in "iu" and not _exact(flat):
        raise SchemaError(
            f"input {given.name!r} holds an integer that the model would not get exactly",
            hint=f"stay within {_EXACT} on either side of 0",
        )
    with np.errstate(over="ignore"):
        values = flat.astype(np.float32, copy=False).reshape(rows, -1)
        # A float64 is carried as float32; a float16 has a range of its own, which integers can be past as well.
        kept = values.astype(np.float16) if declared.dtype == "float16" else values
    if (dtype.kind == "f" or kept is not values) and bool(np.isinf(kept).any()):
        raise SchemaError(
            f"input {given.name!r} holds a value past the range of {kept.dtype}",
            got="an infinity, or a number that becomes one",
            hint=f"stay within {float(np.finfo(kept.dtype).max):g} on either side of 0; "
            "a missing value is NaN; in JSON, null",
        )
    return values


def _dtype(given: SentTensor, declared: Tensor) -> np.dtype[Any]:
    dtype = _DTYPES.get(given.datatype)
    if dtype is None or not np.can_cast(dtype, declared.dtype, "same_kind"):
        text = _WHY.get(given.datatype, "")
        raise SchemaError(
            f"input {given.name!r} has another datatype",
            got=given.datatype[:40],
            hint=f"send {NAMES.get(declared.dtype, declared.dtype)}{text}",
        )
    return dtype


def _exact(flat: NDArray[Any]) -> bool:
    return int(flat.max(initial=0)) <= _EXACT and int(flat.min(initial=0)) >= -_EXACT
