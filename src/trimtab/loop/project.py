"""A project as a whole, and what ``trimtab check`` finds in it.

A single declaration checks itself when it is made (``Entity``, ``column``, ``canary`` …). Here is what only shows when
they are seen together: :func:`check` applies the rules of :mod:`trimtab.loop.rules` to the declarations, and
:func:`check_history` holds the declarations against the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.datasets.validation import KNOWN_EARLY, Validated
from trimtab.errors import ProjectError, UnknownName
from trimtab.features.plan import ModuleSource, Plan, compile_plan
from trimtab.features.sources import Source
from trimtab.features.views import LatestView, OnRequest, WindowView
from trimtab.loop import rules
from trimtab.loop.model import ModelSpec
from trimtab.loop.rules import Problem

__all__ = ["Problem", "Project", "check", "check_history"]

TOLERATED = 0.01
"""Share of rows that may contradict the declared times before the declaration, not the row, is at fault."""


@dataclass(frozen=True)
class Project:
    """Everything a project file declares.

    Parameters
    ----------
    root, file
        The project's directory and its file.
    sources, models
        By name.
    modules
        The on-request modules that models name and that could be read, by name.
    revision
        Digest of the project file and every module of the project that it uses: the code revision of a bundle.
    declared
        All sources and models in the order found, with those that share a name.
    stages
        The text of the modules that models name to run before or after them and that could be read, by name.
    faults
        What was found wrong while the project was read; :func:`check` repeats it.
    """

    root: str
    file: str
    sources: Mapping[str, Source]
    models: Mapping[str, ModelSpec]
    modules: Mapping[str, ModuleSource]
    revision: str
    declared: tuple[Source | ModelSpec, ...] = ()
    faults: tuple[Problem, ...] = ()
    stages: Mapping[str, str] = field(default_factory=dict)

    def model(self, name: str) -> ModelSpec:
        """The model of that name.

        Raises
        ------
        UnknownName
            When the project declares no such model.
        """
        found = self.models.get(name)
        if found is None:
            raise UnknownName("no such model in the project", got=repr(name), hint=rules.suggest(name, self.models))
        return found

    def plan(self, model_name: str) -> Plan:
        """The feature plan of a model.

        Raises
        ------
        UnknownName
            When there is no such model.
        ProjectError
            When one of its modules is missing, or two of its features have the same name.
        """
        spec = self.model(model_name)
        for view in spec.features:
            if isinstance(view, OnRequest) and view.module not in self.modules:
                raise self._unread(view.module, view.where)
        return compile_plan(spec.requests, spec.features, dict(self.modules))

    def stage(self, name: str, *, where: str = "") -> str:
        """The text of a module that runs before or after a model.

        Raises
        ------
        ProjectError
            When it could not be read, or cannot be a stage.
        """
        if name not in self.stages:
            raise self._unread(name, where)
        return self.stages[name]

    def _unread(self, name: str, where: str) -> ProjectError:
        return next(
            (fault.error() for fault in self.faults if repr(name) in fault.what),
            ProjectError(f"module {name!r} could not be read", where=where),
        )


def check(project: Project) -> list[Problem]:
    """Every problem that the declarations show, in the order of the file; empty when there is none."""
    problems = [*project.faults, *rules.check_names(project.declared)]
    sources = [item for item in project.declared if isinstance(item, Source)]
    models = [item for item in project.declared if isinstance(item, ModelSpec)]
    if not models:
        problems.append(
            Problem("the project declares no model", hint="assign a trimtab.Model(...) to a name", where=project.file)
        )
    problems += rules.check_entities(sources)
    for source in sources:
        problems += rules.check_source(source)
    for spec in models:
        problems += _model(spec, project)
    return list(dict.fromkeys(_relative(problem, project.root) for problem in problems))


def _relative(problem: Problem, root: str) -> Problem:
    """The same problem with paths as seen from the project, so that a message is the same on every machine."""
    return Problem(*(text.replace(f"{root}/", "") for text in (problem.what, problem.got, problem.hint, problem.where)))


def check_history(project: Project, history: Mapping[str, Validated]) -> list[Problem]:
    """Hold the declared times and labels against the data; sources that are not in ``history`` are passed over."""
    problems = []
    for name, batch in history.items():
        source = project.sources[name]
        report = batch.quarantine
        early = report.counts.get((source.known, KNOWN_EARLY), 0)
        if early > TOLERATED * report.sent:
            problems.append(
                Problem(
                    f"{name!r} has rows that were known before they happened",
                    f"{early} of {report.sent}",
                    f"declare as known= the column that says when a row could first be known, not {source.known!r}",
                    source.where,
                )
            )
    for spec in project.models.values():
        label, asked = spec.label, history.get(spec.requests.name)
        answered = history.get(label.source.name)
        if asked is not None and answered is not None:
            problems += _label_times(spec, asked.columns, answered.columns)
    return problems


def _label_times(spec: ModelSpec, asked: Columns, answered: Columns) -> Iterator[Problem]:
    label, ids = spec.label, asked[spec.requests.id]
    if not len(ids) or not len(answered[label.on]):
        return
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], answered[label.on]), len(ids) - 1)
    joined = ids[order][place] == answered[label.on]
    if not joined.any():
        yield Problem(
            f"no label of {spec.name!r} joins a request",
            f"{label.on} such as {str(answered[label.on][0])!r}, {spec.requests.id} such as {str(ids[0])!r}",
            "let both hold the same id",
            label.where,
        )
        return
    early = joined & (_times(answered, label.source.known) <= _times(asked, spec.requests.time)[order][place])
    if early.sum() > TOLERATED * joined.sum():
        yield Problem(
            f"labels of {spec.name!r} were known before their request was asked: the answer leaks",
            f"{early.sum()} of {joined.sum()} labels",
            f"known= of {label.source.name!r} must say when the outcome could be known, at= of {spec.requests.name!r} "
            "when the question was asked",
            label.where,
        )


def _times(columns: Columns, name: str) -> NDArray[np.int64]:
    return columns[name].astype(np.int64, copy=False)


def _model(spec: ModelSpec, project: Project) -> Iterator[Problem]:
    found: list[Problem] = []
    for view in spec.features:
        match view:
            case WindowView():
                found += rules.check_window(view, spec)
            case LatestView():
                found += rules.check_latest(view, spec)
            case OnRequest():
                pass  # read and inspected when the project was loaded
        found += rules.check_leaks(view, spec)
    found += rules.check_label(spec)
    yield from found
    yield from rules.check_policy(spec)
    if not found and not project.faults:
        try:
            project.plan(spec.name)
        except ProjectError as error:
            yield Problem.of(error)
