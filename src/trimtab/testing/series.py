"""What every adapter of :class:`trimtab.core.ports.Series` must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trimtab.core.ports import Series
from trimtab.errors import InputError


class SeriesConformance:
    """Fill in ``make``: series over a place; called twice with one place, they are the same."""

    def make(self, place: Path) -> Series:
        """Series over a place."""
        raise NotImplementedError

    def test_vectors_add_up_by_name_and_bucket(self, tmp_path: Path) -> None:
        series = self.make(tmp_path)
        assert series.add("1", {("a", 0): np.array([1.0, 2.0]), ("a", 10): np.array([5.0, 0.5])})
        assert series.add("2", {("a", 0): np.array([10.0, 20.0]), ("b", 0): np.array([7.0])})
        found = series.read("")
        assert list(found) == [("a", 0), ("a", 10), ("b", 0)]
        assert found["a", 0].tolist() == [11.0, 22.0]
        assert found["a", 10].tolist() == [5.0, 0.5]
        assert found["b", 0].tolist() == [7.0]
        assert found["a", 0].dtype == np.float64

    def test_a_batch_counts_once(self, tmp_path: Path) -> None:
        series = self.make(tmp_path)
        assert series.add("1", {("a", 0): np.array([1.0])})
        assert not series.add("1", {("a", 0): np.array([1.0])})
        assert not self.make(tmp_path).add("1", {("a", 5): np.array([1.0])})
        assert {place: vector.tolist() for place, vector in series.read("a").items()} == {("a", 0): [1.0]}

    def test_read_by_prefix_and_bucket(self, tmp_path: Path) -> None:
        series = self.make(tmp_path)
        names = ["m", "m/a", "m/b%_", "mm", "n", "m/é", "m*"]
        series.add("1", {(name, when): np.ones(1) for name in names for when in (0, 5, 9)})
        assert {name for name, _ in series.read("m/")} == {"m/a", "m/b%_", "m/é"}
        assert {name for name, _ in series.read("m/b%")} == {"m/b%_"}
        assert list(series.read("n", start=5, end=9)) == [("n", 5)]
        assert list(series.read("n", start=5)) == [("n", 5), ("n", 9)]
        assert series.read("none") == {}

    @pytest.mark.parametrize("bad", [np.ones(3), np.ones((2, 2)), np.float64(1.0)])
    def test_a_vector_of_another_length_is_refused_whole(self, tmp_path: Path, bad: NDArray[np.float64]) -> None:
        series = self.make(tmp_path)
        series.add("1", {("b", 0): np.ones(2)})
        with pytest.raises(InputError):
            series.add("2", {("a", 0): np.ones(2), ("b", 0): bad})
        assert list(series.read("")) == [("b", 0)]
        assert series.read("b")["b", 0].tolist() == [1.0, 1.0]
        assert series.add("2", {("a", 0): np.ones(2)}), "the refused batch must not count as added"

    def test_what_is_read_is_a_copy(self, tmp_path: Path) -> None:
        series = self.make(tmp_path)
        given = np.ones(2)
        series.add("1", {("a", 0): given})
        given[0] = 99
        series.read("a")["a", 0][1] = 99
        assert series.read("a")["a", 0].tolist() == [1.0, 1.0]

    def test_clear_forgets_cells_and_batches(self, tmp_path: Path) -> None:
        series = self.make(tmp_path)
        series.add("1", {("a", 0): np.ones(1)})
        series.clear()
        assert series.read("") == {}
        assert series.add("1", {("a", 0): np.ones(1)})

    def test_threads_add_at_once_and_each_batch_counts_once(self, tmp_path: Path) -> None:
        series = [self.make(tmp_path) for _ in range(2)]

        def work(worker: int) -> int:
            return sum(series[worker % 2].add(f"{step}", {("a", 0): np.array([1.0, step])}) for step in range(20))

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(work, range(4))) == 20
        assert series[0].read("a")["a", 0].tolist() == [20.0, 190.0]
