"""Int8 variants of a net: made, compared with their parent, and measured. Trees have no weights to make smaller."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.onnx_runtime import CPU, first_line, open_session, runtime_errors
from trimtab.adapters.models.onnx_tensors import OnnxTensors, open_model
from trimtab.core.ports import Blobs
from trimtab.errors import InputError, MissingExtra
from trimtab.registry.bundle import CARD, Bundle, load, pack
from trimtab.registry.manifest import ExportParity, Manifest
from trimtab.serving.transforms import stages_of
from trimtab.stats.metrics import METRICS, evaluate
from trimtab.training.export import TOLERANCE
from trimtab.training.stages import prepared

Mode = Literal["dynamic", "static"]
Timer = Callable[[], int]
"""Nanoseconds of a clock that does not go backwards."""
Answer = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""What a version answers for features, through its stages."""
BATCH = 256
CALIBRATION_ROWS = 1000
_HEAVY = ("MatMul", "Gemm", "Conv")
_WARM, _ONE_ROW, _BATCHES = 50, 1000, 20


@dataclass(frozen=True, slots=True)
class Measured:
    """One version on given rows; latencies on this machine, one thread."""

    version: str
    metrics: dict[str, float]
    """Of the task; empty without labels, or for a model of tensors."""
    one_row_p50_ms: float
    one_row_p99_ms: float
    batch_p50_ms: float
    """Of :data:`BATCH` rows at once, or as many as there are."""
    model_bytes: int
    size_bytes: int
    """Of the whole bundle."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A variant beside its parent, on the same rows."""

    before: Measured
    after: Measured
    difference: ExportParity
    """How far the variant's answers are from those of the parent."""


def quantise(
    blobs: Blobs,
    version: str,
    *,
    mode: Mode,
    rows: NDArray[np.float32],
    timer: Timer,
    labels: NDArray[np.float64] | None = None,
    calibration: NDArray[np.float32] | None = None,
) -> Quantised:
    """Make an int8 variant of a version, pack it beside the parent, and measure both.

    Parameters
    ----------
    mode
        ``dynamic``: weights are int8, the range of each activation is taken from the row that is answered; each row
        is run by itself, so that its answer depends on no other, and a batch takes as long as its rows one by one.
        ``static``: the ranges are fixed beforehand, from ``calibration``; rows are run together.
    rows, labels
        Rows to compare and time on, shape (n, features), neither trained nor calibrated on; and their labels. As the
        features are: the version's own stages run before and after the model.
    calibration
        Real rows for ``static``, at most :data:`CALIBRATION_ROWS` of which are used.

    Raises
    ------
    InputError
        When the model has no weights that could be int8, is a variant already, or rows are missing or of another
        width; when calibration rows hold missing values that reach a multiplication.
    MissingExtra
        When onnx is not installed.
    """
    bundle = load(blobs, version)
    if bundle.manifest.variant:
        raise InputError(
            "this version is a variant already",
            got=bundle.manifest.variant,
            hint=f"start from {bundle.manifest.parent}",
        )
    if not len(rows):
        raise InputError("rows are needed to measure the variant on", hint="give some that it was not trained on")
    if mode == "static" and (calibration is None or not len(calibration)):
        raise InputError("static quantisation needs calibration rows", hint="give real ones, or use dynamic")
    stages, rows = stages_of(bundle), np.ascontiguousarray(rows, np.float32)
    if calibration is not None:
        given = np.ascontiguousarray(calibration[:CALIBRATION_ROWS], np.float32)
        calibration = prepared(stages.before, given)
    data = quantise_onnx(bundle.model, bundle.manifest, mode=mode, calibration=calibration)
    parent, variant = (stages.around(open_model(bundle.manifest, one).run) for one in (bundle.model, data))
    difference = _difference(bundle.manifest, parent(rows), variant(rows))
    manifest = msgspec.structs.replace(
        bundle.manifest, parent=version, variant=f"int8-{mode}", parity=difference, files={}
    )
    path = next(path for path in bundle.files if path.startswith("model."))
    card = bundle.card + _card(version, mode, difference)
    found = pack(blobs, {**bundle.files, path: data, CARD: card.encode()}, manifest=manifest)
    made = load(blobs, found)
    measured = [_measure(one, answer, rows, labels, timer=timer) for one, answer in ((bundle, parent), (made, variant))]
    return Quantised(measured[0], measured[1], difference)


