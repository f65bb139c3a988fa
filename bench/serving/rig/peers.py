"""The other servers: each from a virtual environment of its own, started here on the server's core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rig.models import BenchModel
from rig.processes import NotStarted, Started, free_port

PEERS = Path(__file__).resolve().parents[1] / "peers"
ROOT = Path(__file__).resolve().parents[3]
Command = Callable[[Path, int, BenchModel, Path], tuple[list[str], dict[str, str]]]
"""From (bin directory, port, model, a folder of its own) to the command and further environment variables."""
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
    """

    name: str
    venv: str
    command: Command
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


def _fastapi(style: str) -> Command:
    def command(binaries: Path, port: int, _model: BenchModel, _folder: Path) -> tuple[list[str], dict[str, str]]:
        options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [str(binaries / "uvicorn"), "fastapi_app:app", "--log-level", "warning", *options], {"STYLE": style}

    return command


def _mlserver(batch: int) -> Command:
    def command(binaries: Path, port: int, model: BenchModel, folder: Path) -> tuple[list[str], dict[str, str]]:
        settings = {"debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": free_port()}
        settings |= {"metrics_port": free_port(), "parallel_workers": 0}  # one core: no further process in between
        (folder / "settings.json").write_text(json.dumps(settings))
        described = {"name": model.name, "implementation": "mlserver_runtime.OnnxRuntime"}
        if batch:
            described |= {"max_batch_size": batch, "max_batch_time": 0.001}
        (folder / "model-settings.json").write_text(json.dumps(described))
        return [str(binaries / "mlserver"), "start", str(folder)], {}

    return command


def _bentoml(batch: int) -> Command:
    def command(binaries: Path, port: int, _model: BenchModel, folder: Path) -> tuple[list[str], dict[str, str]]:
        options = ["--working-dir", str(PEERS), "--host", "127.0.0.1", "--port", str(port), "--quiet"]
        quiet = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(folder), "BATCH": str(batch)}
        return [str(binaries / "bentoml"), "serve", "bentoml_service:Bench", *options], quiet

    return command


_TRITON_CONFIG = """
name: "{name}" backend: "python" max_batch_size: 32
input [ {{ name: "input" data_type: TYPE_FP32 dims: [ {features} ] }} ]
output [ {{ name: "output" data_type: TYPE_FP32 dims: [ {outputs} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ }}
"""


def _triton(binaries: Path, port: int, model: BenchModel, folder: Path) -> tuple[list[str], dict[str, str]]:
    code = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = binaries.parent / "lib" / f"python{code}" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    place = folder / "models" / model.name
    (place / "1").mkdir(parents=True)
    shutil.copy(PEERS / "triton_model.py", place / "1" / "model.py")
    shutil.copy(PEERS / "onnx_session.py", place / "1")  # its interpreter does not read PYTHONPATH
    described = _TRITON_CONFIG.format(name=model.name, features=model.features, outputs=model.outputs)
    (place / "config.pbtxt").write_text(described)
    # The wheel brings a stub for each Python; Triton wants the one it shall use beside its backend.
    backend = shutil.copytree(server / "backends" / "python", folder / "backends" / "python")
    shutil.copy(server / "python_backend_stubs" / code / "triton_python_backend_stub", backend)
    options = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "http-address": "127.0.0.1",
        "http-port": port,
        "allow-grpc": "false",
        "metrics-port": free_port(),
    }
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{packages / 'nvidia_pytriton.libs'}"
    command = [str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    return command, {"LD_LIBRARY_PATH": libraries}


def peer(name: str) -> Peer:
    """A peer by name; see :data:`NAMES`."""
    return Peer(name, *KINDS[name])


KINDS = {
    "fastapi": ("fastapi", _fastapi("async")),
    "fastapi-def": ("fastapi", _fastapi("def")),
    "fastapi-orjson": ("fastapi", _fastapi("orjson")),
    "mlserver": ("mlserver", _mlserver(0)),
    "mlserver-batch": ("mlserver", _mlserver(32)),
    "bentoml": ("bentoml", _bentoml(0)),
    "bentoml-batch": ("bentoml", _bentoml(1)),
    "triton": ("triton", _triton),
}
NAMES = tuple(KINDS)
