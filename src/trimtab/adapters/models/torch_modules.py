"""PyTorch modules to ONNX."""

from __future__ import annotations

import io
import warnings
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError

_OPSET = 17


def convert_torch(module: Any, *, features: int, outputs: int) -> bytes:
    """A ``torch.nn.Module`` as an ONNX file with a dynamic batch axis, input ``input`` and output ``output`` (n, k).

    Parameters
    ----------
    module
        Takes (n, features) float32 and gives (n, k), or (n,) for one output; it is exported as it is in ``eval`` mode.

    Raises
    ------
    InputError
        When it gives another shape, or uses an operator that has no ONNX form.
    """
    from onnx import TensorProto, helper, load_model_from_string

    traced, flat = _trace(module, features=features, outputs=outputs)
    model = load_model_from_string(traced)
    graph = model.graph
    if flat:
        _rename(graph, "output", "flat")
        graph.initializer.append(helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]))
        graph.node.append(helper.make_node("Reshape", ["flat", "column"], ["output"], name="as_column"))
    del graph.output[:], graph.input[:]
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, features]))
    graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, outputs]))
    # Names, versions and source lines of what wrote the file would change its digest, not what it says.
    graph.name, model.producer_name, model.producer_version, model.doc_string = "model", "trimtab", "", ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _trace(module: Any, *, features: int, outputs: int) -> tuple[bytes, bool]:
    """The file that PyTorch writes, and whether its output is of shape (n,)."""
    torch: Any = import_module("torch")

    rows = torch.zeros((2, features), dtype=torch.float32)
    target, training = io.BytesIO(), module.training
    module.eval()
    try:
        with torch.no_grad():
            said = module(rows)
        if tuple(said.shape) not in ((2, outputs), (2,) if outputs == 1 else (2, outputs)):
            raise InputError(
                "the module gives another number of outputs than the task",
                got=f"shape {tuple(said.shape)} for 2 rows",
                hint=f"(n, {outputs})",
            )
        with warnings.catch_warnings():
            # The exporter that traces is deprecated in favour of one that writes no opset 17.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (rows,),
                target,
                opset_version=_OPSET,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        raise InputError(
            "PyTorch cannot export this module",
            got=(str(error).splitlines() or [""])[0][:300],
            hint="use operators that ONNX has, or register an ONNX file of your own",
        ) from None
    finally:
        module.train(training)
    return target.getvalue(), said.ndim == 1


def _rename(graph: Any, name: str, other: str) -> None:
    for node in graph.node:
        node.output[:] = [other if one == name else one for one in node.output]
        node.input[:] = [other if one == name else one for one in node.input]


def predict_torch(module: Any, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the module says in ``eval`` mode, as float64."""
    torch: Any = import_module("torch")

    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            said: NDArray[np.float32] = module(torch.from_numpy(np.ascontiguousarray(rows, np.float32))).numpy()
    finally:
        module.train(training)
    return said.astype(np.float64)
