"""A version as a model repository of NVIDIA Triton: which directories, and what each ``config.pbtxt`` says.

A version without code around its model is one model, with the tensors of its file. One with such code is an ensemble:
the code before, the model, the code after; it takes and answers the tensors of the version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from trimtab.errors import InputError
from trimtab.registry.bundle import Bundle, module_path
from trimtab.registry.manifest import Tensor
from trimtab.serving.profile import ModelProfile

TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(float16)": "TYPE_FP16",
    "tensor(bfloat16)": "TYPE_BF16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
    **{f"tensor(int{size})": f"TYPE_INT{size}" for size in (8, 16, 32, 64)},
    **{f"tensor(uint{size})": f"TYPE_UINT{size}" for size in (8, 16, 32, 64)},
}
"""Triton's names of the types of an ONNX file."""
FLOAT = "tensor(float)"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_OPEN = -1
_CODE = "model.py"


@dataclass(frozen=True)
class FileTensor:
    """An input or output as an ONNX file declares it; None for an axis that it leaves open."""

    name: str
    type: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxFile:
    """What an ONNX file takes and gives."""

    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    row_by_row: bool = False
    """An answer would depend on the other rows of a call: Triton is told to take one at a time."""


@dataclass(frozen=True)
class Repository:
    """A model repository.

    Parameters
    ----------
    models
        The backend of each model by its name; the first is the one to ask.
    files
        Content by path.
    max_batch
        Most rows of a request and of a batch.
    """

    models: Mapping[str, str]
    files: Mapping[str, bytes]
    max_batch: int


@dataclass(frozen=True)
class _Port:
    """A tensor of a Triton model: dims without the rows; none of them for one number a row."""

    name: str
    type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    model: str
    inputs: Mapping[str, str]
    """The tensor of the ensemble by the model's own input."""
    outputs: Mapping[str, str]


def check_exportable(bundle: Bundle, *, sent: bool = False) -> None:
    """Make sure that everything a version needs can go to Triton.

    Parameters
    ----------
    sent
        Its plan does no more than hand over the inputs of the request.

    Raises
    ------
    InputError
        When it cannot.
    """
    manifest, plan = bundle.manifest, bundle.plan
    if manifest.runtime != "onnx":
        raise InputError(
            "a model that runs in a process of its own cannot be exported to Triton",
            got=f"a {manifest.runtime} model",
            hint="only ONNX models go there: export it to ONNX and register that",
        )
    if sources := plan.sources():
        raise InputError(
            "a version that reads features from the online store cannot be exported to Triton",
            got=f"features of {', '.join(sources)}",
            hint="Triton has no online store: serve it with `trimtab up`, or register a model of the request's inputs",
        )
    if plan.parts and not sent:
        raise InputError(
            "a version that computes features on request cannot be exported to Triton",
            got=", ".join(plan.names())[:200],
            hint="register a model that takes these columns, with what computes them as --preprocess",
        )
    if _NAME.fullmatch(manifest.model) is None:
        raise InputError(
            "not a name of a model", got=repr(manifest.model), hint="letters, digits, _ . - and at most 64"
        )


def repository(bundle: Bundle, file: OnnxFile, profile: ModelProfile, *, number: int, code: bytes) -> Repository:
    """The model repository of a version that :func:`check_exportable` lets pass.

    Parameters
    ----------
    file
        What its ONNX file declares.
    profile
        How it is served here: rows of a batch, how long one waits, threads.
    number
        Its number in the registry, under which Triton knows it too.
    code
        Source of the stages, :mod:`trimtab.adapters.models.triton_stage`.

    Raises
    ------
    InputError
        When a tensor of the file has a type or a shape that Triton cannot batch.
    """
    manifest = bundle.manifest
    if odd := [tensor for tensor in file.outputs if not tensor.type.startswith("tensor(")]:
        # Triton loads no file with one, wanted or not.
        raise InputError(
            f"output {odd[0].name!r} is no tensor, which Triton does not load",
            got=odd[0].type,
            hint="export classifiers with the option zipmap=False",
        )
    if file.row_by_row:
        profile = msgspec.structs.replace(profile, max_batch=1, max_wait_ms=0.0)
    if manifest.preprocess or manifest.postprocess:
        return _Ensemble(bundle, file, profile, number, code).repository()
    name = manifest.model
    # A model of columns is registered by its columns, not by the names of its tensors.
    by_name = not (bundle.plan.requests.inputs or bundle.plan.parts)
    wanted = {tensor.name for tensor in manifest.outputs}
    outputs = [_port(tensor) for tensor in file.outputs if not by_name or tensor.name in wanted]
    config = _onnx_config(name, _filled(file.inputs, manifest.inputs, by_name=by_name), outputs, profile)
    files = {f"{name}/config.pbtxt": _of(bundle, config), f"{name}/{number}/model.onnx": bundle.model}
    return Repository({name: "onnxruntime"}, files, profile.max_batch)


