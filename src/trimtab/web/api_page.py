"""The page of the data plane's operations: what each takes, an example, and the line to paste. No script is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trimtab.web.markup import Markup, element, joined
from trimtab.web.page import brand, folded, page, section, table

_CODE = "white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,monospace"


def render_api(document: Mapping[str, Any]) -> str:
    """An OpenAPI document of the data plane as one self-contained HTML page.

    Examples
    --------
    >>> found = render_api({"info": {"title": "T", "version": "1"}, "paths": {}})
    >>> "<h1>T</h1>" in found
    True
    """
    info = document["info"]
    groups: dict[str, list[Markup]] = {}
    for path, methods in document["paths"].items():
        for method in ("get", "post"):
            if method in methods:
                groups.setdefault(methods[method]["tags"][0], []).append(_operation(path, method, methods))
    names = sorted(groups, key=lambda name: (name == "server", name))
    body = joined(section(name, *groups[name], anchor=f"of-{name}") for name in names)
    links = joined(element("a", name, href=f"#of-{name}", style="margin-right:1em") for name in names)
    top = element(
        "header",
        element("p", brand(), element("span", f"version {info['version']}"), class_="over"),
        element("h1", info["title"]),
        element("p", info.get("description", ""), class_="lead"),
        element("p", links, element("a", "openapi.json", href="/openapi.json")),
        class_="top",
    )
    return page(str(info["title"]), top, element("main", body), description="Operations of the data plane.")


def _operation(path: str, method: str, methods: Mapping[str, Any]) -> Markup:
    said = methods[method]
    parameters = [*methods.get("parameters", ()), *said.get("parameters", ())]
    content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = _examples(content)
    return element(
        "article",
        element("h3", element("code", f"{method.upper()} {path}")),
        element("p", said.get("description", "")),
        joined(_example(path, method, name, body, parameters) for name, body in examples.items()),
        table(["parameter", "in", "meaning"], [_parameter(one) for one in parameters], words=[1, 2])
        if parameters
        else None,
        folded("Fields", _pre(_json(content["schema"]))) if content else None,
        folded("Answers", table(["status", "meaning"], _answers(said["responses"]), words=[1])),
    )


def _examples(content: Mapping[str, Any]) -> dict[str, Any]:
    if "examples" in content:
        return {name: one["value"] for name, one in content["examples"].items()}
    return {"": content.get("example")}


def _example(path: str, method: str, name: str, body: object, parameters: list[Mapping[str, Any]]) -> Markup:
    for one in parameters:
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", str(one["schema"]["enum"][0]))
    line = f"curl -s $URL{path}"
    if method == "post":
        quoted = json.dumps(body).replace("'", "'\\''")
        line += f" -H 'Content-Type: application/json' -d '{quoted}'"
    return joined([element("p", name) if name else "", _pre(line)])


def _parameter(one: Mapping[str, Any]) -> list[object]:
    return [one["name"], one["in"], one.get("description", "")]


def _answers(responses: Mapping[str, Any]) -> list[list[object]]:
    return [[status, one["description"]] for status, one in responses.items()]


def _pre(text: str) -> Markup:
    return element("pre", element("code", text), style=_CODE)


def _json(value: object) -> str:
    return json.dumps(value, indent=1)
