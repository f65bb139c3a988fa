"""History in Parquet files: read once, typed and validated like everything else that enters."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.datasets.validation import Validated, validate
from trimtab.errors import ProjectError, SchemaError
from trimtab.features.sources import Source

if TYPE_CHECKING:
    import pyarrow as pa


def read_history(source: Source, root: Path) -> Validated:
    """Read and validate what is known of a source already.

    Only declared columns are read. Rows keep the order of the files (sorted by name) and of the rows in them; the
    positions in the quarantine report count through all files.

    Parameters
    ----------
    root
        The project's directory; ``source.history`` is a path or a glob below it.

    Raises
    ------
    ProjectError
        When no file matches, or one is not a Parquet file.
    SchemaError
        When a file lacks a column that is declared and not optional.
    """
    import pyarrow as pa

    files = _files(source, root)
    declared = source.every_column()
    tables = []
    for file in files:
        held = _schema(file, source).names
        lacking = [name for name, column in declared.items() if name not in held and not column.optional]
        if lacking:
            raise SchemaError(
                f"{file.name} lacks columns that {source.name!r} declares",
                got=f"columns {', '.join(held)}",
                hint=f"add {', '.join(lacking)}, or declare them with column(..., optional=True)",
                where=source.where,
            )
        tables.append(_read(file, [name for name in declared if name in held], source))
    table = pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]
    return validate(source, {name: to_numpy(table[name]) for name in table.column_names})


def history_digest(source: Source, root: Path) -> str:
    """BLAKE2b of the bytes of the files that :func:`read_history` reads, in order, each with its name.

    Raises
    ------
    ProjectError
        When no file matches, or one cannot be read.
    """
    total = hashlib.blake2b(digest_size=32)
    for file in _files(source, root):
        try:
            with file.open("rb") as data:
                content = hashlib.file_digest(data, "blake2b").hexdigest()
        except OSError as error:
            raise _unreadable(file, source, error) from None
        total.update(f"{file.name}\n{content}\n".encode())
    return total.hexdigest()


def write_parquet(path: Path, columns: Columns, *, times: Sequence[str] = ()) -> None:
    """Write columns as one Parquet file, whole or not at all.

    Parameters
    ----------
    times
        Columns of int64 microseconds to be stored as UTC timestamps.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        name: pa.array(values, type=pa.int64()).cast(pa.timestamp("us", "UTC")) if name in times else pa.array(values)
        for name, values in columns.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.table(arrays), draft)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(path)


def to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """An Arrow column as the array that :func:`trimtab.datasets.validation.validate` reads fastest.

    Text becomes numpy ``str``, timestamps and dates ``datetime64[us]``, decimals floats (integers when they have no
    scale), dictionaries their values. Numbers and booleans with gaps become floats and objects, a gap in times NaT;
    text with gaps becomes objects with ``None``.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return to_numpy(column.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return to_numpy(column.cast(pa.int64() if kind.scale == 0 else pa.float64()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        # Keep the zone: what is stored is UTC, and a cast to a type without zone is a question of taste.
        micros = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
        return _array(micros)  # as times, not as numbers: a column of numbers must not take them
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _texts(column)
    return _array(column)


def _texts(column: pa.ChunkedArray) -> NDArray[Any]:
    if column.null_count or not len(column):
        return np.array(column.to_pylist(), dtype=object)
    # Keys repeat: widening each distinct text once is several times faster than widening every row.
    coded = column.dictionary_encode().combine_chunks()
    if len(coded.dictionary) * 4 > len(column):
        return np.array(column.to_pylist(), dtype=np.str_)
    values: NDArray[np.str_] = np.array(coded.dictionary.to_pylist(), dtype=np.str_)
    widened: NDArray[Any] = values[_array(coded.indices)]
    return widened


def _array(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _files(source: Source, root: Path) -> list[Path]:
    if not source.history:
        raise ProjectError(
            f"{source.name!r} declares no history",
            hint='add history="data/<file>.parquet"',
            where=source.where,
        )
    files = [Path(name) for name in sorted(glob.glob(source.history, root_dir=root, recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute patterns
    if not files:
        raise ProjectError(
            f"no file matches the history of {source.name!r}",
            got=source.history,
            hint="write the files first (a project usually has a script for that), or correct the path, which is "
            "relative to the project",
            where=source.where,
        )
    return [root / name for name in files]


def _schema(file: Path, source: Source) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, source, error) from None


def _read(file: Path, names: list[str], source: Source) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file, columns=names, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, source, error) from None


def _unreadable(file: Path, source: Source, error: Exception) -> ProjectError:
    return ProjectError(
        f"{file.name} of {source.name!r} cannot be read as Parquet",
        got=str(error).splitlines()[0][:200],
        hint="write the file again",
        where=source.where,
    )
