import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.adapters.wire.grpc_messages import protocol
from trimtab.adapters.wire.grpc_tensors import decode_message, encode_message
from trimtab.errors import InputError, SchemaError
from trimtab.registry.manifest import Tensor
from trimtab.serving.tensors import DATATYPES, TensorAnswer

INPUTS = (Tensor("x", "float32", (-1, 2)), Tensor("y", "float32", (-1,)))
REQUEST = protocol().messages["ModelInferRequest"]
CONTENTS = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1),
    "int64_contents": st.integers(-(2**63), 2**63 - 1),
    "uint_contents": st.integers(0, 2**32 - 1),
    "uint64_contents": st.integers(0, 2**64 - 1),
    "fp32_contents": st.floats(width=32),
    "fp64_contents": st.floats(),
    "bytes_contents": st.binary(max_size=3),
}


def decode(message, *, inputs=INPUTS):
    return decode_message(message, inputs=inputs, outputs=[], max_rows=3)


@st.composite
def messages(draw):
    made = REQUEST(model_name="m")
    for name in draw(st.lists(st.sampled_from(["x", "y"]), max_size=3)):
        one = made.inputs.add(name=name, datatype=draw(st.sampled_from([*DATATYPES, "BYTES", ""])))
        one.shape.extend(draw(st.lists(st.integers(-1, 3), max_size=3) | st.just([2, 2]) | st.just([2])))
        for field in draw(st.lists(st.sampled_from(sorted(CONTENTS)), max_size=2)):
            getattr(one.contents, field).extend(draw(st.lists(CONTENTS[field], max_size=4)))
    made.raw_input_contents.extend(draw(st.lists(st.binary(max_size=20), max_size=3)))
    return made


@settings(max_examples=300, deadline=None)
@given(messages())
def test_any_message_gives_a_finite_matrix_or_an_input_error(message):
    try:
        asked = decode(message)
    except InputError:
        return
    assert asked.values.shape[1] == 3
    assert not np.isinf(asked.values).any()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_that_is_refused_or_no_message(data):
    try:
        message = REQUEST.FromString(data)
    except protocol().undecodable:
        return
    with pytest.raises(InputError):
        decode(message)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_every_datatype_goes_and_comes(datatype, raw):
    dtype = DATATYPES[datatype]
    values = np.array([[1, 0], [0, 1]], np.float64)
    answer = TensorAnswer("m", "v", "r", values, [Tensor("x", dtype, (-1, 2))])
    said = encode_message(answer, raw=raw)
    message = REQUEST(model_name="m", raw_input_contents=said.raw_output_contents)
    (output,) = said.outputs
    sent = message.inputs.add(name="x", datatype=output.datatype, shape=output.shape)
    if said.raw_output_contents:
        assert raw or datatype == "FP16"
    else:
        sent.contents.CopyFrom(output.contents)
    assert decode(message, inputs=[Tensor("x", dtype, (-1, 2))]).values.tolist() == values.tolist()


def test_an_id_with_a_nul_is_refused():
    with pytest.raises(SchemaError, match="NUL"):
        decode(REQUEST(model_name="m", id="a\0"))


def test_a_small_integer_out_of_its_range_is_refused():
    for value in (-129, 128):
        message = REQUEST(model_name="m")
        sent = message.inputs.add(name="x", datatype="INT8", shape=[1, 2])
        sent.contents.int_contents.extend([value, 0])
        with pytest.raises(SchemaError, match="past the range of INT8"):
            decode(message, inputs=INPUTS[:1])


@pytest.mark.parametrize("raw", [True, False])
def test_a_number_past_float16_is_refused_where_the_model_takes_float16(raw):
    half = [Tensor("x", "float16", (-1, 2))]
    for value, fits in ((65504, True), (-70000, False)):
        message = REQUEST(model_name="m")
        sent = message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        if raw:
            message.raw_input_contents.append(np.array([value, 0], "<f4").tobytes())
        else:
            sent.contents.fp32_contents.extend([value, 0])
        if fits:
            assert decode(message, inputs=half).values.tolist() == [[value, 0]]
        else:
            with pytest.raises(SchemaError, match="past the range of float16"):
                decode(message, inputs=half)


def test_an_output_that_is_asked_for_often_is_given_once():
    message = REQUEST(model_name="m", raw_input_contents=[np.zeros(2, "<f4").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    for _ in range(3):
        message.outputs.add(name="p")
    outputs = [Tensor("p", "float32", (-1, 1))]
    found = decode_message(message, inputs=INPUTS[:1], outputs=outputs, max_rows=3)
    assert (found.outputs, found.binary) == (("p",), ("p",))
