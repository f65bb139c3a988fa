"""A user's own code before and after a model: one definition, for training, judging and serving alike.

What is fitted is what ``preprocess`` makes of the features, and what is judged is what ``postprocess`` makes of the
model's outputs. Rows are served in batches of any size, so both must say the same of a row whichever are beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ParityError

Values = NDArray[np.float32]
Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Stages:
    """What runs before and after a model; None where there is nothing.

    ``preprocess`` and ``postprocess`` are the names of the modules that the two come from, as a version says them.

    Examples
    --------
    >>> stages = Stages(before=lambda values: values * 2, after=lambda outputs: outputs + 1)
    >>> stages.around(lambda values: values)(np.ones((1, 1), np.float32)).tolist()
    [3.0]
    """

    before: Transform | None = None
    after: Transform | None = None
    preprocess: str = ""
    postprocess: str = ""

    @property
    def named(self) -> dict[str, str]:
        """The names of the modules that there are."""
        both = {"preprocess": self.preprocess, "postprocess": self.postprocess}
        return {stage: name for stage, name in both.items() if name}

    def __bool__(self) -> bool:
        return self.before is not None or self.after is not None

    def around(self, run: Callable[[Values], Values]) -> Callable[[Values], NDArray[np.float64]]:
        """What is served for features: float32 (n, features) to float64 (n,) or (n, k); ``run`` gives (n, k)."""
        return lambda values: finished(self.after, run(prepared(self.before, values)))


def prepared(before: Transform | None, values: Values) -> Values:
    """What the model is given for features, float32."""
    return values if before is None else np.ascontiguousarray(before(values), dtype=np.float32)


def finished(after: Transform | None, outputs: Values) -> NDArray[np.float64]:
    """What is answered for the outputs of the model, plain float64; shape (n,) for one number, else (n, k).

    Raises
    ------
    ParityError
        When they are not one row per request.
    """
    found = (outputs if after is None else np.asarray(after(outputs))).astype(np.float64)
    shape = found.shape
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] == 0):
        raise ParityError("the outputs are no matrix of rows", got=str(shape), hint="see the postprocess module")
    return found.reshape(-1) if len(shape) == 2 and shape[1] == 1 else found
