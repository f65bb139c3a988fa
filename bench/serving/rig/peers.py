"""The other servers: each from a virtual environment of its own, started here on the server's core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rig.models import BenchModel
from rig.processes import NotStarted, Started, free_port

PEERS = Path(__file__).parents[1] / "peers"
ROOT = Path(__file__).parents[3]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def venvs() -> Path:
    """Where the environments of the peers are: ``TRIMTAB_BENCH_VENVS``, else ``.bench-venvs`` in the checkout."""
    return Path(os.environ.get("TRIMTAB_BENCH_VENVS", ROOT / ".bench-venvs"))


def install(name: str) -> None:
    """Make the environment of a peer from its pinned requirements, unless that was done."""
    place = venvs() / name
    wanted = (PEERS / f"{name}.txt").read_text()
    stamp = place / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {name} …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
    command = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "-r", PEERS / f"{name}.txt"], check=True)
    stamp.write_text(wanted)


@dataclass
class Peer:
    """A server of others.

    Parameters
    ----------
    venv
        Name of its environment and of its requirements in ``peers/``.
    command
        From (bin directory, port, model, a folder of its own) to the command and further environment variables.
    """

    name: str
    venv: str
    command: Callable[[Path, int, BenchModel, Path], tuple[list[str], dict[str, str]]]
    timeout_s: float = 90.0
    homes: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="trimtab-bench-peer-")))

    def start(self, model: BenchModel) -> tuple[Started, int]:
        """Start it and wait until it listens; the process and its port.

        Raises
        ------
        NotStarted
            When it is not installed or does not come up.
        """
        binaries = venvs() / self.venv / "bin"
        if not binaries.is_dir():
            raise NotStarted(f"not installed: run bench/serving/install_peers.py {self.venv}")
        port, folder = free_port(), Path(tempfile.mkdtemp(dir=self.homes))
        command, more = self.command(binaries, port, model, folder)
        environment = {"MODEL_FILE": str(model.file), "MODEL_NAME": model.name, "PYTHONPATH": str(PEERS), **ONE_THREAD}
        path = f"{binaries}:{os.environ['PATH']}"
        started = Started(command, log=folder / "log", environment={**environment, "PATH": path, **more}, folder=folder)
        try:
            started.wait_for_port(port, timeout_s=self.timeout_s)
        except Exception:
            started.stop()
            raise
        return started, port

    def close(self) -> None:
        shutil.rmtree(self.homes, ignore_errors=True)


def _fastapi(style: str) -> Callable[[Path, int, BenchModel, Path], tuple[list[str], dict[str, str]]]:
    def command(binaries: Path, port: int, _model: BenchModel, _folder: Path) -> tuple[list[str], dict[str, str]]:
        options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [str(binaries / "uvicorn"), "fastapi_app:app", "--log-level", "warning", *options], {"STYLE": style}

    return command


def peer(name: str) -> Peer:
    """A peer by name; see :data:`NAMES`."""
    return Peer(name, *KINDS[name])


KINDS = {
    "fastapi": ("fastapi", _fastapi("async")),
    "fastapi-def": ("fastapi", _fastapi("def")),
    "fastapi-orjson": ("fastapi", _fastapi("orjson")),
}
NAMES = tuple(KINDS)
