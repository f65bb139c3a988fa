"""ONNX Runtime, in process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.providers import Chosen, choose, note
from trimtab.errors import InputError, MissingExtra

CPU = ("cpu",)
_LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")


class OnnxModel:
    """A model in ONNX form, implementing :class:`trimtab.serving.ports.ModelRuntime`.

    It takes one float32 input of shape (n, features). Of its outputs the last float tensor counts: shape (n,) or
    (n, 1) as it is; two columns are class probabilities, of which the second, the positive class, is returned, unless
    ``outputs`` says that both are wanted. Models with other tensors are run by
    :class:`trimtab.adapters.models.onnx_tensors.OnnxTensors`. One for which :func:`ranges_over_batch` holds is run row
    by row.

    Parameters
    ----------
    data
        The ONNX file.
    threads
        Threads for one call; they never spin while idle.
    outputs
        How many numbers it gives for a row; None: what the file gives.
    providers
        What to run on, best first: ``tensorrt``, ``cuda``, ``cpu``; what is not there is left out.

    Raises
    ------
    InputError
        When it is not ONNX, or not a model of one float32 matrix.
    """

    blocking = False
    trouble = ""

    def __init__(
        self, data: bytes, *, threads: int = 1, outputs: int | None = None, providers: Sequence[str] = CPU
    ) -> None:
        self._session, self.note = open_session(data, threads=threads, providers=providers)
        self._row_by_row = ranges_over_batch(data)
        # What the public method calls, after looking up what a float matrix on the CPU does not need: 8 µs of 24 a row.
        self._run = getattr(getattr(self._session, "_sess", None), "run", self._session.run)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            raise InputError(
                "the ONNX model does not take one float32 matrix",
                got=", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs),
                hint="export it with one input of type tensor(float) and shape (None, features)",
            )
        found = [one for one in self._session.get_outputs() if one.type == "tensor(float)"]
        if not found:
            raise InputError(
                "the ONNX model has no float32 output",
                got=", ".join(f"{one.name}: {one.type}" for one in self._session.get_outputs()),
                hint="export classifiers with the option zipmap=False",
            )
        self.input_name: str = inputs[0].name
        self._outputs = [found[-1].name]
        self._both = outputs == 2
        self.features: int | None = inputs[0].shape[1] if isinstance(inputs[0].shape[1], int) else None
        """Columns that it takes; None when the file leaves that open."""
        self.rows: int | None = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        """Rows that it takes; None when any number will do."""
        self.labels = [f"{one.name}: {one.type}" for one in self._session.get_outputs() if one.type in _LABELS]
        """Outputs beside the one that counts that name a class."""

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of shape (n, k) for inputs of shape (n, features).

        Raises
        ------
        InputError
            When the rows have another number of columns.
        """
        if values.ndim != 2 or self.features not in (None, values.shape[1]):
            raise InputError(
                "the rows do not fit the model", got=f"shape {values.shape}", hint=f"it takes (n, {self.features})"
            )
        if self._row_by_row and len(values) > 1:
            return np.concatenate([self.run(values[at : at + 1]) for at in range(len(values))])
        found: NDArray[np.float32] = self._run(self._outputs, {self.input_name: values}, None)[0]
        if found.ndim == 1:
            return found[:, None]
        return found[:, 1:] if found.shape[1] == 2 and not self._both else found

    def close(self) -> None:
        """Free the session; the model is not used again."""
        self._session = self._run = None


def open_session(data: bytes, *, threads: int, providers: Sequence[str]) -> tuple[Any, str]:
    """A session, and what it runs on, in words.

    Raises
    ------
    InputError
        When ONNX Runtime does not load it.
    MissingExtra
        When ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime is not installed", got=str(error), hint="pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is raised too, and said once
    # Idle threads that spin take a core from the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    chosen = Chosen(choose(CPU, ()).providers, ())
    if tuple(providers) != CPU:
        chosen = choose(providers, onnxruntime.get_available_providers())
    refused = runtime_errors()
    try:
        session = _start(onnxruntime, data, options, chosen=chosen, refused=refused)
    except refused as error:
        raise InputError(
            "not a model that ONNX Runtime loads", got=first_line(error), hint="check it with onnx.checker"
        ) from None
    alone = ", row by row" if ranges_over_batch(data) else ""
    return session, note(chosen, session.get_providers()) + alone


def ranges_over_batch(data: bytes) -> bool:
    """Whether an ONNX file casts activations to int8 by a range that it takes over all rows of a call.

    One row's answer would then depend on who else is in its batch, so each must be a call of its own. The name of the
    operator is looked for in the bytes: versions that were made before this was known are found too, and without onnx.
    """
    return b"DynamicQuantize" in data


def _start(onnxruntime: Any, data: bytes, options: Any, *, chosen: Chosen, refused: tuple[type[Exception], ...]) -> Any:
    try:
        return onnxruntime.InferenceSession(data, options, providers=list(chosen.providers))
    except refused:
        # A device that is there and cannot start must not keep a model from being served.
        if len(chosen.providers) == 1:
            raise
        return onnxruntime.InferenceSession(data, options, providers=list(chosen.providers[-1:]))


def first_line(error: Exception) -> str:
    """What an error of ONNX Runtime says, in one line; the rest of it is where in its source."""
    return (str(error).splitlines() or [""])[0][:300]


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime may raise: its own exceptions have no base class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    own = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (RuntimeError, ValueError, *own)
