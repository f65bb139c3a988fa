"""A bundle as a plain directory: ``manifest.json`` and the files it names. For copying, reading and diffing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from trimtab.core.ids import canonical
from trimtab.core.ports import Blobs
from trimtab.errors import BundleCorrupt, InputError
from trimtab.registry.bundle import load, pack, verify
from trimtab.registry.manifest import Manifest

_MANIFEST = "manifest.json"


def export_directory(blobs: Blobs, version: str, to: Path) -> Path:
    """Write a version as a directory, whole or not at all.

    Raises
    ------
    InputError
        When ``to`` exists already.
    """
    bundle = load(blobs, version)
    if to.exists():
        raise InputError("the directory exists already", got=str(to), hint="name one that does not")
    partial = to.with_name(f".{to.name}.partial-{os.getpid()}")
    for path, data in {**bundle.files, _MANIFEST: bundle.manifest.to_json()}.items():
        target = partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    partial.rename(to)
    return to


def import_directory(blobs: Blobs, directory: Path) -> str:
    """Read a directory written by :func:`export_directory` into a blob store and return its version.

    Raises
    ------
    InputError
        When it is not a bundle.
    BundleCorrupt
        When a file is not what the manifest says; the message names it.
    """
    try:
        manifest = Manifest.from_json((directory / _MANIFEST).read_bytes())
    except FileNotFoundError:
        raise InputError(
            "not a bundle", got=str(directory), hint=f"a bundle has a {_MANIFEST}; `trimtab export` writes one"
        ) from None
    except msgspec.DecodeError as error:
        raise BundleCorrupt(f"{_MANIFEST} is not the manifest of a bundle", got=str(error)) from None
    sealed = canonical(manifest.content())
    root = directory.resolve()

    def read(path: str, _: str) -> bytes:
        found = (root / path).resolve()
        # A manifest from elsewhere may name ../ or a link to a file that is none of its business.
        if not found.is_relative_to(root) or not found.is_file():
            raise BundleCorrupt(f"{path} is not in the bundle", got=str(directory))
        return found.read_bytes()

    bundle = verify(manifest.digest, sealed, read)
    return pack(blobs, bundle.files, manifest=bundle.manifest)
