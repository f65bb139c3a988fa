"""Triton's Python backend around ONNX Runtime: one call for what its dynamic batcher put together."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb
from onnx_session import session


class TritonPythonModel:
    def initialize(self, _args):
        self._run = session().run

    def execute(self, requests):
        blocks = [pb.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        rows = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        found = self._run(["output"], {"input": rows})[0]
        edges = np.cumsum([len(block) for block in blocks[:-1]])
        return [pb.InferenceResponse([pb.Tensor("output", part)]) for part in np.split(found, edges)]
