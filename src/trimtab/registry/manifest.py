"""What a bundle says about itself. Its digest is the version's identity."""

from __future__ import annotations

import msgspec

from trimtab.core.ids import digest
from trimtab.training.export import ExportParity

__all__ = ["ExportParity", "Manifest", "Tensor"]


class Tensor(msgspec.Struct, frozen=True):
    """One input or output: name, numpy dtype name and shape, -1 for the batch axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a bundle.

    Nothing here says when or by whom it was built: those are ledger events. Equal content gives an equal digest.
    """

    format: int
    """Version of the bundle format; 1."""
    model: str
    """Name of the model."""
    task: str
    """``binary`` or ``regression``."""
    runtime: str
    """Which adapter loads it: ``onnx``."""
    files: dict[str, str]
    """SHA-256 by path: ``model.onnx``, ``plan.json``, ``profile.json``, ``card.md``, ``modules/<name>.py``."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    plan_digest: str
    dataset_digest: str
    trained_until: int
    """Microseconds: no training row was asked, and no training label known, after this."""
    code_revision: str
    libraries: dict[str, str]
    parity: ExportParity
    preprocess: str = ""
    """Module in ``modules/`` with ``preprocess(values) -> values``; empty for none."""
    postprocess: str = ""
    """Module in ``modules/`` with ``postprocess(outputs) -> outputs``; empty for none."""

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        return msgspec.json.decode(data, type=Manifest)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest: the identity of the version."""
        return digest(msgspec.to_builtins(self))
