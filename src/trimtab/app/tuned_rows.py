"""What a tuning asks: requests as they were recorded, or zeros of the right shape."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import msgspec

from trimtab.app.home import Home
from trimtab.core.ids import Json
from trimtab.registry.bundle import Bundle
from trimtab.registry.manifest import Tensor
from trimtab.serving.record import ASIDE, PREDICTIONS, PredictionRecord, decode_record

MOST = 512
"""Different requests; the newest are taken."""
_DATATYPES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "bool": "BOOL"}


class Asked(NamedTuple):
    """Whole HTTP requests, and where they come from."""

    requests: list[bytes]
    source: str


def requests_for(home: Home, bundle: Bundle) -> Asked:
    """Single-row requests to a model: recorded ones when there are any, else zeros."""
    model = bundle.manifest.model
    newest: deque[PredictionRecord] = deque(maxlen=MOST)
    for _, row in home.records("reader").scan(PREDICTIONS):
        record = decode_record(row)
        if record.model == model and record.arm not in ASIDE:
            newest.append(record)
    shape = bundle.plan.requests
    whole = [record for record in newest if set(shape.keys) <= set(record.keys) and (record.keys or record.inputs)]
    if whole:
        bodies: list[Json] = [{**record.keys, **record.inputs} for record in whole]
        told = f"{len(bodies)} recorded requests, sent to /predict/{model}"
        return Asked([_post(f"/predict/{model}", body) for body in bodies], told)
    path, inputs = f"/v2/models/{model}/infer", bundle.manifest.inputs
    rows = [record.feature_values().tolist() for record in newest if record.features]
    width = sum(math.prod(tensor.shape[1:]) for tensor in inputs)
    rows = [row for row in rows if len(row) == width and all(map(math.isfinite, row))]
    if rows and len(inputs) == 1:
        told = f"the features of {len(rows)} recorded requests, sent to {path}"
        return Asked([_post(path, {"inputs": [_tensor(inputs[0], row)]}) for row in rows], told)
    zeros: Json = {"inputs": [_tensor(tensor, [0] * math.prod(tensor.shape[1:])) for tensor in inputs]}
    told = f"zeros, sent to {path}: there is no record of a request yet"
    return Asked([_post(path, zeros)], told + (", and looking features up is not measured" if shape.keys else ""))


def _tensor(tensor: Tensor, values: list[float]) -> Json:
    datatype = _DATATYPES.get(tensor.dtype, tensor.dtype.upper())
    data: list[Json] = [bool(value) for value in values] if datatype == "BOOL" else list(values)
    if "INT" in datatype:
        data = [int(value) for value in values]
    return {"name": tensor.name, "shape": [1, *tensor.shape[1:]], "datatype": datatype, "data": data}


def _post(path: str, body: Json) -> bytes:
    data = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data
