"""The home of a project: the directory that holds everything durable, and how each part of it is opened."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from trimtab.core.ledger import Ledger
from trimtab.core.ports import Blobs, Records, Series
from trimtab.core.settings import SETTINGS
from trimtab.errors import InputError
from trimtab.features.ports import OnlineRows

HOME = ".trimtab"
CONTROL_WRITER = "control"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one root; the same layout live and for a replay.

    Parameters
    ----------
    root
        ``.trimtab`` of a project, or the directory of one replay.
    durable
        Whether writes wait for the disk. A replay's home is scratch: it can be made again.
    """

    root: Path
    durable: bool = True

    @staticmethod
    def of(project: Path) -> Home:
        """The home of the project in that directory, made when it is missing."""
        folder = project if project.is_dir() else project.parent
        return Home(folder / HOME).made()

    def made(self) -> Home:
        """This home, with its directories."""
        for part in ("blobs", "records", "online", "jobs", "run"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        return self

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def route_file(self) -> Path:
        return self.root / "route.json"

    @property
    def alone(self) -> bool:
        """Whether models are served from here by themselves: no project keeps its ledger here."""
        return self.route_file.exists() and not (self.root / "ledger.db").exists()

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def ledger(self) -> Ledger:
        """The ledger, with old event versions upcast on read."""
        from trimtab.adapters.ledger.sqlite import SqliteLedger
        from trimtab.loop.events import UPCASTERS

        return SqliteLedger(self.root / "ledger.db", durable=self.durable, upcasters=UPCASTERS)

    def blobs(self) -> Blobs:
        from trimtab.adapters.blobs.directory import DirectoryBlobs

        return DirectoryBlobs(self.root / "blobs")

    def records(self, writer: str = CONTROL_WRITER) -> Records:
        from trimtab.adapters.records.spool import SpoolRecords
        from trimtab.app.setting_values import segment_bytes

        return SpoolRecords(self.root / "records", writer, segment_bytes=segment_bytes())

    def series(self) -> Series:
        from trimtab.adapters.series.sqlite import SqliteSeries

        return SqliteSeries(self.root / "series.db")

    def online(self, *, readonly: bool = False, write_back: bool = False) -> OnlineRows:
        from trimtab.adapters.online.lmdb import LmdbRows

        return LmdbRows(self.root / "online", readonly=readonly, durable=self.durable, write_back=write_back)

    def signing_key(self) -> bytes:
        """The key that signs the head of the ledger; made on first use, readable by its owner alone."""
        path = self.run / "ledger.key"
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(handle, secrets.token_bytes(32))
            os.close(handle)
        return path.read_bytes()

    def new_token(self) -> str:
        """Make a token for the API; only its SHA-256 is kept."""
        token = secrets.token_urlsafe(24)
        path = self.run / "token.sha256"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(handle, hashlib.sha256(token.encode()).hexdigest().encode())
        os.close(handle)
        return token

    def token_digest(self) -> str:
        """The SHA-256 of the API's token; empty before the first start."""
        path = self.run / "token.sha256"
        return path.read_text() if path.exists() else ""


def named_home(given: Path | None = None) -> Home | None:
    """The home that was named, by ``--home`` or ``TRIMTAB_HOME``; it is not made. None when none was.

    Raises
    ------
    InputError
        When it is a file.
    """
    named = setting("home", None if given is None else str(given))
    if named and Path(named).exists() and not Path(named).is_dir():
        raise InputError("setting home (TRIMTAB_HOME): it is no directory", got=repr(named), hint="name another place")
    return Home(Path(named).resolve()) if named else None


def setting(name: str, given: str | int | None = None) -> str:
    """A setting: what was given, else the environment's ``TRIMTAB_<NAME>``, else the default.

    Raises
    ------
    InputError
        When there is no setting of that name.
    """
    for known in SETTINGS:
        if known.name == name:
            return str(given) if given is not None else os.environ.get(f"TRIMTAB_{name.upper()}", known.default)
    raise InputError("no such setting", got=repr(name), hint=", ".join(known.name for known in SETTINGS))
