"""FastAPI with ONNX Runtime as teams write it: one Open Inference Protocol route, pydantic in and out.

``STYLE``: ``async`` (the default; the session is run in the event loop, the fastest of the three common forms),
``def`` (FastAPI runs it in its thread pool) or ``orjson`` (no pydantic: the body is read and written by orjson).
"""

from __future__ import annotations

import os

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from onnx_session import session
from pydantic import BaseModel

STYLE = os.environ.get("STYLE", "async")
NAME = os.environ["MODEL_NAME"]

run = session().run
app = FastAPI()


class InferInput(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    id: str | None = None
    inputs: list[InferInput]


class InferOutput(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    outputs: list[InferOutput]


def answer(shape: list[int], data: list[float]) -> np.ndarray:
    rows = np.asarray(data, dtype=np.float32).reshape(shape)
    return run(["output"], {"input": rows})[0]


def respond(request: InferRequest) -> InferResponse:
    given = request.inputs[0]
    found = answer(given.shape, given.data)
    output = InferOutput(name="output", shape=list(found.shape), datatype="FP32", data=found.ravel().tolist())
    return InferResponse(model_name=NAME, model_version="1", outputs=[output])


PATH = f"/v2/models/{NAME}/infer"

if STYLE == "async":

    @app.post(PATH)
    async def infer(request: InferRequest) -> InferResponse:
        return respond(request)

elif STYLE == "def":

    @app.post(PATH)
    def infer_in_thread(request: InferRequest) -> InferResponse:
        return respond(request)

else:

    @app.post(PATH)
    async def infer_by_hand(request: Request) -> Response:
        given = orjson.loads(await request.body())["inputs"][0]
        found = answer(given["shape"], given["data"])
        output = {"name": "output", "shape": found.shape, "datatype": "FP32", "data": found.ravel().tolist()}
        body = orjson.dumps({"model_name": NAME, "model_version": "1", "outputs": [output]})
        return Response(body, media_type="application/json")
