"""Register a model that was trained elsewhere: no project, no features, no loop needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.export import OnnxExporter, libraries
from trimtab.adapters.models.onnx_file import check_columns, check_whole
from trimtab.adapters.models.onnx_runtime import first_line, runtime_errors
from trimtab.adapters.models.onnx_tensors import OnnxTensors
from trimtab.adapters.models.onnx_tensors import signature as read_signature
from trimtab.core.clock import Micros
from trimtab.core.ids import sha256
from trimtab.core.ports import Blobs
from trimtab.errors import InputError
from trimtab.features.plan import Plan, RequestShape, unaskable
from trimtab.registry.bundle import CARD, COLUMNS, FORMAT, MODEL, PLAN, module_path, pack
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.serving.transforms import Stage, load_transform
from trimtab.training.task import Task

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
Signature = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Inputs and outputs."""
_NOTHING = ExportParity(rows=0, largest_difference=0.0, share_beyond=0.0, flipped=0, tolerance=0.0)


def register(
    blobs: Blobs,
    model: Any,
    *,
    name: str,
    task: Task | None,
    feature_names: Sequence[str] = (),
    optional: Sequence[str] = (),
    signature: Signature | None = None,
    rows: NDArray[np.float32] | None = None,
    trained_until: Micros = 0,
    files: Mapping[str, bytes] | None = None,
    stages: Mapping[Stage, str] | None = None,
) -> str:
    """Pack an already trained model as a version that takes its columns, or its tensors, as inputs of the request.

    Parameters
    ----------
    model
        A fitted estimator that :func:`trimtab.adapters.models.export.export` knows, or the bytes of an ONNX file.
    name
        Name of the model.
    task
        What it predicts; None for an ONNX file whose outputs are no predictions of a task.
    feature_names
        Of the columns of one float32 matrix, in order. Without any, an ONNX file is served by its tensors.
    optional
        Columns that a request may leave out; the model then sees NaN.
    signature
        Inputs and outputs of an ONNX file served by its tensors, where the file leaves sizes open or not every output
        is wanted; else those of the file.
    rows
        Real rows, shape (n, features): required for an estimator, whose export is checked on them. The answers of an
        ONNX file to them must be those of its task; without any it is asked on generated ones.
    trained_until
        Microseconds: it saw nothing after this; 0 when unknown.
    files
        Further files of the bundle: ``profile.json``, the reference profile that monitors need
        (:mod:`trimtab.datasets.profile`), and ``card.md``, what people should know.
    stages
        Source of the modules that run before and after a model of columns, by ``preprocess`` and ``postprocess``. Rows
        then are what callers send, and the model is checked on what ``preprocess`` makes of them.

    Returns
    -------
    str
        The version; :func:`trimtab.registry.bundle.load` opens it.

    Raises
    ------
    InputError, ParityError
        When model and columns do not fit, nothing can export it, or its exported form differs on the rows.
    """
    stages = stages or {}
    if isinstance(model, bytes) and not feature_names and not stages:
        plan, parity, order = tensor_plan(name, (), ()), _NOTHING, {}
        data, (inputs, outputs) = model, _tensors(model, signature)
    elif task is None or signature is not None:
        raise InputError("a model of columns needs a task, and has no signature", hint="tt.regression(target=...)")
    else:
        names, width, around = different(feature_names), task.outputs, Around.of(stages)
        if isinstance(model, bytes):
            check_columns(model, task, columns=len(names), rows=rows, before=around.before, after=around.after)
            data, parity = model, _NOTHING
        else:
            data, parity = _from_estimator(model, names, rows, task=task, around=around)
        plan, order = tensor_plan(name, names, optional), column_order(names)
        inputs = (Tensor("input", "float32", (-1, len(names))),)
        outputs = (Tensor("output", "float32", (-1, width)),)
    packed = {CARD: _card(name), **(files or {}), **order, MODEL: data, PLAN: plan.to_json()}
    packed |= {module_path(stage): text.encode() for stage, text in stages.items()}
    manifest = Manifest(
        format=FORMAT,
        model=name,
        task="tensors" if task is None else task.kind,
        runtime="onnx",
        files={},
        inputs=inputs,
        outputs=outputs,
        plan_digest=plan.digest,
        dataset_digest="",
        trained_until=trained_until,
        code_revision="",
        libraries={} if isinstance(model, bytes) else libraries(model),
        parity=parity,
        preprocess="preprocess" if "preprocess" in stages else "",
        postprocess="postprocess" if "postprocess" in stages else "",
        classes=() if task is None else task.names,
    )
    return pack(blobs, packed, manifest=manifest)


