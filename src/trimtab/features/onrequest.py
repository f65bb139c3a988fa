"""On-request features: a project's own code, run on the request alone, that travels in the bundle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ids import sha256 as sha256_of
from trimtab.core.ports import Columns
from trimtab.errors import BundleCorrupt, InputError, ProjectError
from trimtab.features.batch import RequestBatch
from trimtab.features.plan import ModuleSource, RequestShape


def inspect_module(name: str, text: str, where: str) -> ModuleSource:
    """Read what an on-request module declares, without running it.

    Parameters
    ----------
    name
        Its import path, such as ``features.calendar``.
    text
        Its source.
    where
        The file, for messages.

    Raises
    ------
    ProjectError
        When it is no Python, imports more than the standard library and numpy, or does not define ``compute`` and a
        literal tuple ``FEATURES``.

    Examples
    --------
    >>> text = "FEATURES = ('double',)\\ndef compute(columns):\\n    return {'double': 2 * columns['x']}"
    >>> inspect_module("features.double", text, "double.py").features
    ('double',)
    """
    tree = check_code(name, text, where, what="on-request module")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "compute" for node in tree.body):
        raise ProjectError(
            f"on-request module {name!r} has no function compute",
            hint="def compute(columns): return {feature: array of one value per request}",
            where=where,
        )
    return ModuleSource(name, text, _declared_features(tree, name, where), sha256_of(text.encode()))


def check_code(name: str, text: str, where: str, *, what: str) -> ast.Module:
    """Read code that travels in a bundle, without running it.

    Raises
    ------
    ProjectError
        When it is no Python, or imports more than the standard library and numpy.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ProjectError(
            f"{what} {name!r} is not valid Python", got=str(error.msg), where=f"{where}:{error.lineno}"
        ) from None
    for imported, line in _imports(tree):
        if imported.partition(".")[0] not in sys.stdlib_module_names | {"numpy"}:
            raise ProjectError(
                f"{what} {name!r} imports more than the standard library and numpy",
                got=imported,
                hint="it runs in every serving worker: compute with numpy, or move the work into a source",
                where=f"{where}:{line}",
            )
    return tree


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def _declared_features(tree: ast.Module, name: str, where: str) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if not any(isinstance(target, ast.Name) and target.id == "FEATURES" for target in targets):
            continue
        try:
            declared = ast.literal_eval(value)
        except (ValueError, TypeError):
            declared = None
        words = isinstance(declared, tuple) and all(isinstance(word, str) for word in declared)
        if words and declared and len(set(declared)) == len(declared):
            return tuple(declared)
        raise ProjectError(
            f"FEATURES of on-request module {name!r} is no literal tuple of different names",
            got=ast.unparse(value),
            hint='write FEATURES = ("hour", "weekday")',
            where=f"{where}:{node.lineno}",
        )
    raise ProjectError(
        f"on-request module {name!r} does not say which features it computes",
        hint='write FEATURES = ("hour", "weekday")',
        where=where,
    )


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """An on-request module that is ready to run; made by :func:`load_module`."""

    name: str
    features: tuple[str, ...]
    sha256: str
    _compute: Callable[[Columns], Mapping[str, Any]]

    def compute(self, columns: Columns) -> NDArray[np.float64]:
        """Run it on n requests.

        Parameters
        ----------
        columns
            As :func:`request_columns` makes them, each of shape (n,).

        Returns
        -------
        ndarray
            float64, shape (n, features); NaN where a value is missing.

        Raises
        ------
        InputError
            When the code raises, or gives other names, other shapes or anything but finite numbers and NaN.
        """
        count = len(next(iter(columns.values())))
        try:
            found = self._compute(columns)
        except Exception as error:  # foreign code may raise anything
            raise InputError(
                f"on-request module {self.name!r} failed on these requests", got=f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, Mapping) or set(found) != set(self.features):
            raise InputError(
                f"on-request module {self.name!r} did not return the features it declares",
                got=", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__,
                hint=f"return a dict with {', '.join(self.features)}",
            )
        out = np.empty((count, len(self.features)))
        for place, feature in enumerate(self.features):
            values = np.asarray(found[feature])
            if values.shape != (count,) or values.dtype.kind not in "biuf":
                raise InputError(
                    f"feature {feature!r} of on-request module {self.name!r} is not one number per request",
                    got=f"{values.dtype} of shape {values.shape}",
                    hint=f"return an array of {count} numbers",
                )
            out[:, place] = values
        infinite = np.isinf(out)
        if infinite.any():
            worst = self.features[int(infinite.any(axis=0).argmax())]
            raise InputError(
                f"feature {worst!r} of on-request module {self.name!r} is infinite",
                hint="return NaN where there is no value",
            )
        return out


def load_module(name: str, text: str, sha256: str) -> LoadedModule:
    """Run the source of an on-request module under its own digest, so that two versions can live in one process.

    Raises
    ------
    BundleCorrupt
        When the text is not the one that was signed.
    ProjectError
        When the module breaks a rule of :func:`inspect_module`, or fails while it is loaded.
    """
    if sha256_of(text.encode()) != sha256:
        raise BundleCorrupt(f"on-request module {name!r} is not the text that was registered", got=sha256[:12])
    source = inspect_module(name, text, name)
    found = run_code(name, text, sha256, what="on-request module")
    return LoadedModule(name, source.features, sha256, found["compute"])


def run_code(name: str, text: str, sha256: str, *, what: str) -> dict[str, Any]:
    """Run the source of a module under its digest; the names that it defines.

    Raises
    ------
    ProjectError
        When it fails.
    """
    module = ModuleType(f"trimtab_{what.partition(' ')[0].replace('-', '')}_{sha256}")
    sys.modules[module.__name__] = module  # dataclasses and typing look their module up
    try:
        exec(compile(text, f"<{name} {sha256[:12]}>", "exec"), module.__dict__)  # noqa: S102 - signed project code
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        del sys.modules[module.__name__]
        raise ProjectError(
            f"{what} {name!r} raises an error when it is loaded", got=f"{type(error).__name__}: {error}"
        ) from error
    return module.__dict__


def request_columns(batch: RequestBatch, shape: RequestShape) -> Columns:
    """What on-request code is given: inputs, entity keys and ``at``; times as ``datetime64[us]``.

    Examples
    --------
    >>> shape = RequestShape("visits", "id", "at", {}, {"due": "time"}, (), {})
    >>> batch = RequestBatch(["a"], np.array([0]), {}, {"due": np.array([60_000_000])})
    >>> str(request_columns(batch, shape)["due"][0])
    '1970-01-01T00:01:00.000000'
    """
    columns = {**batch.inputs, **batch.keys, "at": batch.at}
    for name, kind in [*shape.inputs.items(), ("at", "time")]:
        if kind == "time":
            columns[name] = _moments(columns[name])
    return columns


def _moments(micros: NDArray[np.generic]) -> NDArray[np.datetime64]:
    """Microseconds as ``datetime64[us]``; a missing time, carried as NaN, is NaT."""
    if micros.dtype.kind in "Mi":
        return micros.astype("datetime64[us]")
    missing = np.isnan(micros)
    moments = np.where(missing, 0, micros).astype(np.int64).view("datetime64[us]")
    moments[missing] = np.datetime64("NaT")
    return moments
