"""Every error that Trimtab raises on purpose.

::

    TrimtabError
    ├── ProjectError            a project file declares something that cannot work
    ├── InputError              a request, an event or an argument is not acceptable   (ValueError)
    │   ├── SchemaError         a column is missing, of the wrong type or out of range
    │   ├── TooLarge            a body, a batch or a queue is past its stated limit
    │   └── UnknownName         no such model, entity, source, version or job          (KeyError)
    ├── ConflictError           somebody else was first: read again, then decide again
    │   └── StaleEpoch          this writer has been replaced by a newer one
    ├── IntegrityError          stored bytes are not the bytes that were written
    │   ├── BundleCorrupt       a file of a bundle does not match its manifest
    │   └── LedgerCorrupt       the hash chain of the ledger is broken
    ├── NotEnoughData           the history is too short, or too one-sided, to learn or to judge from
    ├── ParityError             two computations that must agree do not
    ├── Unavailable             a needed process, file or store cannot be reached now
    │   ├── Overloaded          more is asked than can be answered
    │   └── TooLate             the answer would come, or came, after the deadline
    ├── JobFailed               a job ended without a result
    ├── ModelFailed             a model's own code raised an error
    └── MissingExtra            an optional dependency is not installed                (ImportError)

Every message says what happened, what was got, and what to do about it. The three parts are
attributes too, so that the HTTP API and ``--json`` can hand them out separately.
"""

from __future__ import annotations

__all__ = [
    "BundleCorrupt",
    "ConflictError",
    "InputError",
    "IntegrityError",
    "JobFailed",
    "LedgerCorrupt",
    "MissingExtra",
    "ModelFailed",
    "NotEnoughData",
    "Overloaded",
    "ParityError",
    "ProjectError",
    "SchemaError",
    "StaleEpoch",
    "TooLarge",
    "TooLate",
    "TrimtabError",
    "Unavailable",
    "UnknownName",
]


class TrimtabError(Exception):
    """The root of every error that Trimtab raises on purpose.

    Parameters
    ----------
    what
        What went wrong, as a sentence without a full stop.
    got
        The offending value, already rendered; empty when there is none.
    hint
        What to do next; empty when nothing helps.
    where
        ``file:line`` of the declaration at fault; empty when unknown.

    Examples
    --------
    >>> print(InputError("distance must be a number", got="'far'", hint="send metres as a float"))
    distance must be a number. Got 'far'. Hint: send metres as a float.
    >>> print(InputError("which rows?", got="sqlite:///shop.db"))
    which rows? Got sqlite:///shop.db.
    """

    def __init__(self, what: str, *, got: str = "", hint: str = "", where: str = "") -> None:
        super().__init__(what)
        self.what, self.got, self.hint, self.where = what, got, hint, where

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.got:
            parts.append(f"Got {self.got}")
        if self.hint:
            parts.append(f"Hint: {self.hint}")
        return " ".join(text if text.endswith("?") else f"{text.rstrip('.')}." for text in parts)

    def to_json(self) -> dict[str, str]:
        """The error as the body of an HTTP answer or of ``--json``."""
        fields = {"error": self.what, "got": self.got, "hint": self.hint, "where": self.where}
        return {name: text for name, text in fields.items() if text} | {"kind": type(self).__name__}


class ProjectError(TrimtabError):
    """A project file declares something that cannot work."""


class InputError(TrimtabError, ValueError):
    """A request, an event or an argument is not acceptable."""


class SchemaError(InputError):
    """A column is missing, of the wrong type or out of its range."""


class TooLarge(InputError):
    """A body, a batch or a queue is past its stated limit."""


class UnknownName(InputError, KeyError):
    """No model, entity, source, version or job has that name."""

    __str__ = TrimtabError.__str__  # KeyError would show the repr


class ConflictError(TrimtabError):
    """Somebody else was first: read again, then decide again."""


class StaleEpoch(ConflictError):
    """This writer has been replaced by a newer one and may not act any more."""


class IntegrityError(TrimtabError):
    """Stored bytes are not the bytes that were written."""


class BundleCorrupt(IntegrityError):
    """A file of a bundle does not match its manifest."""


class LedgerCorrupt(IntegrityError):
    """The hash chain of the ledger is broken."""


class NotEnoughData(TrimtabError):
    """The history is too short, or too one-sided, to learn or to judge from."""


class ParityError(TrimtabError):
    """Two computations that must agree do not."""


class Unavailable(TrimtabError):
    """A needed process, file or store cannot be reached now."""


class Overloaded(Unavailable):
    """More is asked than can be answered: the caller should send less."""


class TooLate(Unavailable):
    """The answer would come, or came, after the caller's deadline."""


class JobFailed(TrimtabError):
    """A job ended without a result."""


class ModelFailed(TrimtabError):
    """A model's own code raised an error; ``got`` begins with its kind.

    Examples
    --------
    >>> ModelFailed("the model's own code failed", got="KeyError: 'age'").kind
    'KeyError'
    """

    @property
    def kind(self) -> str:
        """Name of the error's class, as a prediction record shows it."""
        return self.got.partition(":")[0] or type(self).__name__


class MissingExtra(TrimtabError, ImportError):
    """An optional dependency is not installed."""

    __str__ = TrimtabError.__str__
