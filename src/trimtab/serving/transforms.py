"""Preprocess and postprocess: a user's own code before and after the model, that travels in the bundle."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Literal

from trimtab.errors import ModelFailed, ProjectError
from trimtab.features.onrequest import check_code, run_code

Stage = Literal["preprocess", "postprocess"]


def check_transform(name: str, text: str, stage: Stage, *, where: str = "") -> None:
    """Make sure, without running it, that a module can be a stage.

    Raises
    ------
    ProjectError
        When it is no Python, imports more than the standard library and numpy, or has no function of that name.

    Examples
    --------
    >>> check_transform("clip", "def postprocess(outputs):\\n    return outputs.clip(0, 1)", "postprocess")
    """
    tree = check_code(name, text, where or name, what=f"{stage} module")
    if not any(isinstance(node, ast.FunctionDef) and node.name == stage for node in tree.body):
        raise ProjectError(
            f"module {name!r} has no function {stage}",
            hint=f"def {stage}({'values' if stage == 'preprocess' else 'outputs'}): return a float32 matrix",
            where=where,
        )


def load_transform(name: str, text: str, sha256: str, stage: Stage) -> Callable[[Any], Any]:
    """The function of a stage, from source that was verified against its digest.

    Its errors become ``ModelFailed``, with their own name first.

    Raises
    ------
    ProjectError
        See :func:`check_transform`; also when the module fails while it is loaded.
    """
    check_transform(name, text, stage)
    function = run_code(name, text, sha256, what=f"{stage} module")[stage]

    def run(values: Any) -> Any:
        try:
            return function(values)
        except Exception as error:  # foreign code may raise anything
            raise ModelFailed(f"the {stage} code failed", got=f"{type(error).__name__}: {error}"[:300]) from error

    return run
