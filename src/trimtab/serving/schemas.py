"""What callers send and get, as JSON Schema (2020-12) and as examples, made from a model's plan and signature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trimtab.core.clock import iso
from trimtab.features.plan import RequestShape
from trimtab.registry.manifest import Tensor
from trimtab.serving.codec import TEXT_LIMIT
from trimtab.serving.tensors import DATATYPES, NAMES, columns_of

Schema = dict[str, Any]

_INT64 = 2**63
_NOON = 1_767_268_800_000_000
_ID: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": TEXT_LIMIT, "description": "Joins the label."}
_MODEL: Schema = {"type": "string"}
_SIZE: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31}
_COLUMNS: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What the columns of the tensor are, in their order, where they have names.",
}

ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong."},
        "got": {"type": "string", "description": "What came."},
        "hint": {"type": "string", "description": "What to do."},
        "where": {"type": "string"},
        "kind": {"type": "string", "description": "The class of the error."},
    },
}
PREDICTION: Schema = {
    "type": "object",
    "required": ["id", "prediction", "version", "arm", "status"],
    "properties": {
        "id": {"type": "string", "description": "That of the request, or one made for it."},
        "prediction": {
            "type": ["number", "array", "null"],
            "items": {"type": ["number", "null"]},
            "description": "The probability of the positive class, or the predicted number; several outputs as a list.",
        },
        "version": {"type": "string"},
        "arm": {"type": "string"},
        "status": {"type": "string"},
        "model": {"type": "string"},
    },
}
PREDICTIONS: Schema = {
    "type": "object",
    "required": ["model", "predictions"],
    "properties": {"model": _MODEL, "predictions": {"type": "array", "items": PREDICTION}},
}
METADATA: Schema = {
    "type": "object",
    "required": ["name", "versions", "platform", "inputs", "outputs"],
    "properties": {
        "name": _MODEL,
        "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"},
        "parameters": {"type": "object", "properties": {"runs_on": {"type": "string"}}},
        **{
            side: {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "datatype", "shape"],
                    "properties": {
                        "name": {"type": "string"},
                        "datatype": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer"}},
                        "parameters": {"type": "object", "properties": {"columns": _COLUMNS}},
                    },
                },
            }
            for side in ("inputs", "outputs")
        },
    },
}
INFER_ANSWER: Schema = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": _MODEL,
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {
                "status": {
                    "type": "string",
                    "description": "Of the rows, where one is not `ok`: one for all, or one per row with `;` between.",
                }
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"type": "string"},
                    "datatype": {"enum": list(DATATYPES)},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "data": {"type": "array"},
                    "parameters": {"type": "object"},
                },
            },
        },
    },
}


def request_schema(shape: RequestShape) -> Schema:
    """One friendly request: entity keys and inputs.

    Examples
    --------
    >>> request_schema(RequestShape("v", "id", "at", {}, {"age": "float"}, (), {"age": (0, 99)}))["properties"]["age"]
    {'type': 'number', 'minimum': 0, 'maximum': 99}
    """
    kinds = {**shape.keys, **shape.inputs}
    fields = {name: _field(shape, name, kind) for name, kind in kinds.items()}
    ids = {name: _ID for name in ("id", shape.id) if name and name not in kinds}
    return {
        "type": "object",
        "properties": ids | fields,
        "required": [name for name in fields if name not in shape.optional],
        "additionalProperties": False,
    }


def body_schema(shape: RequestShape, *, max_rows: int) -> Schema:
    """A friendly body: one request, or a list of them."""
    one = request_schema(shape)
    many = {
        "type": "object",
        "properties": {"instances": {"type": "array", "items": one, "minItems": 1, "maxItems": max_rows}},
        "required": ["instances"],
        "additionalProperties": False,
    }
    return {"oneOf": [one, many]}


def request_example(shape: RequestShape) -> dict[str, Any]:
    """One friendly request that is acceptable."""
    kinds = {**shape.keys, **shape.inputs}
    first = {} if "id" in kinds else {"id": "r1"}
    return first | {name: _value(kind, shape.ranges.get(name)) for name, kind in kinds.items()}


def infer_schema(inputs: Sequence[Tensor], outputs: Sequence[Tensor], columns: Sequence[str] = ()) -> Schema:
    """An infer request for a signature, whose inputs have these columns, one beside the other."""
    named = zip(inputs, columns_of(inputs, columns), strict=True)
    binary = {"binary_data_size": _SIZE | {"description": "Bytes of this tensor after the JSON, instead of data."}}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": TEXT_LIMIT, "pattern": "^[^\\u0000]*$"},
            "inputs": {
                "type": "array",
                "minItems": len(inputs),
                "maxItems": len(inputs),
                "prefixItems": [
                    _tensor(one) | {"properties": _tensor_fields(one, binary, names)} for one, names in named
                ],
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": [one.name for one in outputs]},
                        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
                    },
                },
                "description": "Those wanted; all when absent.",
            },
            "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
        },
    }


def infer_example(inputs: Sequence[Tensor]) -> dict[str, Any]:
    """An infer request for one row that is acceptable."""
    sent = []
    for tensor in inputs:
        kind = np.dtype(tensor.dtype).kind
        value = {"b": True, "f": 0.5}.get(kind, 1)
        sent.append(
            {
                "name": tensor.name,
                "shape": [1, *tensor.shape[1:]],
                "datatype": NAMES[tensor.dtype],
                "data": [value] * math.prod(tensor.shape[1:]),
            }
        )
    return {"inputs": sent}


def _tensor(tensor: Tensor) -> Schema:
    return {"type": "object", "required": ["name", "shape", "datatype"], "title": tensor.name}


def _tensor_fields(tensor: Tensor, binary: Schema, columns: Sequence[str]) -> Schema:
    kind = np.dtype(tensor.dtype).kind
    value: Schema = {"type": {"b": "boolean", "f": ["number", "null"]}.get(kind, "integer")}
    row = {"type": "array", "items": value}
    rows = f"Row after row; the columns are {', '.join(columns)}." if columns else "Row after row."
    more: Schema = {"x-columns": list(columns)} if columns else {}
    taken = [name for name, dtype in DATATYPES.items() if np.can_cast(dtype, tensor.dtype, "same_kind")]
    sizes = [{"type": "integer", "minimum": 1, "maximum": 2**31}, *({"const": size} for size in tensor.shape[1:])]
    return {
        "name": {"const": tensor.name},
        "shape": {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)},
        "datatype": {"enum": taken},
        "data": {"oneOf": [row, {"type": "array", "items": row, "minItems": 1}], "description": rows} | more,
        "parameters": {"type": "object", "properties": binary},
    }


def _field(shape: RequestShape, name: str, kind: str) -> Schema:
    low, high = shape.ranges.get(name, (-math.inf, math.inf))
    schema = _kind(kind, low, high)
    if name == shape.id and kind == "str":
        schema |= {"minLength": 1}
    if name not in shape.optional:
        return schema
    return {"anyOf": [schema, {"type": "null"}]} if "anyOf" in schema else schema | {"type": [schema["type"], "null"]}


def _kind(kind: str, low: float, high: float) -> Schema:
    match kind:
        case "str":
            return {"type": "string", "maxLength": TEXT_LIMIT, "pattern": "^[^\\u0000]*$"}
        case "bool":
            return {"type": "boolean"}
        case "int":
            return {
                "type": "integer",
                "minimum": math.ceil(max(low, -_INT64)),
                "maximum": math.floor(min(high, _INT64 - 1)),
            }
        case "float":
            bounds = {"minimum": low, "maximum": high}
            return {"type": "number"} | {name: at for name, at in bounds.items() if math.isfinite(at)}
        case _:
            return {
                "anyOf": [{"type": "string", "format": "date-time", "maxLength": 40}, {"type": "integer"}],
                "description": "ISO 8601, or microseconds since 1970.",
            }


def _value(kind: str, between: tuple[float, float] | None) -> Any:
    low, high = between or (-math.inf, math.inf)
    match kind:
        case "str":
            return "a"
        case "bool":
            return True
        case "int":
            low = 0 if low <= 0 <= high and math.isfinite(low) else low
            return math.ceil(low) if math.isfinite(low) else min(1, math.floor(min(high, 1)))
        case "float":
            if math.isfinite(low) and math.isfinite(high):
                return (low + high) / 2
            return low if math.isfinite(low) else min(high, 1.0)
        case _:
            return iso(int(low)) if math.isfinite(low) else iso(int(min(high, _NOON)))
