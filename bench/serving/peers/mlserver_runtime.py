"""MLServer's custom runtime around ONNX Runtime, as its guide has it."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_session import session


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        self._run = session().run
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        found = self._run(["output"], {"input": rows})[0]
        return InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=[NumpyCodec.encode_output("output", found)]
        )
