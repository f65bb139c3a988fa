"""The deployment profile: how many rows a batch holds, how long it may wait for them, on how many threads it runs.

It stands in ``serving.json`` of a home. ``trimtab tune`` writes it, and so may a person. Workers read it when they
start.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from trimtab.errors import InputError

FILE = "serving.json"
"""Name of the file in a home."""
MAX_BATCH = 64
"""Most rows in a batch, unless the profile of a model says otherwise."""


class ModelProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a worker serves one model."""

    max_batch: Annotated[int, Meta(ge=1, le=10_000)] = MAX_BATCH
    """Most rows in one batch."""
    max_wait_ms: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    """How long a batch with fewer rows is held back for more, since its oldest request; 0 holds nothing back."""
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    """For one call of ONNX Runtime."""


class ServingProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a home is served."""

    models: dict[str, ModelProfile] = {}
    workers: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Workers of ``trimtab up``, unless ``--workers`` or ``TRIMTAB_WORKERS`` says otherwise; 0 for the default."""

    def of(self, model: str) -> ModelProfile:
        """The profile of a model; the default one when it has none."""
        return self.models.get(model, _DEFAULT)

    def with_model(self, model: str, profile: ModelProfile, *, workers: int) -> ServingProfile:
        """The same, but for one model and the number of workers."""
        return ServingProfile({**self.models, model: profile}, workers)


_DEFAULT = ModelProfile()


def decode_profile(data: bytes) -> ServingProfile:
    """Read a profile.

    Raises
    ------
    InputError
        When it is no JSON, has a field that is unknown, or a value out of its range.

    Examples
    --------
    >>> decode_profile(b'{"models": {"buys": {"max_batch": 8}}}').of("buys").max_batch
    8
    """
    try:
        return msgspec.json.decode(data, type=ServingProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "mend it, or remove it and run `trimtab tune`"
        raise InputError(f"the deployment profile {FILE} cannot be used", got=str(error), hint=hint) from None


def encode_profile(profile: ServingProfile) -> bytes:
    """Write a profile, as JSON that a person may edit."""
    return msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"
