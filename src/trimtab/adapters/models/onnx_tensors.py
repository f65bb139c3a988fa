"""Models of any tensors: several inputs and outputs, of any rank, of other types than float32.

The data plane carries float32 rows: the inputs of a model stand in them side by side, in the order of its signature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.onnx_runtime import CPU, OnnxModel, open_session, ranges_over_batch
from trimtab.errors import InputError
from trimtab.registry.manifest import Manifest, Tensor
from trimtab.serving.ports import ModelRuntime

EXACT = 2**24
"""float32 holds every integer up to this, and not every one above."""
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{size})": f"{kind}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)},
}


class OnnxTensors:
    """A model with named tensors, implementing :class:`trimtab.serving.ports.ModelRuntime`.

    Parameters
    ----------
    data
        The ONNX file.
    inputs, outputs
        Its signature: every input, and the outputs that count, each with the rows as its first axis (-1) and fixed
        other axes.
    threads, providers
        See :class:`OnnxModel`.

    Raises
    ------
    InputError
        When it is not ONNX, or the signature is not that of the file.
    """

    blocking = False
    trouble = ""

    def __init__(
        self,
        data: bytes,
        *,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        threads: int = 1,
        providers: Sequence[str] = CPU,
    ) -> None:
        self._session, self.note = open_session(data, threads=threads, providers=providers)
        self._row_by_row = ranges_over_batch(data)
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        _check(self._session.get_inputs(), self._inputs, every=True)
        _check(self._session.get_outputs(), self._outputs, every=False)
        self._names = [tensor.name for tensor in self._outputs]
        self.features = sum(math.prod(tensor.shape[1:]) for tensor in self._inputs)
        """Columns of a row: the sizes of its inputs added up."""

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs side by side, shape (n, outputs), for inputs side by side, shape (n, features).

        Raises
        ------
        InputError
            When the rows have another number of columns, or a value is not one of its tensor's type.
        """
        if values.ndim != 2 or values.shape[1] != self.features:
            raise InputError(
                "the rows do not fit the model", got=f"shape {values.shape}", hint=f"it takes (n, {self.features})"
            )
        if self._row_by_row and len(values) > 1:
            return np.concatenate([self.run(values[at : at + 1]) for at in range(len(values))])
        said = self._session.run(self._names, self.feeds(values))
        blocks = [_flat(tensor, block, rows=len(values)) for tensor, block in zip(self._outputs, said, strict=True)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def feeds(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The rows as the tensors that ONNX Runtime takes; raises as :meth:`run`."""
        given, start = {}, 0
        for tensor in self._inputs:
            width = math.prod(tensor.shape[1:])
            given[tensor.name] = _cast(tensor, values[:, start : start + width])
            start += width
        return given

    def close(self) -> None:
        """Free the session; the model is not used again."""
        self._session = None


def open_model(manifest: Manifest, data: bytes, *, threads: int = 1, providers: Sequence[str] = CPU) -> ModelRuntime:
    """The runtime for the signature of a manifest.

    Raises
    ------
    InputError
        See :class:`OnnxModel` and :class:`OnnxTensors`.
    """
    if is_matrix(manifest.inputs) and is_matrix(manifest.outputs):
        return OnnxModel(data, threads=threads, outputs=manifest.outputs[0].shape[1], providers=providers)
    return OnnxTensors(data, inputs=manifest.inputs, outputs=manifest.outputs, threads=threads, providers=providers)


def is_matrix(tensors: Sequence[Tensor]) -> bool:
    """Whether this is one float32 matrix."""
    return len(tensors) == 1 and tensors[0].dtype == "float32" and len(tensors[0].shape) == 2


def signature(data: bytes) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and outputs that an ONNX file declares.

    Raises
    ------
    InputError
        When a tensor is of text, has no rows axis, or leaves another axis open.
    """
    session, _ = open_session(data, threads=1, providers=CPU)
    return tuple(map(_tensor, session.get_inputs())), tuple(map(_tensor, session.get_outputs()))


def _tensor(found: Any) -> Tensor:
    dtype = _TYPES.get(found.type)
    if dtype is None:
        raise InputError(
            f"tensor {found.name!r} is of a type that is not served",
            got=found.type,
            hint=f"cast it in the model to one of {', '.join(sorted(_TYPES.values()))}",
        )
    shape = list(found.shape)
    if not shape or isinstance(shape[0], int):
        raise InputError(
            f"tensor {found.name!r} has no open first axis, so rows cannot be answered together",
            got=str(shape),
            hint="export it with a dynamic batch axis",
        )
    if not all(isinstance(size, int) for size in shape[1:]):
        raise InputError(
            f"tensor {found.name!r} leaves more than its first axis open",
            got=str(shape),
            hint="give the sizes, as in inputs=[Tensor('tokens', 'int64', (-1, 16))]",
        )
    return Tensor(found.name, dtype, (-1, *shape[1:]))


def _check(found: Sequence[Any], declared: Sequence[Tensor], *, every: bool) -> None:
    there = {one.name: one for one in found}
    names = [tensor.name for tensor in declared]
    if (sorted(names) != sorted(there)) if every else (not names or set(names) - set(there)):
        raise InputError("these are not the tensors of the ONNX model", got=", ".join(names), hint=", ".join(there))
    for tensor in declared:
        said = there[tensor.name]
        fits = len(said.shape) == len(tensor.shape) and all(
            not isinstance(size, int) or size == wanted for size, wanted in zip(said.shape, tensor.shape, strict=True)
        )
        if _TYPES.get(said.type) != tensor.dtype or not fits:
            raise InputError(
                f"tensor {tensor.name!r} is declared differently from the ONNX model",
                got=f"{tensor.dtype} {tensor.shape}",
                hint=f"{said.type} {said.shape}, with an open first axis",
            )


def _cast(tensor: Tensor, values: NDArray[np.float32]) -> NDArray[Any]:
    """Columns as the tensor that they are; nothing is rounded silently."""
    dtype = np.dtype(tensor.dtype)
    shape = (len(values), *tensor.shape[1:])
    if dtype == np.float16:
        return _half(tensor, values.reshape(shape))
    if dtype.kind == "f":
        return np.ascontiguousarray(values.reshape(shape), dtype)
    if dtype.kind == "b":
        low, high = 0.0, 1.0
    else:
        low = max(float(np.iinfo(dtype).min), -float(EXACT))
        high = min(float(np.iinfo(dtype).max), float(EXACT))
    wrong = ~((values >= low) & (values <= high) & (values == np.trunc(values)))
    if wrong.any():
        odd = float(values[wrong][0])
        exact = f"; rows are carried as float32, which is exact for integers up to {EXACT:,}"
        raise InputError(
            f"input {tensor.name!r} holds a value that is no {tensor.dtype}",
            got=f"{odd:g}",
            hint=f"send whole numbers from {low:.0f} to {high:.0f}{exact if abs(odd) > EXACT else ''}",
        )
    return np.ascontiguousarray(values.reshape(shape)).astype(dtype)


def _half(tensor: Tensor, values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(values, np.float16)
    endless = np.isinf(halves)
    if endless.any():
        raise InputError(
            f"input {tensor.name!r} holds a value past the range of float16",
            got=f"{float(values[endless][0]):g}",
            hint=f"stay within {float(np.finfo(np.float16).max):g} on either side of 0; a missing value is NaN",
        )
    return halves


def _flat(tensor: Tensor, block: NDArray[Any], *, rows: int) -> NDArray[np.float32]:
    if block.shape != (rows, *tensor.shape[1:]):
        raise InputError(
            f"output {tensor.name!r} has another shape than declared",
            got=str(block.shape),
            hint=f"({rows}, {', '.join(map(str, tensor.shape[1:]))})",
        )
    if block.dtype.kind in "iu" and block.size and max(abs(int(block.min())), abs(int(block.max()))) > EXACT:
        raise InputError(
            f"output {tensor.name!r} holds an integer that float32 cannot hold exactly",
            got=f"{int(block.min())} to {int(block.max())}",
            hint=f"answers are carried as float32: keep integers up to {EXACT:,}, or leave this output out",
        )
    return np.ascontiguousarray(block.reshape(rows, -1), np.float32)
