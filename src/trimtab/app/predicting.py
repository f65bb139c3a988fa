"""Ask a model once from the command line, with or without its project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimtab.adapters.project.file import find_project, load_project
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.home import named_home
from trimtab.app.operations import data_plane, home_of
from trimtab.app.standalone import alone_home
from trimtab.core.ids import derived_id
from trimtab.errors import InputError, ProjectError, UnknownName

Result = dict[str, Any]
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def predict_once(
    path: Path,
    model: str,
    fields: Mapping[str, Any],
    *,
    url: str | None,
    home: Path | None = None,
    arm: str | None = None,
) -> Result:
    """Ask a model once; text among the fields is read as the project declares it, or as the server describes it.

    Raises
    ------
    UnknownName
        When neither the project nor the server knows the model, or its route has no such arm.
    Unavailable
        When nothing answers.
    """
    served = alone_home(path, home) if url is None else None
    declared = _declared(path, model, must=url is None and named_home(home) is None and served is None)
    headers = {"X-Trimtab-Arm": arm} if arm else {}
    with JsonClient(url or data_plane(served or home_of(path, home)), headers=headers) as client:
        kinds = _described(client, model) if declared is None else declared
        body = {name: _typed(kinds, name, value) for name, value in fields.items()}
        answer = client.post(f"/predict/{model}", body)
    outputs = answer["prediction"] if isinstance(answer["prediction"], list) else [answer["prediction"]]
    return {
        "model": model,
        "version": answer["version"],
        "arm": answer["arm"],
        "id": answer["id"],
        "prediction_id": derived_id(answer["id"], answer["version"], answer["arm"]),
        "outputs": outputs,
        "status": answer["status"],
    }


Kinds = Mapping[str, tuple[str, bool]]
"""By field: ``str int bool float time``, and whether it may be missing."""


def _declared(path: Path, model: str, *, must: bool) -> Kinds | None:
    """What the project says; None where there is none that declares the model, and none is needed."""
    try:
        find_project(path)
    except ProjectError:
        if must:
            raise
        return None
    project = load_project(path)
    if model not in project.models and not must:
        return None
    columns = project.model(model).requests.every_column()
    return {name: (column.kind, column.optional) for name, column in columns.items()}


def _described(client: JsonClient, model: str) -> Kinds:
    """What the server says."""
    paths: dict[str, Any] = client.get("/openapi.json")["paths"]
    if f"/predict/{model}" not in paths:
        known = sorted(found.removeprefix("/predict/") for found in paths if found.startswith("/predict/"))
        known = [name for name in known if "/" not in name]
        hint = f"it answers {', '.join(known)}" if known else "it answers tensors only, at /v2/models/<model>/infer"
        raise UnknownName("the server has no such model with named fields", got=repr(model), hint=hint)
    content = paths[f"/predict/{model}"]["post"]["requestBody"]["content"]["application/json"]
    one: dict[str, Any] = content["schema"]["oneOf"][0]["properties"]
    return {name: _kind(set(_types(schema))) for name, schema in one.items()}


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    told = schema.get("type", [])
    yield from [told] if isinstance(told, str) else told
    for choice in schema.get("anyOf", ()):
        yield from _types(choice)


def _kind(types: set[str]) -> tuple[str, bool]:
    optional = "null" in types
    if "string" in types:  # a time may be a number too, but as text it is what was typed
        return "str", optional
    return next((kind for kind in ("bool", "float", "int") if _JSON[kind] in types), "str"), optional


_JSON = {"bool": "boolean", "float": "number", "int": "integer"}


def _typed(kinds: Kinds, name: str, value: Any) -> Any:
    kind, optional = kinds.get(name, ("str", False))
    if not isinstance(value, str) or kind in ("str", "time"):
        return value
    if value == "" and optional:
        return None
    try:
        match kind:
            case "bool":
                return _WORDS[value.lower()]
            case "int":
                return int(value)
            case _:
                return float(value)
    except (ValueError, KeyError):
        raise InputError(f"{name} is not of its type", got=repr(value), hint=f"{name} is {kind}") from None
