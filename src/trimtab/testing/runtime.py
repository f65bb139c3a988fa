"""What every adapter of :class:`trimtab.serving.ports.ModelRuntime` must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.serving.ports import ModelRuntime

ROWS: NDArray[np.float32] = (np.arange(24) / 8).reshape(12, 2).astype(np.float32)
"""Rows for a model of two columns; their doubled sum is exact in float32."""


def doubled_sum(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the model of this suite answers, shape (n, 1)."""
    total: NDArray[np.float32] = 2 * rows.sum(axis=1, keepdims=True)
    return total


def _row(number: int) -> NDArray[np.float32]:
    return (ROWS[number % 12 : number % 12 + 1] + number).astype(np.float32)


class ModelRuntimeConformance:
    """Fill in ``make``, and ``release`` where something is left of a runtime that was closed."""

    def make(self, place: Path) -> ModelRuntime:
        """A runtime of a model with two columns and one output, twice their sum."""
        raise NotImplementedError

    def release(self, runtime: ModelRuntime) -> None:
        """End its use; by default it is closed."""
        runtime.close()

    @pytest.mark.parametrize("count", [1, 2, 12])
    def test_any_number_of_rows_is_answered(self, tmp_path: Path, count: int) -> None:
        runtime = self.make(tmp_path)
        outputs = runtime.run(ROWS[:count])
        assert (outputs.shape, outputs.dtype) == ((count, 1), np.dtype(np.float32))
        assert np.array_equal(outputs, doubled_sum(ROWS[:count]))
        self.release(runtime)

    def test_the_same_rows_give_the_same_outputs_alone_and_together(self, tmp_path: Path) -> None:
        runtime = self.make(tmp_path)
        given = ROWS.copy()
        together = runtime.run(given)
        assert np.array_equal(runtime.run(given), together)
        assert np.array_equal(np.concatenate([runtime.run(ROWS[n : n + 1]) for n in range(len(ROWS))]), together)
        assert np.array_equal(given, ROWS), "the rows given were changed"
        self.release(runtime)

    def test_several_threads_may_ask_at_once(self, tmp_path: Path) -> None:
        runtime = self.make(tmp_path)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: runtime.run(_row(n)), range(48)))
        assert [one.tolist() for one in found] == [doubled_sum(_row(n)).tolist() for n in range(48)]
        self.release(runtime)

    def test_rows_that_do_not_fit_are_refused_and_the_next_are_answered(self, tmp_path: Path) -> None:
        runtime = self.make(tmp_path)
        with pytest.raises(InputError):
            runtime.run(np.zeros((2, 3), np.float32))
        assert np.array_equal(runtime.run(ROWS), doubled_sum(ROWS))
        self.release(runtime)

    def test_it_says_what_it_runs_on_and_whether_it_may_wait(self, tmp_path: Path) -> None:
        runtime = self.make(tmp_path)
        runtime.run(ROWS[:1])
        assert isinstance(runtime.note, str)
        assert runtime.note == runtime.note.strip() != ""
        assert isinstance(runtime.blocking, bool)
        assert runtime.trouble == ""
        self.release(runtime)