@dataclass(frozen=True)
class Around:
    """What runs before and after a model."""

    before: Callable[[Any], Any]
    after: Callable[[Any], Any]

    @staticmethod
    def of(stages: Mapping[Stage, str]) -> Around:
        """The functions of the modules, and nothing where there is none."""

        def stage(name: Stage) -> Callable[[Any], Any]:
            if name not in stages:
                return lambda values: values
            return load_transform(name, stages[name], sha256(stages[name].encode()), name)

        return Around(stage("preprocess"), stage("postprocess"))

    def prepared(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model is given for rows of a caller."""
        return np.ascontiguousarray(self.before(np.asarray(rows, np.float32)), np.float32)


def _tensors(data: bytes, signature: Signature | None) -> Signature:
    """The signature, tried on two rows of zeros."""
    check_whole(data)
    inputs, outputs = read_signature(data) if signature is None else signature
    runtime = OnnxTensors(data, inputs=inputs, outputs=outputs)
    try:
        runtime.run(np.zeros((2, runtime.features), np.float32))
    except InputError:  # a ValueError too
        raise
    except runtime_errors() as error:
        raise InputError(
            "ONNX Runtime cannot run the model on two rows of zeros",
            got=first_line(error),
            hint="every input must have the rows as its first axis, for any number of them",
        ) from None
    finally:
        runtime.close()
    return inputs, outputs


def _card(name: str) -> bytes:
    return f"# {name}\n\nTrained elsewhere and registered as it was.\n".encode()


def column_order(names: tuple[str, ...]) -> dict[str, bytes]:
    """The order of the columns, unless it is that of a written plan: versions keep their digests where it is."""
    return {} if list(names) == sorted(names) else {COLUMNS: msgspec.json.encode(names)}


def different(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns of a model.

    Raises
    ------
    InputError
        When there are none, or two are the same.
    """
    if not names or len(set(names)) < len(names):
        raise InputError("the columns of a model have different names", got=", ".join(names) or "none")
    return tuple(names)


def tensor_plan(
    name: str,
    names: tuple[str, ...],
    optional: Sequence[str],
    *,
    whole: Mapping[str, tuple[float, float]] | None = None,
) -> Plan:
    """A plan without parts: the caller sends the columns themselves.

    Parameters
    ----------
    whole
        Columns of integers, and the smallest and largest that the model can be given.

    Raises
    ------
    InputError
        When the model could not be asked by its name, which stands in paths, a column by its own, or an optional column
        is no column.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError("not a name of a model", got=repr(name), hint="letters, digits, _ . - and at most 64 of them")
    if "id" in names:
        raise InputError(
            "a column cannot be called id: under that name a request says its own",
            got=", ".join(names),
            hint="name it otherwise, as in item_id; the model does not know the names",
        )
    for column in names:
        if why := unaskable(column):
            raise InputError(
                "no request could send a column of this name",
                got=repr(column),
                hint=f"{why}; name it otherwise, the model does not know the names",
            )
    if unknown := sorted(set(optional) - set(names)):
        raise InputError("an optional column is no column", got=", ".join(unknown), hint=f"of {', '.join(names)}")
    ranges = dict(whole or {})
    inputs = {column: "int" if column in ranges else "float" for column in names}
    shape = RequestShape(name, id="id", at="at", keys={}, inputs=inputs, optional=tuple(optional), ranges=ranges)
    return Plan(shape, ())


def _from_estimator(
    model: Any, names: tuple[str, ...], rows: NDArray[np.float32] | None, *, task: Task, around: Around
) -> tuple[bytes, ExportParity]:
    if rows is None or rows.ndim != 2 or rows.shape[1] != len(names) or not len(rows):
        raise InputError(
            "rows are needed to check the exported model",
            got="none" if rows is None else f"an array of shape {rows.shape}",
            hint=f"pass real rows of shape (n, {len(names)})",
        )
    exported = OnnxExporter().export(model, around.prepared(rows), task=task)
    return exported.data, exported.parity
