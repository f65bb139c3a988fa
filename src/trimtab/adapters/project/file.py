"""Loading a project file: the only place where Trimtab runs a user's code to learn what it declares."""

from __future__ import annotations

import difflib
import importlib
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar, get_args

from trimtab.core.ids import digest, sha256
from trimtab.errors import ProjectError, TrimtabError
from trimtab.features.onrequest import inspect_module, load_module
from trimtab.features.plan import ModuleSource
from trimtab.features.sources import Source
from trimtab.features.views import OnRequest
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Problem, Project
from trimtab.serving.transforms import Stage, load_transform

FILES = ("project.py", "trimtab_project.py")
"""Names of a project file, the preferred one first."""
_MODULE = "trimtab_project"
_loading = threading.RLock()
_Named = TypeVar("_Named", Source, ModelSpec)


def load_project(path: Path) -> Project:
    """Run a project file and collect what it declares.

    The file is run afresh each time, with the project's directory first on the import path, which is as it was before
    when the call returns. Modules of the project must therefore be imported at the top of the file or of each other,
    not inside functions that run later.

    Parameters
    ----------
    path
        A directory that holds ``project.py`` (or ``trimtab_project.py``), or a Python file.

    Raises
    ------
    ProjectError
        When there is no such file, or it raises; the message names the line of the project at fault.
        Everything else that is wrong is found by :func:`trimtab.loop.project.check`.
    """
    file = find_project(path)
    root = file.parent
    with _loading, _importable(root):
        module = _run(file)
        texts = {file.name: file.read_text("utf-8"), **_imported(root)}
    declared = tuple(_collect(vars(module)))
    models = [item for item in declared if isinstance(item, ModelSpec)]
    modules, faults = _on_request(models, root)
    stages, more = _stages(models, root)
    texts |= {f"{name.replace('.', '/')}.py": found.text for name, found in modules.items()}
    texts |= {f"{name.replace('.', '/')}.py": text for name, text in stages.items()}
    return Project(
        root=str(root),
        file=file.name,
        sources=_by_name(item for item in declared if isinstance(item, Source)),
        models=_by_name(models),
        modules=modules,
        revision=digest({name: sha256(text.encode()) for name, text in texts.items()}),
        declared=declared,
        faults=(*faults, *more),
        stages=stages,
    )


def find_project(path: Path) -> Path:
    """The file of a project, which is not read.

    Raises
    ------
    ProjectError
        When there is none.
    """
    path = path.resolve()
    if path.is_file() and path.suffix == ".py":
        return path
    found = [path / name for name in FILES if (path / name).is_file()]
    if not found:
        raise ProjectError(
            "no project file",
            got=str(path),
            hint=f"give a directory that holds {FILES[0]}, or a Python file",
        )
    return found[0]


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Imports find the project's own modules first, and nothing of that remains afterwards."""
    local = {item.stem for item in root.iterdir() if item.suffix == ".py" or item.is_dir()} | {_MODULE}
    local -= sys.stdlib_module_names
    kept_path, kept_bytecode = list(sys.path), sys.dont_write_bytecode
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in local}
    for name in kept:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    # Bytecode is told stale by the second: a file saved twice in one second would be run in its older form.
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = kept_path
        sys.dont_write_bytecode = kept_bytecode
        for name in [name for name in sys.modules if name.partition(".")[0] in local]:
            del sys.modules[name]
        sys.modules.update(kept)


