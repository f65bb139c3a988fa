"""Register what was made elsewhere: ONNX files, TorchServe-style handlers, MLflow pyfunc models.

>>> from trimtab.app.registering import register_handler, register_onnx, register_pyfunc
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.foreign import Foreign
from trimtab.core.clock import Micros
from trimtab.errors import InputError
from trimtab.serving.transforms import Stage
from trimtab.training.task import Task, binary, multiclass, regression

_OPTIONS = {
    "onnx": {"columns", "optional", "trained_until", "preprocess", "postprocess"},
    "pyfunc": {"columns", "optional", "trained_until", "python", "start_s", "call_s", "memory_mb"},
    "handler": {"columns", "optional", "trained_until", "entry", "takes", "python", "start_s", "call_s", "memory_mb"},
}
"""What the command line may say of each kind."""


def register_handler(
    home: Path | str,
    path: Path | str,
    *,
    name: str,
    task: Task,
    columns: Sequence[str],
    entry: str = "handler.py",
    takes: Literal["rows", "matrix"] = "rows",
    rows: NDArray[np.float32] | None = None,
    **more: Any,
) -> str:
    """Pack a TorchServe-style handler as a version. It never runs in our process, but in a child of its own.

    Parameters
    ----------
    home
        A directory; made when it is missing.
    path
        The directory with the handler and all that it reads, its ``model_dir``; or the handler's file alone.
    name
        What it is called in ``/predict/<name>``.
    columns
        Names of its input columns, in order.
    entry
        Its file in that directory, and after a colon its class where there are several.
    takes
        ``rows``: it is given ``[{"body": {column: number or None}}, …]``, as TorchServe does; ``matrix``: a float32
        array of shape (n, columns), with NaN for what is missing.
    rows
        Rows to try it on, shape (n, columns); two rows of zeros when left out.
    more
        ``optional`` (columns that may be left out), ``trained_until``, and the limits of its process: ``python``,
        ``start_s``, ``call_s``, ``memory_mb``, ``threads``; see :class:`trimtab.adapters.models.foreign.Foreign`.

    Returns
    -------
    str
        The version.

    Raises
    ------
    InputError
        When there are no files, or its answers do not fit the task.
    ModelFailed
        When its code raises an error, at its start or on these rows.
    Unavailable
        When its process does not start.

    Examples
    --------
    See ``docs/foreign-models.md``.
    """
    path = Path(path)
    entry = path.name if path.is_file() else entry
    foreign = {"kind": "handler", "entry": entry, "inputs": tuple(columns), "takes": takes}
    return _register(home, path, foreign, name=name, task=task, rows=rows, more=more)


def register_pyfunc(
    home: Path | str,
    path: Path | str,
    *,
    name: str,
    task: Task,
    columns: Sequence[str] = (),
    rows: NDArray[np.float32] | None = None,
    **more: Any,
) -> str:
    """Pack a model directory of MLflow as a version. It is unpickled in a child process only, never in ours.

    Parameters
    ----------
    path
        The directory that holds ``MLmodel``.
    columns
        Names of its input columns; those of its signature when left out.
    more
        As for :func:`register_handler`; ``python`` is most likely needed: an interpreter that has ``mlflow`` and the
        libraries of the model.

    Raises
    ------
    InputError
        When it is no such directory, its columns are not known, or its answers do not fit the task.
    ModelFailed
        When it cannot be loaded or raises an error.
    MissingExtra
        When the interpreter has no ``mlflow``.
    """
    path = Path(path)
    if not (path / "MLmodel").is_file():
        raise InputError("not a model of MLflow", got=str(path), hint="name the directory that holds the file MLmodel")
    foreign = {"kind": "pyfunc", "inputs": tuple(columns)}
    return _register(home, path, foreign, name=name, task=task, rows=rows, more=more)


def register_onnx(
    home: Path | str,
    path: Path | str,
    *,
    name: str,
    task: Task | None,
    columns: Sequence[str] = (),
    optional: Sequence[str] = (),
    trained_until: Micros = 0,
    preprocess: Path | str = "",
    postprocess: Path | str = "",
) -> str:
    """Pack an ONNX file as a version; it runs in the serving worker itself. Without columns it is one of tensors.

    Parameters
    ----------
    preprocess, postprocess
        Python files with your own code before and after the model; they travel in the version.

    Raises
    ------
    InputError
        When there is no such file, or it and the columns do not fit.
    """
    from trimtab.app.alone import register_model

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError("the file cannot be read", got=str(error)) from None
    stages: dict[Stage, Path | str] = {"preprocess": preprocess, "postprocess": postprocess}
    return register_model(
        home,
        data,
        name=name,
        task=task,
        columns=columns,
        optional=optional,
        trained_until=trained_until,
        stages={stage: file for stage, file in stages.items() if file},
    )


def register_kind(
    home: Path,
    path: Path,
    kind: str,
    *,
    name: str,
    task: str | None,
    options: Mapping[str, Any],
    declared: Task | None = None,
) -> dict[str, Any]:
    """What the command line asks for: ``{model, version, kind, home}``.

    Parameters
    ----------
    options
        Parameters of the function of that kind; columns as a list or a text with commas, and None or empty for what was
        not said.
    declared
        The task itself, where a project declares it.

    Raises
    ------
    InputError
        When an option does not go with the kind.
    """
    said = {key: value for key, value in options.items() if value not in (None, "")}
    said |= {key: _listed(said[key]) for key in ("columns", "optional") if key in said}
    outputs = said.pop("outputs", "")
    tensors = kind == "onnx" and "columns" not in said and task is None
    if kind != "pyfunc" and "columns" not in said and not tensors:
        raise InputError(
            "the columns of the model are not named",
            hint="--columns a,b,c; an ONNX file without --columns and --task is served by its tensors",
        )
    if task is None and not tensors:
        raise InputError("it is not said what the model answers", hint="--task binary, regression or multiclass")
    if odd := sorted(set(said) - _OPTIONS[kind]):
        raise InputError(f"this does not go with --kind {kind}", got=", ".join(f"--{one}" for one in odd))
    return {
        "model": name,
        "version": _REGISTER[kind](home, path, name=name, task=declared or task_of(task, name, outputs), **said),
        "kind": kind,
        "home": str(home),
    }


def _listed(given: str | Sequence[str]) -> list[str]:
    return [one.strip() for one in given.split(",")] if isinstance(given, str) else list(given)


def task_of(kind: str | None, name: str, named: str = "") -> Task | None:
    """The task of a model by its name, and the names of its outputs with commas; None for a model of tensors.

    Raises
    ------
    InputError
        When classes are not named, or something is that has no names.
    """
    outputs = [one.strip() for one in named.split(",") if one.strip()]
    if kind in (None, "binary") and outputs:
        raise InputError(
            "only several numbers or classes are named", got=",".join(outputs), hint="--task multiclass or regression"
        )
    if kind is None:
        return None
    if kind == "multiclass":
        if not outputs:
            raise InputError("the classes are not named", hint="--outputs cash,card, in the order of its probabilities")
        return multiclass(classes=outputs)
    return binary(positive=name) if kind == "binary" else regression(target=outputs or name)


def _register(
    home: Path | str,
    path: Path,
    foreign: dict[str, Any],
    *,
    name: str,
    task: Task,
    rows: NDArray[np.float32] | None,
    more: dict[str, Any],
) -> str:
    from trimtab.adapters.models.register_foreign import ForeignModel, register_foreign
    from trimtab.app.home import Home
    from trimtab.app.setting_values import program

    own = {key: more.pop(key) for key in ("optional", "trained_until") if key in more}
    if unknown := sorted(set(more) - {"python", "start_s", "call_s", "memory_mb", "threads"}):
        raise InputError("no such option of a model", got=", ".join(unknown))
    _check_limits(more)
    if more.get("python"):
        # Not resolved: the python of a virtual environment is a link, and what it leads to has other libraries.
        more["python"] = str(Path(more["python"]).absolute())
    place = Home(Path(home)).made()
    model = ForeignModel(name, path, Foreign(**foreign, **more), task, **own)
    python = program("model_python") or sys.executable
    return register_foreign(place.blobs(), model, root=place.run / "models", python=python, rows=rows)


def _check_limits(more: Mapping[str, Any]) -> None:
    for name, least in (("start_s", 0.0), ("call_s", 0.0), ("memory_mb", -1), ("threads", 0)):
        if name in more and not (math.isfinite(more[name]) and least < more[name] <= _MOST):
            raise InputError(
                f"{name} of a model makes no sense",
                got=str(more[name]),
                hint="a number above 0; of memory_mb 0 is no limit",
            )


_MOST = 1e7
"""Of a limit: seconds that a socket takes, megabytes that fit an address."""

_REGISTER: dict[str, Callable[..., str]] = {
    "onnx": register_onnx,
    "handler": register_handler,
    "pyfunc": register_pyfunc,
}
