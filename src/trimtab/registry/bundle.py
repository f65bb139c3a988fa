"""Bundles: everything a version is, as content-addressed files under one manifest.

The manifest is itself a blob, in canonical form, so that the name of that blob is the digest of the manifest: the
identity of the version. Whoever holds the version can check every byte that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from trimtab.core.ids import canonical, sha256
from trimtab.core.ports import Blobs
from trimtab.errors import BundleCorrupt, InputError, IntegrityError, UnknownName
from trimtab.features.plan import ModulePart, Plan
from trimtab.registry.manifest import Manifest

FORMAT = 1
MODEL = "model.onnx"
PLAN = "plan.json"
PROFILE = "profile.json"
CARD = "card.md"
COLUMNS = "columns.json"
"""The names of a model's columns in their order, where the caller sends them: JSON sorts the inputs of a plan."""
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")


@dataclass(frozen=True)
class Bundle:
    """A version, loaded and verified."""

    version: str
    manifest: Manifest
    files: Mapping[str, bytes]

    def file(self, path: str) -> bytes:
        """The content of a file.

        Raises
        ------
        UnknownName
            When the bundle has no such file.
        """
        if path not in self.files:
            raise UnknownName(
                "no such file in the bundle", got=repr(path), hint=f"it holds {', '.join(sorted(self.files))}"
            )
        return self.files[path]

    @property
    def model(self) -> bytes:
        """The model file; there is exactly one, named after its runtime."""
        return self.file(next((path for path in self.files if path.startswith("model.")), MODEL))

    @cached_property
    def plan(self) -> Plan:
        """The feature plan: columns and how they are computed."""
        return Plan.from_json(self.file(PLAN))

    @property
    def profile(self) -> bytes:
        """The reference profile that monitors compare with; empty when the version came without one."""
        return self.files.get(PROFILE, b"")

    @property
    def card(self) -> str:
        """The model card in Markdown; empty when the version came without one."""
        return self.files.get(CARD, b"").decode()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that a caller sends, in the order in which the model takes them; empty for the plan's order."""
        return msgspec.json.decode(self.files[COLUMNS], type=tuple[str, ...]) if COLUMNS in self.files else ()

    @cached_property
    def modules(self) -> dict[str, str]:
        """Source text of the on-request and pre/postprocess modules, by dotted name."""
        prefix, suffix = "modules/", ".py"
        return {
            path[len(prefix) : -len(suffix)]: data.decode()
            for path, data in self.files.items()
            if path.startswith(prefix) and path.endswith(suffix)
        }

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all files and the manifest."""
        return sum(map(len, self.files.values())) + len(canonical(self.manifest.content()))


def module_path(name: str) -> str:
    """Where a module's source lies in a bundle.

    Examples
    --------
    >>> module_path("features.calendar")
    'modules/features.calendar.py'
    """
    return f"modules/{name}.py"


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> tuple[bytes, Manifest]:
    """Fill in the file digests and return the manifest in canonical bytes, whose SHA-256 is the version.

    Raises
    ------
    InputError
        When a path is absolute, climbs or holds odd characters, when there is no model, or when the plan in the
        files is not the one that the manifest names.
    """
    for path in files:
        if _PATH.fullmatch(path) is None or ".." in path:
            raise InputError(
                "not a path inside a bundle", got=repr(path), hint="use letters, digits, _ . - and / between them"
            )
    if not any(path.startswith("model.") for path in files):
        raise InputError("a bundle without a model", got=", ".join(sorted(files)) or "no files", hint=f"add {MODEL!r}")
    named = msgspec.structs.replace(manifest, files={path: sha256(files[path]) for path in sorted(files)})
    # Through JSON once: an int given for a float field must not make two digests of one manifest.
    named = msgspec.json.decode(canonical(named.content()), type=Manifest)
    sealed = canonical(named.content())
    _check_plan(sha256(sealed), named, files)
    return sealed, named


def pack(blobs: Blobs, files: Mapping[str, bytes], *, manifest: Manifest) -> str:
    """Store a bundle and return its version: the digest of its manifest.

    Parameters
    ----------
    files
        Content by path in the bundle. ``model.onnx`` and ``plan.json`` must be among them.
    manifest
        All fields but ``files``, which is filled in here.

    Raises
    ------
    InputError
        See :func:`seal`.
    """
    sealed, _ = seal(manifest, files)
    for data in files.values():
        blobs.put(data)
    # The manifest goes last: a version that can be opened is whole.
    return blobs.put(sealed)


def load(blobs: Blobs, version: str) -> Bundle:
    """Load a bundle and check every byte of it against the version.

    Raises
    ------
    UnknownName
        When there is no such version.
    BundleCorrupt
        When the manifest, or a file it names, is not what it was; the message names the file.
    """
    if not blobs.exists(version):
        raise UnknownName("no such version", got=repr(version), hint="`trimtab log` lists the versions of a model")
    sealed = _open(blobs, version, path="manifest.json", version=version)
    return verify(
        version,
        sealed,
        lambda path, name: _open(blobs, name, path=path, version=version),
    )


def verify(version: str, sealed: bytes, read: Callable[[str, str], bytes]) -> Bundle:
    """Build a bundle of a manifest in canonical bytes and a way to read its files; every byte is checked.

    Raises
    ------
    BundleCorrupt
        When a file is not what the manifest says; the message names it.
    """
    if sha256(sealed) != version:
        raise _corrupt(version, "manifest.json", sha256(sealed), version)
    try:
        manifest = msgspec.json.decode(sealed, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleCorrupt("not the manifest of a bundle", got=f"{version[:12]}: {error}") from None
    if manifest.format > FORMAT:
        raise InputError(
            "the bundle has a newer format than this Trimtab reads",
            got=str(manifest.format),
            hint="upgrade Trimtab, or export the model again",
        )
    files = {}
    for path, name in manifest.files.items():
        data = read(path, name)
        if sha256(data) != name:
            raise _corrupt(version, path, sha256(data), name)
        files[path] = data
    try:
        _check_plan(version, manifest, files)
    except InputError as error:
        raise BundleCorrupt(error.what, got=error.got) from None
    return Bundle(version, manifest, files)


def _open(blobs: Blobs, name: str, *, path: str, version: str) -> bytes:
    try:
        return blobs.open(name)
    except UnknownName:
        raise _corrupt(version, path, "nothing", name) from None
    except IntegrityError as error:
        raise BundleCorrupt(
            f"{path} is not the file that was packed",
            got=f"version {version[:12]}: {error.got or error.what}",
            hint=_RESTORE,
        ) from None


_RESTORE = "restore the blob from a backup, or roll back to another version; this one is not served"


def _corrupt(version: str, path: str, got: str, expected: str) -> BundleCorrupt:
    return BundleCorrupt(
        f"{path} is not the file that was packed",
        got=f"version {version[:12]}: {got[:12]}, expected {expected[:12]}",
        hint=_RESTORE,
    )


def _check_plan(version: str, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """The plan must be the one the manifest names, and each module it uses must be there as it was compiled."""
    if PLAN not in files:
        raise InputError(
            "a bundle without a feature plan", got=version[:12], hint=f"add {PLAN!r}, with no parts if need be"
        )
    plan = Plan.from_json(files[PLAN])
    if plan.digest != manifest.plan_digest:
        raise InputError(
            "the plan in the bundle is not the one that its manifest names",
            got=f"{plan.digest[:12]}, expected {manifest.plan_digest[:12]}",
        )
    for part in plan.parts:
        if isinstance(part, ModulePart):
            text = files.get(module_path(part.module))
            if text is None or sha256(text) != part.sha256:
                raise InputError(
                    f"module {part.module!r} is not the one that the plan was compiled with",
                    got="nothing" if text is None else sha256(text)[:12],
                    hint="compile the plan and pack its modules in one go",
                )
    for name in filter(None, (manifest.preprocess, manifest.postprocess)):
        if module_path(name) not in files:
            raise InputError(f"the manifest names module {name!r}, which is not in the bundle", got=version[:12])
