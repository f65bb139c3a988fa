"""CSV files to be scored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from trimtab.adapters.offline.parquet import to_numpy
from trimtab.adapters.offline.tables import Chunk, Files, ids_of, unreadable
from trimtab.core.clock import instant
from trimtab.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 8 << 20
"""Bytes that are read at once."""


class CsvTable(Files):
    """CSV files with a header. Every value arrives as text, and is read as what the model wants: nothing is guessed.

    An empty field is a missing value.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        super().__init__(name, files)
        self.rows: int | None = None
        self.columns = self._header(files[0])
        for file in files[1:]:
            if (own := self._header(file)) != self.columns:
                raise InputError("the files have different columns", got=f"{file.name}: {', '.join(own)}"[:300])

    def chunks(self, size: int, kinds: Mapping[str, str], *, id: str, skip: Collection[int] = ()) -> Iterator[Chunk]:
        """See :class:`Table`; done chunks are passed over, but the file has to be parsed up to them."""
        wanted = [name for name in self.columns if name in kinds or name == id] or self.columns[:1]
        held: list[pa.RecordBatch] = []
        number = rows = 0
        for batch in self._batches(wanted):
            offset = 0
            while offset < batch.num_rows:
                take = min(size - rows, batch.num_rows - offset)
                held.append(batch.slice(offset, take))
                rows, offset = rows + take, offset + take
                if rows == size:
                    if number not in skip:
                        yield _typed(held, number, size, kinds, id)
                    held, rows, number = [], 0, number + 1
        if rows and number not in skip:
            yield _typed(held, number, size, kinds, id)

    def id_type(self, id: str) -> Any:
        """Text, or the numbers of the rows."""
        import pyarrow as pa

        return pa.string() if id else pa.int64()

    def _batches(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        from pyarrow import csv

        options = csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=False,
        )
        for path in self._paths:
            try:
                with csv.open_csv(
                    path, read_options=csv.ReadOptions(block_size=_BLOCK), convert_options=options
                ) as reader:
                    yield from reader
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from None

    def _header(self, path: Path) -> list[str]:
        import pyarrow as pa
        from pyarrow import csv

        try:
            with csv.open_csv(path, read_options=csv.ReadOptions(block_size=1 << 16)) as reader:
                return list(reader.schema.names)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from None


def _typed(held: list[pa.RecordBatch], number: int, size: int, kinds: Mapping[str, str], id: str) -> Chunk:
    import pyarrow as pa

    table = pa.Table.from_batches(held)
    columns = {name: read_texts(table[name], kinds[name]) for name in table.column_names if name in kinds}
    return Chunk(number, number * size, table.num_rows, ids_of(table, id, pa.string()), columns)


def read_texts(column: pa.ChunkedArray, kind: str) -> NDArray[Any] | list[object]:
    """Texts as values of a kind; one that cannot be read stays a text, and is quarantined as such.

    Examples
    --------
    >>> import pyarrow as pa
    >>> read_texts(pa.chunked_array([["1.5", None, "x"]]), "float")
    [1.5, None, 'x']
    """
    import pyarrow as pa

    if kind in ("float", "int"):
        try:
            found = to_numpy(column.cast(pa.float64() if kind == "float" else pa.int64()))
        except pa.ArrowException:
            pass
        else:
            return found
    if kind == "str":
        return to_numpy(column)
    return [None if text is None else _value(text, kind) for text in column.to_pylist()]


_EXACT = 2**53
"""Below this, a whole float is one integer and no other."""
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _whole(text: str) -> object:
    """A number with nothing after its point as the integer that it is; another stays a text."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < _EXACT else text


def _value(text: str, kind: str) -> object:
    try:
        match kind:
            case "bool":
                return _WORDS.get(text.lower(), text)
            case "int":
                return int(text) if text.lstrip("+-").isdigit() else _whole(text)
            case "time":
                return int(text) if text.lstrip("-").isdigit() else instant(text)
            case _:
                return float(text)
    except ValueError:
        return text