def _run(file: Path) -> ModuleType:
    module = ModuleType(_MODULE)
    module.__file__ = str(file)
    sys.modules[_MODULE] = module  # dataclasses and typing look their module up
    try:
        code = compile(file.read_text("utf-8"), str(file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the user's own file is what a project file is for
    except TrimtabError as error:
        where = _short(error.where, file.parent) or _line_of(error, file)
        raise ProjectError(error.what, got=error.got, hint=error.hint, where=where) from None
    except SyntaxError as error:
        where = f"{_short(error.filename or file.name, file.parent)}:{error.lineno}"
        raise ProjectError(f"not valid Python: {error.msg}", got=(error.text or "").strip(), where=where) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        raise ProjectError(
            "the project file raises an error",
            got=f"{type(error).__name__}: {error}".rstrip(": "),
            hint="run the file by itself to see more",
            where=_line_of(error, file),
        ) from None
    return module


def _line_of(error: BaseException, file: Path) -> str:
    """The last line of the project that the error passed through."""
    root = str(file.parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(f"{root}/"):
            return f"{_short(frame.filename, file.parent)}:{frame.lineno}"
    return file.name


def _short(where: str, root: Path) -> str:
    return where.removeprefix(f"{root}/")


def _imported(root: Path) -> dict[str, str]:
    """The texts of the project's modules that were imported, by path below the project."""
    texts = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == _MODULE or not file or not file.endswith(".py"):
            continue
        path = Path(file)
        if path.is_relative_to(root):
            texts[path.relative_to(root).as_posix()] = path.read_text("utf-8")
    return texts


def _collect(names: Mapping[str, object]) -> Iterator[Source | ModelSpec]:
    """Every source and model among the file's names, then the sources that only models know."""
    seen: set[int] = set()
    found = [item for item in names.values() if isinstance(item, Source | ModelSpec)]
    reached = [source for spec in found if isinstance(spec, ModelSpec) for source in _sources(spec)]
    for item in [*found, *reached]:
        if id(item) not in seen:
            seen.add(id(item))
            yield item


def _sources(spec: ModelSpec) -> Iterator[Source]:
    yield spec.requests
    yield spec.label.source
    yield from (view.source for view in spec.features if not isinstance(view, OnRequest))


def _by_name(items: Iterable[_Named]) -> dict[str, _Named]:
    """The first of each name; :func:`trimtab.loop.project.check` reports the others."""
    found: dict[str, _Named] = {}
    for item in items:
        found.setdefault(item.name, item)
    return found


def _on_request(models: Iterable[ModelSpec], root: Path) -> tuple[dict[str, ModuleSource], list[Problem]]:
    modules: dict[str, ModuleSource] = {}
    faults: list[Problem] = []
    for view in (view for spec in models for view in spec.features if isinstance(view, OnRequest)):
        file = root / f"{view.module.replace('.', '/')}.py"
        if view.module in modules:
            continue
        if not file.is_file():
            faults.append(_no_module(view.module, root, what="no view and no module is named", where=view.where))
            continue
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError as error:
            faults.append(Problem(f"on-request module {view.module!r} is not UTF-8", str(error), "", view.where))
            continue
        try:
            found = inspect_module(view.module, text, _short(str(file), root))
            load_module(view.module, text, found.sha256)
        except ProjectError as error:
            faults.append(Problem(error.what, error.got, error.hint, error.where or _short(str(file), root)))
        else:
            modules[view.module] = found
    return modules, faults


def _stages(models: Iterable[ModelSpec], root: Path) -> tuple[dict[str, str], list[Problem]]:
    """The texts of the modules that run before and after models, by name."""
    found: dict[str, str] = {}
    faults: list[Problem] = []
    kinds: tuple[Stage, ...] = get_args(Stage)
    for spec, stage in ((spec, stage) for spec in models for stage in kinds if getattr(spec, stage)):
        name: str = getattr(spec, stage)
        file = root / f"{name.replace('.', '/')}.py"
        if not file.is_file():
            what = f"{stage}= of model {spec.name!r} names no module of the project:"
            faults.append(_no_module(name, root, what=what, where=spec.where))
            continue
        try:
            text = file.read_text("utf-8")
            load_transform(name, text, sha256(text.encode()), stage)
        except UnicodeDecodeError as error:
            faults.append(Problem(f"{stage} module {name!r} is not UTF-8", str(error), "", spec.where))
        except ProjectError as error:
            # The line of the module at fault, or else the declaration that names it.
            line = error.where.removeprefix(f"{name}:") if error.where.startswith(f"{name}:") else ""
            where = f"{_short(str(file), root)}:{line}" if line else spec.where
            faults.append(Problem(error.what, error.got, error.hint, where))
        else:
            found[name] = text
    return found, faults


def _no_module(name: str, root: Path, *, what: str, where: str) -> Problem:
    there = [
        file.relative_to(root).with_suffix("").as_posix().replace("/", ".")
        for file in [*root.glob("*.py"), *root.glob("*/*.py")]
    ]
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"write {name.replace('.', '/')}.py beside the project file"
    return Problem(f"{what} {name!r}", "", hint, where)
