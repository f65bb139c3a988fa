"""Where the trees of scikit-learn send missing values: skl2onnx sends all of them to the right."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = float(np.finfo(np.float32).max)
_SHAPE = ("nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")


def keep_missing(graph: Any, estimator: Any) -> None:
    """Write into the trees of a graph what those of the estimator do with NaN.

    A tree is known by its questions and branches; of several that are alike in these the one counts whose thresholds
    are nearest, and of those the next one in their order: shallow trees often ask the same, and then differ only in
    where they send what is missing.
    """
    known: dict[bytes, list[Any]] = defaultdict(list)
    for tree in _trees(estimator, set()):
        if hasattr(tree, "missing_go_to_left"):
            inner = tree.children_left >= 0
            parts = (tree.feature, tree.children_left, tree.children_right)
            known[_shape(inner, [np.where(inner, part, 0) for part in parts])].append(tree)
    if not known:
        return
    used: Counter[int] = Counter()
    for node in graph.node:
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            _write({attribute.name: attribute for attribute in node.attribute}, known, used)


def _write(attributes: Mapping[str, Any], known: Mapping[bytes, list[Any]], used: Counter[int]) -> None:
    trees = np.array(attributes["nodes_treeids"].ints)
    ids = np.array(attributes["nodes_nodeids"].ints)
    inner = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"].strings])
    parts = [np.where(inner, attributes[name].ints, 0) for name in _SHAPE]
    values = np.array(attributes["nodes_values"].floats)
    written = attributes["nodes_missing_value_tracks_true"].ints
    for number in np.unique(trees):
        at = np.flatnonzero(trees == number)
        at = at[np.argsort(ids[at], kind="stable")]
        alike = known.get(_shape(inner[at], [part[at] for part in parts]), [])
        if not alike:
            continue
        thresholds = _finite(values[at], inner[at])
        far = [float(np.abs(_finite(one.threshold, one.children_left >= 0) - thresholds).sum()) for one in alike]
        tree = alike[min(range(len(alike)), key=lambda place: (far[place], used[id(alike[place])], place))]
        used[id(tree)] += 1
        for place, left in zip(at.tolist(), (tree.missing_go_to_left * inner[at]).tolist(), strict=True):
            written[place] = int(left)


def _shape(inner: NDArray[np.bool_], parts: list[NDArray[Any]]) -> bytes:
    return np.stack([inner, *parts]).astype(np.int64).tobytes()


def _finite(thresholds: NDArray[np.float64], inner: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Infinite ones, which only ask whether a value is missing, as numbers that can be compared."""
    return np.where(inner, np.clip(thresholds, -_LARGE, _LARGE), 0.0)


def _trees(found: Any, seen: set[int]) -> Iterator[Any]:
    """The fitted trees in an estimator, however deep."""
    if id(found) in seen:
        return
    seen.add(id(found))
    if isinstance(found, Mapping):
        inside = list(found.values())
    elif isinstance(found, list | tuple):
        inside = list(found)
    elif isinstance(found, np.ndarray) and found.dtype == object:
        inside = found.ravel().tolist()
    elif type(found).__module__.startswith("sklearn."):
        if hasattr(found, "tree_"):
            yield found.tree_
        inside = list(vars(found).values()) if hasattr(found, "__dict__") else []
    else:
        return
    for one in inside:
        yield from _trees(one, seen)
