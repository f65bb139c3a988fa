"""The code around a model as a stage of Triton's: this file is copied as ``model.py``, the code itself lies beside it.

Triton's Python backend imports it and calls ``initialize``, ``execute`` and ``finalize``. It runs where there is no
Trimtab: it imports the standard library, numpy, and what Triton puts in its way. Everything that differs between two
stages stands in their ``config.pbtxt``:

============ =====================================================================================================
parameter
============ =====================================================================================================
``stage``    ``preprocess`` or ``postprocess``
``code``     the file beside this one that has a function of that name; left out where there is none
``outputs``  after the model: how many numbers it answers for a row
============ =====================================================================================================
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


class TritonPythonModel:
    """One stage; Triton makes one of it for each instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the code. An error here says that the model cannot be loaded."""
        import triton_python_backend_utils as pb_utils  # only Triton has it, and this file is read elsewhere too

        self._triton = pb_utils
        config = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._stage, self._outputs = said["stage"], int(said.get("outputs", "0"))
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]
        self._code = _function(said["code"], self._stage) if "code" in said else None

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request; one that fails does not harm its neighbours."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Nothing is held open."""

    def _respond(self, request: Any) -> Any:
        triton = self._triton
        try:
            # A copy: the code may write into what it is given, as it may in a Trimtab worker.
            sent = np.array(triton.get_input_tensor_by_name(request, self._input).as_numpy(), np.float32)
            made = self._before(sent) if self._stage == "preprocess" else self._after(sent)
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            told = triton.TritonError(f"the {self._stage} code failed: {type(error).__name__}: {error}"[:500])
            return triton.InferenceResponse(output_tensors=[], error=told)
        return triton.InferenceResponse(output_tensors=[triton.Tensor(self._output, made)])

    def _before(self, rows: Any) -> Any:
        made = np.ascontiguousarray(rows if self._code is None else self._code(rows), np.float32)
        return _checked(made, len(rows))

    def _after(self, said: Any) -> Any:
        outputs = said.reshape(len(said), -1)
        if outputs.shape[1] == 2 and self._outputs != 2:
            outputs = outputs[:, 1:]  # of two class probabilities, that of the positive class
        made = np.asarray(outputs if self._code is None else self._code(outputs)).astype(np.float64)
        if made.ndim == 1:
            made = made[:, None]
        return _checked(np.ascontiguousarray(made, np.float32), len(said), self._outputs)


def _checked(made: Any, rows: int, columns: int | None = None) -> Any:
    if made.ndim != 2 or len(made) != rows or columns not in (None, made.shape[1]):
        wanted = f"({rows}, {'any' if columns is None else columns})"
        raise ValueError(f"it gave shape {made.shape} where {wanted} is due")
    return made


def _function(file: str, name: str) -> Any:
    place = Path(__file__).with_name(file)
    spec = importlib.util.spec_from_file_location(f"trimtab_{name}", place)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is no Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and typing look their module up
    spec.loader.exec_module(module)
    return getattr(module, name)
