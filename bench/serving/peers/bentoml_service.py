"""A BentoML service around ONNX Runtime, as its guide has it; ``BATCH=1`` with its adaptive batching."""

from __future__ import annotations

import os

import bentoml
import numpy as np
from onnx_session import session

BATCH = os.environ.get("BATCH") == "1"


@bentoml.service(workers=1)
class Bench:
    def __init__(self) -> None:
        self._run = session().run

    @bentoml.api(batchable=BATCH, max_batch_size=32)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self._run(["output"], {"input": rows.astype(np.float32)})[0]