@dataclass(frozen=True)
class _Ensemble:
    bundle: Bundle
    file: OnnxFile
    profile: ModelProfile
    number: int
    code: bytes

    def repository(self) -> Repository:
        manifest, name = self.bundle.manifest, self.bundle.manifest.model
        taken, given = manifest.inputs, manifest.outputs
        said = next((tensor for tensor in reversed(self.file.outputs) if tensor.type == FLOAT), None)
        if len(self.file.inputs) != 1 or len(taken) != 1 or len(given) != 1 or said is None:
            raise InputError("a model with code around it takes and gives one float32 matrix", got=name)
        before, after = _port(self.file.inputs[0]), _port(said)
        outer_in = _Port(taken[0].name, "TYPE_FP32", taken[0].shape[1:])
        outer_out = _Port(given[0].name, "TYPE_FP32", given[0].shape[1:])
        main = f"{name}_model"
        files = {
            f"{main}/config.pbtxt": _of(self.bundle, _onnx_config(main, [before], [after], self.profile)),
            f"{main}/{self.number}/model.onnx": self.bundle.model,
        }
        models, steps = {name: "ensemble"}, []
        entering, leaving = outer_in.name, outer_out.name
        if manifest.preprocess:
            stage, entering = f"{name}_preprocessing", "prepared"
            models[stage] = "python"
            steps.append(_Step(stage, {outer_in.name: outer_in.name}, {"prepared": entering}))
            files |= self._stage(stage, "preprocess", outer_in, _Port("prepared", "TYPE_FP32", before.dims))
        models[main] = "onnxruntime"
        if manifest.postprocess or (after.dims or (1,)) != outer_out.dims:
            leaving = "raw"
        steps.append(_Step(main, {before.name: entering}, {after.name: leaving}))
        if leaving == "raw":
            stage = f"{name}_postprocessing"
            models[stage] = "python"
            steps.append(_Step(stage, {"raw": "raw"}, {outer_out.name: outer_out.name}))
            files |= self._stage(stage, "postprocess", _Port("raw", "TYPE_FP32", after.dims or (1,)), outer_out)
        config = [*_head(name, [outer_in], [outer_out], self.profile), 'platform: "ensemble"', *_scheduling(steps)]
        # Nothing lies in the directory of an ensemble's version, and neither git nor a bucket keeps an empty one.
        files |= {f"{name}/config.pbtxt": _of(self.bundle, config), f"{name}/{self.number}/.keep": b""}
        return Repository(models, files, self.profile.max_batch)

    def _stage(self, name: str, stage: str, taken: _Port, given: _Port) -> dict[str, bytes]:
        manifest = self.bundle.manifest
        module = manifest.preprocess if stage == "preprocess" else manifest.postprocess
        parameters = {"stage": stage} | ({"code": f"{stage}.py"} if module else {})
        if stage == "postprocess":
            parameters["outputs"] = str(given.dims[0])
        config = [
            *_head(name, [taken], [given], self.profile),
            'backend: "python"',
            "dynamic_batching { }",
            "instance_group [ { kind: KIND_CPU count: 1 } ]",
            *_parameters(parameters),
        ]
        folder = f"{name}/{self.number}"
        files = {f"{name}/config.pbtxt": _of(self.bundle, config), f"{folder}/{_CODE}": self.code}
        return files | ({f"{folder}/{stage}.py": self.bundle.file(module_path(module))} if module else {})


