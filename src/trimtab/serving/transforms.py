"""Preprocess and postprocess: a user's own code before and after the model, that travels in the bundle."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from trimtab.errors import ModelFailed, ProjectError
from trimtab.features.onrequest import check_code, run_code
from trimtab.registry.bundle import Bundle, module_path
from trimtab.training.stages import Stages, Transform

Stage = Literal["preprocess", "postprocess"]


def check_transform(name: str, text: str, stage: Stage, *, where: str = "") -> None:
    """Make sure, without running it, that a module can be a stage.

    Raises
    ------
    ProjectError
        When it is no Python, imports more than the standard library and numpy, or has no function of that name that
        takes one matrix.

    Examples
    --------
    >>> check_transform("clip", "def postprocess(outputs):\\n    return outputs.clip(0, 1)", "postprocess")
    """
    tree = check_code(name, text, where or name, what=f"{stage} module")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    hint = f"def {stage}({'values' if stage == 'preprocess' else 'outputs'}): return a float32 matrix"
    if stage not in functions:
        got = f"functions {', '.join(functions)}" if functions else "no function"
        raise ProjectError(f"module {name!r} has no function {stage}", got=got, hint=hint, where=where)
    given = functions[stage].args
    places = len(given.posonlyargs) + len(given.args)
    needed = places - len(given.defaults) + sum(default is None for default in given.kw_defaults)
    if needed > 1 or not (places or given.vararg):
        raise ProjectError(
            f"{stage} of module {name!r} does not take one matrix",
            got=f"def {stage}({ast.unparse(given)})",
            hint=hint,
            where=f"{where or name}:{functions[stage].lineno}",
        )


def load_transform(name: str, text: str, sha256: str, stage: Stage) -> Callable[[Any], Any]:
    """The function of a stage, from source that was verified against its digest.

    Its errors become ``ModelFailed``, with their own name first. What it does to the matrix it is given stays with it:
    features are recorded as they were read.

    Raises
    ------
    ProjectError
        See :func:`check_transform`; also when the module fails while it is loaded.
    """
    check_transform(name, text, stage)
    function = run_code(name, text, sha256, what=f"{stage} module")[stage]
    kind = np.float32 if stage == "preprocess" else np.float64

    def run(values: Any) -> Any:
        try:
            return np.asarray(function(np.array(values)), kind)
        except Exception as error:  # foreign code may raise anything
            raise ModelFailed(f"the {stage} code failed", got=f"{type(error).__name__}: {error}"[:300]) from error

    return run


def stages_of(bundle: Bundle) -> Stages:
    """What runs before and after the model of a bundle.

    Raises
    ------
    ProjectError
        See :func:`load_transform`.
    """

    def loaded(name: str, stage: Stage) -> Transform | None:
        if not name:
            return None
        return load_transform(name, bundle.modules[name], bundle.manifest.files[module_path(name)], stage)

    before, after = bundle.manifest.preprocess, bundle.manifest.postprocess
    return Stages(loaded(before, "preprocess"), loaded(after, "postprocess"), before, after)
