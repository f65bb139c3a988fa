"""The platform knows nothing of the projects it is tried on: not in code, not in help texts, not even in examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "trimtab"
FLIGHTS = "flight carrier tailnum departure airport airline landing landed late_arrival sched_dep nycflights wind_gust"
SALES = "delivery_hours open_orders confirmed_at on_shelf"
WORDS = re.compile("|".join([*FLIGHTS.split(), *SALES.split()]), re.IGNORECASE)
ENGLISH = re.compile(r"in[ _]flight", re.IGNORECASE)
"""What is under way."""


def hits(text: str) -> list[str]:
    """The lines that speak of a project."""
    return [line.strip() for line in text.splitlines() if WORDS.search(ENGLISH.sub("", line))]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.*")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_file_speaks_of_a_project(path):
    if path.suffix != ".pyc":
        assert hits(path.read_text("utf-8")) == []


@pytest.mark.parametrize("line", ["carrier = 1", "# of a Flight", '"tailnum"', "in_flight + flights"])
def test_the_words_are_found(line):
    assert hits(line) == [line]
