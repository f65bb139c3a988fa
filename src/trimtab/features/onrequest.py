"""On-request modules: what they may import, and the features they declare."""

from __future__ import annotations

import ast
import sys

from trimtab.core.ids import sha256
from trimtab.errors import ProjectError
from trimtab.features.plan import ModuleSource


def inspect_module(name: str, text: str, where: str) -> ModuleSource:
    """Check the text of an on-request module without running it.

    Raises
    ------
    ProjectError
        When it is not Python, imports anything but the standard library and numpy, or lacks ``FEATURES``
        or ``compute``.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ProjectError(
            f"module {name!r} is not valid Python", got=str(error.msg), where=f"{where}:{error.lineno}"
        ) from None
    features: tuple[str, ...] = ()
    computes = False
    for node in ast.walk(tree):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [("." * node.level) + (node.module or "")]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for imported in names:
            line = getattr(node, "lineno", 1)
            top = imported.split(".")[0]
            if top != "numpy" and top not in sys.stdlib_module_names:
                raise ProjectError(
                    f"module {name!r} imports something that serving workers do not have",
                    got=imported,
                    hint="use the standard library and numpy only",
                    where=f"{where}:{line}",
                )
    for item in tree.body:
        if isinstance(item, ast.FunctionDef) and item.name == "compute":
            computes = True
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "FEATURES":
            try:
                features = tuple(ast.literal_eval(item.value))
            except ValueError:
                features = ()
    if not computes or not features:
        raise ProjectError(
            f"module {name!r} lacks {'compute' if features else 'FEATURES'}",
            hint='define FEATURES = ("name", ...) as a literal, and compute(columns) -> {name: array}',
            where=f"{where}:1",
        )
    return ModuleSource(name, text, features, sha256(text.encode()))
