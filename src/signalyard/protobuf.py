"""The messages of the gRPC wires: the Open Inference Protocol's and the router's own. Needs the extra ``grpc``.

Sources: https://github.com/kserve/open-inference-protocol (inference_grpc), with `double_param`, `uint64_param` as Triton has them, and
a tensor's and a model's metadata parameters as MLServer has them. They are put together here instead of being generated, in a
descriptor pool of their own: every client's generated code calls its messages by the same names, and one pool takes them once.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE = "inference.GRPCInferenceService"
"""The Open Inference Protocol's service."""

ROUTER = "signalyard.v1.Router"
"""The router's own: ``Predict`` and ``State``, whose bytes are the JSON of ``POST /v1/predict``, ``GET /v1/state`` and of their answers."""

_INFERENCE = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyRequest": "string name = 1; string version = 2",
    "ModelReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name = 1; string version = 2; repeated string extensions = 3",
    "ModelMetadataRequest": "string name = 1; string version = 2",
    "ModelMetadataResponse": "string name = 1; repeated string versions = 2; string platform = 3;"
    "repeated ModelMetadataResponse.TensorMetadata inputs = 4;"
    "repeated ModelMetadataResponse.TensorMetadata outputs = 5; map InferParameter parameters = 6",
    "ModelMetadataResponse.TensorMetadata": "string name = 1; string datatype = 2; repeated int64 shape = 3;"
    "map InferParameter parameters = 4",
    "InferParameter": "choice bool bool_param = 1; choice int64 int64_param = 2; choice string string_param = 3;"
    "choice double double_param = 4; choice uint64 uint64_param = 5",
    "InferTensorContents": "repeated bool bool_contents = 1; repeated int32 int_contents = 2;"
    "repeated int64 int64_contents = 3; repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5;"
    "repeated float fp32_contents = 6; repeated double fp64_contents = 7; repeated bytes bytes_contents = 8",
    "ModelInferRequest": "string model_name = 1; string model_version = 2; string id = 3;"
    "map InferParameter parameters = 4; repeated ModelInferRequest.InferInputTensor inputs = 5;"
    "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6; repeated bytes raw_input_contents = 7",
    "ModelInferRequest.InferInputTensor": "string name = 1; string datatype = 2; repeated int64 shape = 3;"
    "map InferParameter parameters = 4; InferTensorContents contents = 5",
    "ModelInferRequest.InferRequestedOutputTensor": "string name = 1; map InferParameter parameters = 2",
    "ModelInferResponse": "string model_name = 1; string model_version = 2; string id = 3;"
    "map InferParameter parameters = 4; repeated ModelInferResponse.InferOutputTensor outputs = 5;"
    "repeated bytes raw_output_contents = 6",
    "ModelInferResponse.InferOutputTensor": "string name = 1; string datatype = 2; repeated int64 shape = 3;"
    "map InferParameter parameters = 4; InferTensorContents contents = 5",
}
_INFERENCE_METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_ROUTER = {
    "PredictRequest": "bytes json = 1",
    "PredictReply": "bytes json = 1",
    "StateRequest": "string symbol = 1; string route = 2",
    "StateReply": "bytes json = 1",
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def _file(package: str, messages: dict[str, str]) -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto3"
    )
    made: dict[str, Any] = {}
    for name in sorted(messages, key=lambda name: name.count(".")):
        outer, _, inner = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner or name)
        for field in filter(None, map(str.strip, messages[name].split(";"))):
            _add(package, made[name], f".{package}.{name}", field)
    return file


def _add(package: str, message: Any, path: str, text: str) -> None:
    """One field: [repeated | choice | map] TYPE NAME = NUMBER; a map's keys are text, choices are one of."""
    *how, kind, name, _, number = text.split()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if how in (["repeated"], ["map"]):
        field.label = _Field.LABEL_REPEATED
    if how == ["choice"]:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if how == ["map"]:
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
        value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_MESSAGE)
        value.type_name = f".{package}.{kind}"
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{path}.ParametersEntry"
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"


def _serve(file: Any, service: str, methods: dict[str, tuple[str, str]]) -> None:
    made = file.service.add(name=service.rpartition(".")[2])
    for name, (asked, answered) in methods.items():
        made.method.add(name=name, input_type=f".{file.package}.{asked}", output_type=f".{file.package}.{answered}")


def _files() -> Iterator[Any]:
    inference = _file("inference", _INFERENCE)
    _serve(inference, INFERENCE, {name: (f"{name}Request", f"{name}Response") for name in _INFERENCE_METHODS})
    yield inference
    router = _file("signalyard.v1", _ROUTER)
    _serve(router, ROUTER, {name: (f"{name}Request", f"{name}Reply") for name in ("Predict", "State")})
    yield router


POOL = descriptor_pool.DescriptorPool()
"""What a server's reflection shows of these services."""
for _made in _files():
    POOL.Add(_made)


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


ServerLiveRequest = _class("inference.ServerLiveRequest")
ServerLiveResponse = _class("inference.ServerLiveResponse")
ServerReadyRequest = _class("inference.ServerReadyRequest")
ServerReadyResponse = _class("inference.ServerReadyResponse")
ModelReadyRequest = _class("inference.ModelReadyRequest")
ModelReadyResponse = _class("inference.ModelReadyResponse")
ServerMetadataRequest = _class("inference.ServerMetadataRequest")
ServerMetadataResponse = _class("inference.ServerMetadataResponse")
ModelMetadataRequest = _class("inference.ModelMetadataRequest")
ModelMetadataResponse = _class("inference.ModelMetadataResponse")
ModelInferRequest = _class("inference.ModelInferRequest")
ModelInferResponse = _class("inference.ModelInferResponse")
PredictRequest = _class("signalyard.v1.PredictRequest")
PredictReply = _class("signalyard.v1.PredictReply")
StateRequest = _class("signalyard.v1.StateRequest")
StateReply = _class("signalyard.v1.StateReply")
