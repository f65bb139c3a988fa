"""The data plane described for machines: OpenAPI 3.1, made anew from what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.serving.ask import LONGEST_MS
from trimtab.serving.live import Live
from trimtab.serving.pipeline import Deployed
from trimtab.serving.schemas import (
    ERROR,
    INFER_ANSWER,
    METADATA,
    PREDICTION,
    PREDICTIONS,
    Schema,
    body_schema,
    infer_example,
    infer_schema,
    request_example,
)

_JSON = "application/json"
_BYTES = "application/octet-stream"
_LENGTH = "Inference-Header-Content-Length"

_REASONS = {
    400: "The request is not acceptable; the answer says why.",
    404: "No such model or version.",
    405: "The path takes another method.",
    408: "The request did not arrive in time.",
    413: "The body is too large, or has too many rows.",
    415: "The body is compressed, or declared as something else than JSON.",
    429: "Too many requests wait; `Retry-After` says when to come back.",
    431: "The headers are too large.",
    500: "An internal error.",
    503: "Nothing is live yet, or the worker is at its limit; `Retry-After` says when to come back.",
}
_STEER = [
    {"name": name, "in": "header", "schema": schema, "description": text}
    for name, schema, text in (
        (
            "X-Trimtab-Unit",
            {"type": "string"},
            "What stays with one arm, such as a user; each request if absent.",
        ),
        ("X-Trimtab-Arm", {"type": "string"}, "Names the arm that answers; recorded as pinned."),
        (
            "X-Trimtab-Deadline-Ms",
            {"type": "string", "pattern": "^[1-9][0-9]{0,5}$"},
            f"How long the caller waits, up to {LONGEST_MS}; what would come later is refused at once, with 503.",
        ),
    )
]
_POST = (400, 404, 408, 413, 415, 429, 431, 500, 503)
_READ = (404, 503)


def describe_api(live: Live, *, software: str = "", max_rows: int) -> dict[str, Any]:
    """The OpenAPI document of a worker.

    Parameters
    ----------
    live
        What is loaded.
    software
        Version of the server.
    max_rows
        Most requests in one body.
    """
    paths = _server_paths()
    for model in sorted(live.table.routes):
        paths |= _model_paths(model, live.answering(model), live.versions(model), max_rows)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trimtab predictions",
            "version": software or "0",
            "description": "Predictions by entity keys and request inputs, and the Open Inference Protocol, version 2.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": ERROR,
                "Prediction": PREDICTION,
                "Predictions": PREDICTIONS,
                "Metadata": METADATA,
                "InferAnswer": INFER_ANSWER,
            }
        },
    }


def _server_paths() -> dict[str, Any]:
    def told(name: str, schema: Schema) -> Schema:
        return {"type": "object", "required": [name], "properties": {name: schema}}

    ready = told("ready", {"type": "boolean"})
    server = {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
    }
    return {
        "/v2": {"get": _reading("Server", "What this server is, and which extensions it speaks.", server)},
        "/v2/health/live": {"get": _reading("Live", "Whether the process answers.", told("live", {"type": "boolean"}))},
        "/v2/health/ready": {"get": _reading("Ready", "Whether models are loaded.", ready, also=ready)},
        "/health": {
            "get": _reading(
                "Health", "What is live, by model and arm.", told("status", {"type": "string"}),
                also=told("status", {"type": "string"}),
            )
        },
        "/metrics": {
            "get": _operation(
                "Metrics", "Counters and gauges for Prometheus.",
                {"200": {"description": "Text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
            )
        },
        "/openapi.json": {"get": _reading("Description", "This document.", {"type": "object"})},
        "/docs": {
            "get": _operation(
                "Page", "This document as a page.",
                {"200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
            )
        },
    }  # fmt: skip


def _model_paths(model: str, deployed: Deployed, versions: Sequence[str], max_rows: int) -> dict[str, Any]:
    """A model's paths; those of its versions have the version as a parameter."""
    manifest, shape = deployed.manifest, deployed.plan.requests
    base = f"/v2/models/{model}"
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": list(versions)},
        "description": "A version that takes part in the route; the first digits, 8 or more, are enough.",
    }
    ready = {"type": "object", "required": ["name", "ready"], "properties": {"ready": {"type": "boolean"}}}
    asked = infer_schema(manifest.inputs, manifest.outputs, deployed.columns)
    infer = {
        "schema": asked,
        "example": infer_example(manifest.inputs),
    }
    found: dict[str, Any] = {}
    if shape.keys or shape.inputs:
        one = request_example(shape)
        examples = {"one": {"value": one}, "many": {"value": {"instances": [one, one | _second(one)]}}}
        content = {_JSON: {"schema": body_schema(shape, max_rows=max_rows), "examples": examples}}
        found[f"/predict/{model}"] = {"post": _predict(model, content)}
        pinned = {"post": _predict(model, content, which=" with a version"), "parameters": [version]}
        found[f"/predict/{model}/versions/{{version}}"] = pinned
    for tail, more in (("", []), ("/versions/{version}", [version])):
        which = " of a version" if more else ""
        parameters: Mapping[str, Any] = {"parameters": more} if more else {}
        found |= {
            f"{base}{tail}": {
                "get": _reading(f"{model}: metadata{which}", "Inputs and outputs.", _ref("Metadata"), errors=_READ),
                **parameters,
            },
            f"{base}{tail}/ready": {
                "get": _reading(f"{model}: ready{which}", "Whether it answers.", ready, errors=_READ),
                **parameters,
            },
            f"{base}{tail}/infer": {"post": _infer(f"{model}: infer{which}", infer), **parameters},
        }
    return found