def quantise_onnx(
    data: bytes, manifest: Manifest, *, mode: Mode, calibration: NDArray[np.float32] | None = None
) -> bytes:
    """The ONNX file with int8 weights; raises as :func:`quantise`."""
    try:
        import onnx
        from onnxruntime import quantization as q
    except ImportError as error:
        raise MissingExtra(
            "onnx is needed to quantise a model", got=str(error), hint="pip install 'trimtab[quantise]'"
        ) from None
    model = onnx.load_model_from_string(data)
    _check_weights(model)
    with tempfile.TemporaryDirectory() as place:
        before, after = Path(place) / "before.onnx", Path(place) / "after.onnx"
        before.write_bytes(data)
        root = logging.getLogger()
        quiet, root.disabled = root.disabled, True  # it advises on the root logger
        try:
            if mode == "dynamic":
                q.quantize_dynamic(before, after, weight_type=q.QuantType.QInt8, op_types_to_quantize=list(_HEAVY))
            else:
                assert calibration is not None
                _quantise_static(q, before, after, manifest, calibration[:CALIBRATION_ROWS])
        finally:
            root.disabled = quiet
        made: bytes = onnx.load(after).SerializeToString(deterministic=True)
    return made


def _quantise_static(q: Any, before: Path, after: Path, manifest: Manifest, rows: NDArray[np.float32]) -> None:
    data = before.read_bytes()
    failures: tuple[type[Exception], ...] = (AssertionError, *runtime_errors())
    try:
        if not _all_finite(manifest, data, rows):
            raise _cannot(rows, "a value that the model multiplies is then not finite")
        q.quantize_static(
            before,
            after,
            _reader(q.CalibrationDataReader, manifest, data, rows),
            quant_format=q.QuantFormat.QDQ,
            op_types_to_quantize=list(_HEAVY),
            per_channel=True,
        )
    except InputError:  # a ValueError too
        raise
    except failures as error:
        raise _cannot(rows, f"ONNX Runtime says {first_line(error) or type(error).__name__}") from None


def _all_finite(manifest: Manifest, data: bytes, rows: NDArray[np.float32]) -> bool:
    """Whether everything is finite that will be int8: ONNX Runtime may pass over a NaN and lose part of a range."""
    import onnx

    model = onnx.load_model_from_string(data)
    given = {one.name for one in model.graph.input}
    told = {one.name for one in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    reached = {node.input[0] for node in model.graph.node if node.op_type in _HEAVY}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(reached & made - told))
    session, _ = open_session(model.SerializeToString(), threads=1, providers=CPU)
    names = sorted(reached & (made | told))
    for feed in _feeds(manifest, data, rows):
        values = [*session.run(names, feed), *(feed[name] for name in reached & given)]
        if not all(np.isfinite(one).all() for one in values):
            return False
    return True


def _cannot(rows: NDArray[np.float32], why: str) -> InputError:
    bad = ~np.isfinite(rows).all(axis=1)
    count = f"{int(bad.sum())} of {len(rows)} rows hold NaN or an infinity, the first is row {int(bad.argmax())}"
    return InputError(
        "the model cannot be quantised from these calibration rows",
        got=f"{count if bad.any() else 'rows without a hole'}; {why}",
        hint="leave out rows with missing values, or use dynamic" if bad.any() else "give real rows, or use dynamic",
    )


