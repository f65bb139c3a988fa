"""The settings of a serving worker, read once for whoever starts one: ``trimtab up``, ``trimtab serve`` and Python."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from trimtab.adapters.models.providers import read_order
from trimtab.app.home import bytes_of, segment_bytes, setting
from trimtab.app.shortcuts import shortcut_options
from trimtab.app.worker import WorkerOptions
from trimtab.errors import InputError
from trimtab.serving.recordmode import read_mode, read_policy

_SERVERS = ("httptools", "uvicorn")
Given = Mapping[str, str | int | None]
"""By name of the setting; None or absent stands for what the environment says."""


def worker_options(*, port: int, grpc_port: int, given: Given, driven: bool = False) -> WorkerOptions:
    """What a worker is told, from the settings.

    Parameters
    ----------
    given
        Settings that an option or an argument names; they win over the environment. ``port`` and ``grpc_port`` are not
        read from here: who starts the worker has found free ones.

    Raises
    ------
    InputError
        When a setting cannot be read; here, where somebody reads it, and not in every worker.

    Examples
    --------
    >>> worker_options(port=0, grpc_port=-1, given={"server": "uvicorn", "max_queue": 8}).server
    'uvicorn'
    """
    return WorkerOptions(
        host=setting("host", given.get("host")),
        port=port,
        driven=driven,
        max_body=whole_number("max_body", given.get("max_body")),
        max_rows=whole_number("max_batch_rows", given.get("max_batch_rows")),
        max_queue=whole_number("max_queue", given.get("max_queue")),
        deadline_ms=whole_number("deadline_ms", given.get("deadline_ms")),
        software=_software(),
        server=_server(given.get("server")),
        grpc_port=grpc_port,
        providers=",".join(read_order(setting("providers", given.get("providers")))),
        memory_budget=bytes_of("memory_budget", given.get("memory_budget")),
        model_python=setting("model_python", given.get("model_python")),
        access_log=_path("access_log", given.get("access_log")),
        access_log_share=_share("access_log_share", given.get("access_log_share")),
        trace_share=_share("trace_share", given.get("trace_share")),
        **shortcut_options(given),
        records=_records_mode(given.get("records")),
        records_when_full=read_policy(setting("records_when_full", given.get("records_when_full"))),
        records_segment=segment_bytes(),
    )


def check_given(given: Given) -> None:
    """Refuse what is no setting of a worker.

    Raises
    ------
    InputError
        When one is not.
    """
    if odd := sorted(set(given) - _KNOWN):
        raise InputError("no such setting of a worker", got=", ".join(odd), hint=", ".join(sorted(_KNOWN)))


_KNOWN = frozenset(
    {"max_body", "max_batch_rows", "max_queue", "deadline_ms", "server", "providers", "memory_budget", "model_python"}
    | {"access_log", "access_log_share", "trace_share", "cache_bytes", "cache_ttl", "precomputed", "records"}
    | {"records_when_full"}
)


def whole_number(name: str, given: str | int | None = None) -> int:
    """A setting that is a whole number.

    Raises
    ------
    InputError
        When it is none.
    """
    text = setting(name, given)
    if not text.isdigit():
        raise InputError(f"the setting {name} must be a whole number", got=repr(text))
    return int(text)


def _server(given: str | int | None) -> str:
    text = setting("server", given)
    if text not in _SERVERS:
        raise InputError("the setting server names no HTTP server", got=repr(text), hint=" or ".join(_SERVERS))
    return text


def _software() -> str:
    try:
        return metadata.version("trimtab")
    except metadata.PackageNotFoundError:  # run from a checkout
        return ""


def _share(name: str, given: str | int | None) -> float:
    text = setting(name, given)
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise InputError(f"the setting {name} must be a share from 0 to 1", got=repr(text))
    return found


def _records_mode(given: str | int | None) -> str:
    text = setting("records", given)
    read_mode(text)
    return text


def _path(name: str, given: str | int | None) -> str:
    text = setting(name, given)
    return str(Path(text).resolve()) if text else ""
