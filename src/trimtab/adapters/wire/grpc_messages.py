"""The messages of the Open Inference Protocol over gRPC, made when first needed from the table below.

Generated code would have to be made by the very version of protobuf that runs it, or an older one; descriptors fit any.
Names and numbers of the fields are those of the published ``open_inference_grpc.proto``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from trimtab.errors import MissingExtra

SERVICE = "inference.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
"""Each takes a ``<method>Request`` and gives a ``<method>Response``."""

TABLE = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready 1",
    "ModelReadyRequest": "string name 1, string version 2",
    "ModelReadyResponse": "bool ready 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name 1, string version 2, string* extensions 3",
    "ModelMetadataRequest": "string name 1, string version 2",
    "ModelMetadataResponse": "string name 1, string* versions 2, string platform 3, TensorMetadata* inputs 4, "
    "TensorMetadata* outputs 5",
    "ModelMetadataResponse.TensorMetadata": "string name 1, string datatype 2, int64* shape 3",
    "InferParameter": "bool ?bool_param 1, int64 ?int64_param 2, string ?string_param 3, double ?double_param 4, "
    "uint64 ?uint64_param 5",
    "InferTensorContents": "bool* bool_contents 1, int32* int_contents 2, int64* int64_contents 3, "
    "uint32* uint_contents 4, uint64* uint64_contents 5, float* fp32_contents 6, double* fp64_contents 7, "
    "bytes* bytes_contents 8",
    "ModelInferRequest": "string model_name 1, string model_version 2, string id 3, InferParameter% parameters 4, "
    "InferInputTensor* inputs 5, InferRequestedOutputTensor* outputs 6, bytes* raw_input_contents 7",
    "ModelInferRequest.InferInputTensor": "string name 1, string datatype 2, int64* shape 3, "
    "InferParameter% parameters 4, InferTensorContents contents 5",
    "ModelInferRequest.InferRequestedOutputTensor": "string name 1, InferParameter% parameters 2",
    "ModelInferResponse": "string model_name 1, string model_version 2, string id 3, InferParameter% parameters 4, "
    "InferOutputTensor* outputs 5, bytes* raw_output_contents 6",
    "ModelInferResponse.InferOutputTensor": "string name 1, string datatype 2, int64* shape 3, "
    "InferParameter% parameters 4, InferTensorContents contents 5",
}
"""Fields by message: type, name, number. ``*`` repeats, ``%`` maps from a string, ``?`` is one of a choice."""

_CHOICE = "parameter_choice"


class Protocol(NamedTuple):
    """The message classes, and what protobuf raises for bytes that are no message."""

    messages: dict[str, Any]
    """By name, a nested one as ``Outer.Inner``."""
    undecodable: type[Exception]


@cache
def protocol() -> Protocol:
    """The message classes; made once.

    They live in a descriptor pool of their own, so that another library may bring its own form of the same protocol.

    Raises
    ------
    MissingExtra
        Without protobuf.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra("protobuf is not installed", got=str(error), hint="pip install 'trimtab[grpc]'") from None
    file = descriptor_pb2.FileDescriptorProto(name="trimtab/open_inference.proto", package="inference", syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in TABLE.items():
        outer, _, inner = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add(made[name], name, field)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in TABLE}
    return Protocol(found, DecodeError)


def _add(message: Any, owner: str, text: str) -> None:
    """Add one field to a descriptor."""
    kind, name, number = text.split()
    field = message.field.add(name=name.lstrip("?"), number=int(number), label=3 if kind[-1] in "*%" else 1)
    if name[0] == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name=_CHOICE)
        field.oneof_index = 0
    if kind[-1] == "%":
        entry = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
        mapped = message.nested_type.add(name=entry)
        mapped.options.map_entry = True
        _add(mapped, f"{owner}.{entry}", "string key 1")
        _add(mapped, f"{owner}.{entry}", f"{kind[:-1]} value 2")
        _point(field, f"{owner}.{entry}")
    elif (plain := kind.rstrip("*")).islower():
        field.type = field.Type.Value(f"TYPE_{plain.upper()}")
    else:
        _point(field, f"{owner}.{plain}" if f"{owner}.{plain}" in TABLE else plain)


def _point(field: Any, name: str) -> None:
    field.type = field.TYPE_MESSAGE
    field.type_name = f".inference.{name}"
