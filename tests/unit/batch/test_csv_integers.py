"""Texts of a column of integers: what is whole is read, however it was written."""

import pyarrow as pa
import pytest

from trimtab.adapters.offline.csv_table import read_texts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("3.0", 3),
        ("-2.00", -2),
        ("1e3", 1000),
        ("9007199254740993", 9007199254740993),
        ("2.5", "2.5"),
        ("1e300", "1e300"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("x", "x"),
        (None, None),
    ],
)
def test_a_whole_number_is_an_integer_and_another_stays_a_text(text, value):
    found = read_texts(pa.chunked_array([[text, "y"]]), "int")
    assert list(found) == [value, "y"]
