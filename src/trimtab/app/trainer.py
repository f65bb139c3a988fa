"""What trains for a replay: the warm process, and the jobs that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.app.data import UnitFault
from trimtab.app.home import Home
from trimtab.app.jobs import PREPARE, TrainingOrder
from trimtab.core.clock import Micros, instant
from trimtab.loop.commands import Train
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Project
from trimtab.training.ports import Job


@dataclass(frozen=True)
class Staged:
    """The faults of a replay, by what they change."""

    units: tuple[str, ...]
    bad_challengers: tuple[Micros, ...]

    @staticmethod
    def parse(faults: Sequence[str]) -> Staged:
        """Read ``unit:…`` and ``bad-challenger@TIME``."""
        units, bad = [], []
        for text in faults:
            if text.startswith("bad-challenger@"):
                bad.append(instant(text.partition("@")[2]))
            else:
                UnitFault.parse(text)
                units.append(text)
        return Staged(tuple(units), tuple(bad))


@dataclass(frozen=True)
class Trainer:
    """Turns what the loop asks for into jobs of one warm process, which reads the history while this one does."""

    project: Project
    spec: ModelSpec
    compute: ProcessCompute
    blobs: Path
    faults: Staged
    seed: int
    until: Micros
    """Requests asked later are never learned from."""

    @staticmethod
    def of(project: Project, spec: ModelSpec, home: Home, *, faults: Staged, seed: int, until: Micros) -> Trainer:
        """The trainer of a replay."""
        return Trainer(
            project,
            spec,
            compute=ProcessCompute(home.jobs, reuse=True),
            blobs=home.root / "blobs",
            faults=faults,
            seed=seed,
            until=until,
        )

    def prepare(self) -> None:
        """Let the process read the history; when that fails, the first training says why."""
        arguments = {"project": self._file(), "model": self.spec.name, "faults": [*self.faults.units]}
        self.compute.submit(Job("prepare", PREPARE, {**arguments, "until": self.until}))

    def job(self, command: Train, sabotage: bool) -> Job:
        """The job that trains what a command asks for."""
        return TrainingOrder(
            project=self._file(),
            model=self.spec.name,
            cutoff=command.cutoff,
            seed=command.seed + self.seed,
            blobs=str(self.blobs),
            champion=command.champion,
            faults=self.faults.units,
            until=self.until,
            sabotage=sabotage,
        ).job(command.job_id)

    def _file(self) -> str:
        return str(Path(self.project.root) / self.project.file)