def _check_weights(model: Any) -> None:
    kinds = {node.op_type for node in model.graph.node}
    if kinds & set(_HEAVY):
        return
    trees = sorted(kind for kind in kinds if kind.startswith("TreeEnsemble"))
    raise InputError(
        "trees cannot be quantised: they compare and add, and have no weights to multiply with"
        if trees
        else "this model has no weights that could be int8",
        got=", ".join(trees or sorted(kinds)),
        hint="make it smaller with fewer trees or leaves, or distil it into a net (docs/distil.md)"
        if trees
        else f"only {', '.join(_HEAVY)} are quantised",
    )


def _feeds(manifest: Manifest, data: bytes, rows: NDArray[np.float32]) -> Iterator[dict[str, NDArray[Any]]]:
    """The rows as the tensors of the model; raises when they are of another width."""
    runtime = open_model(manifest, data)
    runtime.run(rows[:1])
    parts = (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))
    if isinstance(runtime, OnnxTensors):
        return map(runtime.feeds, parts)
    name = runtime.input_name  # type: ignore[attr-defined]
    return ({name: part} for part in parts)


def _reader(kind: type[Any], manifest: Manifest, data: bytes, rows: NDArray[np.float32]) -> Any:
    """What ONNX Runtime calibrates with."""
    feeds = _feeds(manifest, data, rows)

    class Rows(kind):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(feeds, None)

    return Rows()


def _difference(manifest: Manifest, before: NDArray[np.float64], after: NDArray[np.float64]) -> ExportParity:
    """As for an export, but nothing is refused here: a variant is judged by the floors and by the gate."""
    flipped = 0
    if manifest.task == "binary":
        flipped = int(np.sum((before >= 0.5) != (after >= 0.5)))
    elif manifest.task == "multiclass":
        flipped = int(np.sum(before.argmax(axis=1) != after.argmax(axis=1)))
    gaps = np.abs(after - before) / np.maximum(1.0, np.abs(before))
    worst = gaps if gaps.ndim == 1 else gaps.max(axis=1)
    return ExportParity(
        rows=len(before),
        largest_difference=float(worst.max(initial=0.0)),
        share_beyond=float((worst > TOLERANCE).mean()),
        flipped=flipped,
        tolerance=TOLERANCE,
    )


def _measure(
    bundle: Bundle,
    answer: Answer,
    rows: NDArray[np.float32],
    labels: NDArray[np.float64] | None,
    *,
    timer: Timer,
) -> Measured:
    metrics: dict[str, float] = {}
    if labels is not None and bundle.manifest.task in METRICS:
        found = evaluate(bundle.manifest.task, labels, answer(rows))
        metrics = {name: float(value) for name, value in sorted(found.items()) if np.isfinite(value)}
    one = _times(answer, [rows[at : at + 1] for at in range(min(len(rows), 200))], _ONE_ROW, timer)
    many = _times(answer, [rows[:BATCH]], _BATCHES, timer, warm=3)
    return Measured(
        bundle.version,
        metrics,
        one_row_p50_ms=float(np.quantile(one, 0.5)),
        one_row_p99_ms=float(np.quantile(one, 0.99)),
        batch_p50_ms=float(np.quantile(many, 0.5)),
        model_bytes=len(bundle.model),
        size_bytes=bundle.size_bytes,
    )


def _times(
    answer: Answer, blocks: list[NDArray[np.float32]], times: int, timer: Timer, *, warm: int = _WARM
) -> NDArray[np.float64]:
    """Milliseconds of each call, warm."""
    taken = []
    for turn in range(warm + times):
        began = timer()
        answer(blocks[turn % len(blocks)])
        taken.append((timer() - began) / 1e6)
    return np.array(taken[warm:])


def _card(version: str, mode: str, difference: ExportParity) -> str:
    return (
        f"\n## Variant\n\nInt8 ({mode}) of version `{version}`; it was not trained again. On {difference.rows} rows its"
        f" answers differ by at most {difference.largest_difference:.3g}, and {difference.flipped} decisions differ."
        " Everything above was measured on the parent.\n"
    )