def _second(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "r2"} if one.get("id") == "r1" else {}


def _predict(model: str, content: Mapping[str, Any], *, which: str = "") -> dict[str, Any]:
    answer = {"schema": {"oneOf": [_ref("Prediction"), _ref("Predictions")]}}
    return _operation(
        f"{model}: predict{which}",
        "One request by its fields, or a list as `instances`; features are looked up.",
        {"200": {"description": "The answer, or one per request.", "content": {_JSON: answer}}} | _errors(_POST),
        parameters=_STEER,
        requestBody={"required": True, "content": content},
    )


def _infer(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    header = {
        "name": _LENGTH,
        "in": "header",
        "schema": {"type": "integer", "minimum": 0},
        "description": "Bytes of JSON at the front of the body, when tensors follow as bytes.",
    }
    answers = {
        "description": "The outputs; those asked for as bytes follow the JSON.",
        "headers": {_LENGTH: {"schema": {"type": "integer"}, "description": "Bytes of JSON, when bytes follow."}},
        "content": {_JSON: {"schema": _ref("InferAnswer")}, _BYTES: {"schema": {}}},
    }
    return _operation(
        name,
        "Tensors in, tensors out: the Open Inference Protocol.",
        {"200": answers} | _errors(_POST),
        parameters=[header, *_STEER],
        requestBody={"required": True, "content": {_JSON: content}},
    )


def _reading(
    name: str, summary: str, schema: Schema, *, also: Schema | None = None, errors: Sequence[int] = ()
) -> dict[str, Any]:
    """A GET; ``also`` is what its 503 says."""
    answers = {"200": {"description": "It is told.", "content": {_JSON: {"schema": schema}}}}
    if also is not None:
        answers["503"] = {"description": _REASONS[503], "content": {_JSON: {"schema": also}}}
    return _operation(name, summary, answers | _errors(errors))


def _operation(name: str, summary: str, responses: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    tag, _, short = name.rpartition(": ")
    return {"tags": [tag or "server"], "summary": short, "description": summary, **more, "responses": dict(responses)}


def _errors(statuses: Sequence[int]) -> dict[str, Any]:
    return {
        str(status): {"description": _REASONS[status], "content": {_JSON: {"schema": _ref("Error")}}}
        for status in statuses
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
