"""A version tried in this process, where no worker runs that could."""

from __future__ import annotations

from trimtab.app.batches import NoRows
from trimtab.app.home import Home
from trimtab.app.loading import Runtimes, deployed, live_pipeline
from trimtab.app.setting_values import program
from trimtab.errors import TrimtabError
from trimtab.registry.bundle import load
from trimtab.serving.scoring import output_width


def problem_of(home: Home, version: str) -> str:
    """Load a version, check every byte of it and run it once, as a worker does; why that fails, empty when it does not.

    ONNX models run on the CPU here, whatever the workers are told to use.
    """
    runtimes = Runtimes(scratch=home.run / "models", python=program("model_python"))
    try:
        bundle = load(home.blobs(), version)
        runtime = runtimes.runtime(bundle)
        try:
            output_width(live_pipeline(), deployed(bundle, NoRows(), runtime=runtime))
        finally:
            runtime.close()
    except TrimtabError as error:
        return str(error)
    return ""
