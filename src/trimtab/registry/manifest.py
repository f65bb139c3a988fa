"""What a bundle says about itself. Its digest is the version's identity."""

from __future__ import annotations

import msgspec

from trimtab.core.ids import Json, digest
from trimtab.training.export import ExportParity

__all__ = ["ExportParity", "Manifest", "Tensor"]


class Tensor(msgspec.Struct, frozen=True):
    """One input or output: name, numpy dtype name and shape, -1 for the batch axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


ADDED = frozenset({"classes", "parent", "variant"})
"""Fields that came after format 1 was first written: empty, they are left out of what the digest is taken of."""


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a bundle.

    Nothing here says when or by whom it was built: those are ledger events. Equal content gives an equal digest.
    """

    format: int
    """Version of the bundle format; 1."""
    model: str
    """Name of the model."""
    task: str
    """``binary``, ``regression``, ``multiclass``, or ``tensors`` for a model whose outputs are no predictions."""
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
    classes: tuple[str, ...] = ()
    """Names of the classes of a multiclass task, in the order of its outputs; of the numbers that several outputs of a
    regression are."""
    parent: str = ""
    """The version that this one was made of without training, such as by quantisation; empty for none."""
    variant: str = ""
    """What was done to the parent: ``int8-dynamic`` or ``int8-static``."""

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        return msgspec.json.decode(data, type=Manifest)

    def content(self) -> Json:
        """The manifest as JSON values, without the fields of :data:`ADDED` that say nothing.

        So a version that was packed before such a field existed keeps its digest.
        """
        found = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if name not in ADDED or value}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest: the identity of the version."""
        return digest(self.content())