# -- tensors


def _filled(tensors: Iterable[FileTensor], known: Sequence[Tensor], *, by_name: bool) -> list[_Port]:
    """Inputs of a file; what it leaves open is as the version was registered.

    Not so its outputs: Triton wants these exactly as the file declares them.
    """
    found = []
    for place, tensor in enumerate(tensors):
        said = next((one for one in known if one.name == tensor.name), None) if by_name else known[place]
        port = _port(tensor)
        if said is not None and len(said.shape) == len(tensor.shape):
            sizes = zip(port.dims, said.shape[1:], strict=True)
            port = _Port(port.name, port.type, tuple(there if dim == _OPEN else dim for dim, there in sizes))
        found.append(port)
    return found


def _port(tensor: FileTensor) -> _Port:
    if tensor.type not in TYPES:
        raise InputError(
            f"tensor {tensor.name!r} is of a type that Triton does not serve", got=tensor.type, hint=", ".join(TYPES)
        )
    if not tensor.shape or tensor.shape[0] is not None:
        raise InputError(
            f"tensor {tensor.name!r} has no open first axis, so Triton cannot batch it",
            got=str(list(tensor.shape)),
            hint="export it with a dynamic batch axis, and with the shapes of its outputs",
        )
    return _Port(tensor.name, TYPES[tensor.type], tuple(_OPEN if size is None else size for size in tensor.shape[1:]))


# -- the protobuf text format


def quoted(text: str) -> str:
    r"""Text as a string of the protobuf text format; nothing in it can end the string.

    Examples
    --------
    >>> print(quoted('a" backend: "b\n'))
    "a\" backend: \"b\012"
    """
    plain = {ord('"'): r"\"", ord("\\"): r"\\"}
    data = text.encode("utf-8", "surrogateescape")
    return '"' + "".join(plain.get(one, chr(one) if 32 <= one < 127 else f"\\{one:03o}") for one in data) + '"'


def _of(bundle: Bundle, lines: Iterable[str]) -> bytes:
    said = [*lines, *_parameters({"trimtab_version": bundle.version})]
    return ("\n".join(said) + "\n").encode("ascii")


def _head(name: str, inputs: Sequence[_Port], outputs: Sequence[_Port], profile: ModelProfile) -> list[str]:
    ports = [
        f"{kind} [ {', '.join(map(_port_text, found))} ]" for kind, found in (("input", inputs), ("output", outputs))
    ]
    return [f"name: {quoted(name)}", f"max_batch_size: {profile.max_batch}", *ports]


def _port_text(port: _Port) -> str:
    # One number a row has no dims of its own, which Triton says as a reshape.
    dims, more = (port.dims, "") if port.dims else ((1,), " reshape { shape: [ ] }")
    return f"{{ name: {quoted(port.name)} data_type: {port.type} dims: [ {', '.join(map(str, dims))} ]{more} }}"


def _onnx_config(name: str, inputs: Sequence[_Port], outputs: Sequence[_Port], profile: ModelProfile) -> list[str]:
    delay = round(profile.max_wait_ms * 1000)
    return [
        *_head(name, inputs, outputs, profile),
        'backend: "onnxruntime"',
        f"dynamic_batching {{ {f'max_queue_delay_microseconds: {delay} ' if delay else ''}}}",
        *_parameters({"intra_op_thread_count": str(profile.threads)}),
    ]


def _parameters(values: Mapping[str, str]) -> list[str]:
    return [
        f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}"
        for key, value in values.items()
    ]


def _scheduling(steps: Iterable[_Step]) -> list[str]:
    def mapped(kind: str, names: Mapping[str, str]) -> str:
        return " ".join(f"{kind} {{ key: {quoted(key)} value: {quoted(value)} }}" for key, value in names.items())

    found = [
        f"  step {{ model_name: {quoted(step.model)} model_version: -1 "
        f"{mapped('input_map', step.inputs)} {mapped('output_map', step.outputs)} }}"
        for step in steps
    ]
    return ["ensemble_scheduling {", *found, "}"]
