"""Infer requests and responses of the Open Inference Protocol as protocol buffers.

Values come typed, in ``contents`` of each input, or all of them as bytes in ``raw_input_contents``; the answer comes
the way the request came.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.wire.grpc_messages import protocol
from trimtab.errors import SchemaError
from trimtab.registry.manifest import Tensor
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

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field with the values of a datatype. FP16 has none: it is sent as bytes."""


def decode_message(
    message: Any, *, inputs: Sequence[Tensor], outputs: Sequence[Tensor], max_rows: int
) -> TensorRequest:
    """Read a ``ModelInferRequest`` against the signature of a model.

    Raises
    ------
    SchemaError
        A tensor is missing, unknown, of a type that would lose information, or of another shape or size.
    TooLarge
        More rows than allowed.
    """
    check_id(message.id)
    check_inputs(message.inputs, inputs)
    sent = [
        SentTensor(tensor.name, tensor.shape, tensor.datatype, partial(_typed, tensor)) for tensor in message.inputs
    ]
    raw = message.raw_input_contents
    if raw:
        sent = _raw(message, sent)
    names = tuple(dict.fromkeys(output.name for output in message.outputs))
    check_outputs(names, outputs)
    for tensor in (*message.inputs, *message.outputs):
        for name in ("classification", "shared_memory_region"):
            if name in tensor.parameters:
                raise SchemaError(f"{tensor.name!r} has the parameter {name}, which is not served")
    return TensorRequest(message.id, read_inputs(sent, inputs, max_rows=max_rows), names, names if raw else ())


def encode_message(answer: TensorAnswer, *, raw: bool) -> Any:
    """Write a ``ModelInferResponse``.

    Parameters
    ----------
    raw
        Whether the values go as bytes. An FP16 output always does, and takes the others with it.
    """
    message = protocol().messages["ModelInferResponse"](
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    if answer.status:
        message.parameters["status"].string_param = answer.status
    blocks = answer.blocks()
    raw = raw or any(NAMES[tensor.dtype] not in _CONTENTS for tensor, _ in blocks)
    for tensor, block in blocks:
        datatype = NAMES[tensor.dtype]
        shape = [len(answer.values), *tensor.shape[1:]]
        output = message.outputs.add(name=tensor.name, datatype=datatype, shape=shape)
        data = to_bytes(block, tensor.dtype)
        if raw:
            message.raw_output_contents.append(data)
        else:
            values = np.frombuffer(data, np.dtype(tensor.dtype).newbyteorder("<"))
            getattr(output.contents, _CONTENTS[datatype]).extend(values.tolist())
    return message


def _raw(message: Any, sent: Sequence[SentTensor]) -> list[SentTensor]:
    raw = message.raw_input_contents
    if len(raw) != len(sent):
        raise SchemaError(
            "raw_input_contents has another number of entries than there are inputs", got=f"{len(raw)} for {len(sent)}"
        )
    for tensor in message.inputs:
        if tensor.HasField("contents"):
            raise SchemaError(f"input {tensor.name!r} has contents beside raw_input_contents", hint="send one of them")
    return [
        tensor._replace(read=partial(from_bytes, tensor.name, data)) for tensor, data in zip(sent, raw, strict=True)
    ]


def _typed(tensor: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    wanted = _CONTENTS.get(tensor.datatype, "")
    given = [field.name for field, _ in tensor.contents.ListFields()]
    if given != [wanted]:
        raise SchemaError(
            f"input {tensor.name!r} does not have its values where its datatype says",
            got=", ".join(given) or "no contents",
            hint=f"send {wanted}" if wanted else "send raw_input_contents",
        )
    values = np.array(getattr(tensor.contents, wanted))
    if dtype.kind in "iu" and dtype.itemsize < 4:
        span = np.iinfo(dtype)
        if values.min(initial=0) < span.min or values.max(initial=0) > span.max:
            raise SchemaError(f"input {tensor.name!r} holds a number past the range of {tensor.datatype}")
    return values.astype(dtype, copy=False)
