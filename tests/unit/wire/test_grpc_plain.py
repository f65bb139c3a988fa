"""The short way of a message says what the long way says, or leaves the message to it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.wire.test_grpc_tensors import CONTENTS

from trimtab.adapters.wire.grpc_messages import protocol
from trimtab.adapters.wire.grpc_plain import PlainMessages, plain_row
from trimtab.adapters.wire.grpc_tensors import decode_message, encode_message
from trimtab.errors import Unavailable
from trimtab.registry.manifest import Tensor
from trimtab.serving.plain import PlainReader
from trimtab.serving.tensors import DATATYPES, TensorAnswer

INPUT, OUTPUT = Tensor("x", "float32", (-1, 2)), Tensor("p", "float32", (-1, 1))
REQUEST, RESPONSE = (protocol().messages[f"ModelInfer{kind}"] for kind in ("Request", "Response"))
READER = PlainReader(INPUT, output="p")
ROW = np.array([1.5, np.nan], "<f4")


def message(*, raw=True, row=ROW, **more):
    made = REQUEST(model_name="m", **more)
    one = made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    if raw:
        made.raw_input_contents.append(row.tobytes())
    else:
        one.contents.fp32_contents.extend(row.tolist())
    return made


def same(made, row):
    asked = decode_message(made, inputs=[INPUT], outputs=[OUTPUT], max_rows=3)
    assert asked.values.astype("<f4").tobytes() == row
    assert asked.outputs in ((), ("p",))


@pytest.mark.parametrize("raw", [True, False])
def test_a_row_goes_the_short_way(raw):
    made = message(raw=raw, id="r")
    assert plain_row(made, READER) == ROW.tobytes()
    made.outputs.add(name="p")
    assert plain_row(made, READER) == ROW.tobytes()
    same(made, ROW.tobytes())


def with_infinity(made):
    made.raw_input_contents[0] = np.array([1, np.inf], "<f4").tobytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.inputs.add(name="x"),
        lambda made: made.ClearField("inputs"),
        lambda made: made.inputs[0].shape.__setitem__(0, 2),
        lambda made: made.inputs[0].shape.append(1),
        lambda made: setattr(made.inputs[0], "name", "y"),
        lambda made: setattr(made.inputs[0], "datatype", "FP64"),
        lambda made: made.inputs[0].parameters["shared_memory_region"].__setattr__("string_param", "a"),
        lambda made: made.inputs[0].contents.fp32_contents.append(1),
        lambda made: made.raw_input_contents.append(b""),
        lambda made: made.raw_input_contents.__setitem__(0, b"1234567"),
        lambda made: made.ClearField("raw_input_contents"),
        with_infinity,
        lambda made: made.outputs.add(name="q"),
        lambda made: made.outputs.add(name="p").parameters["classification"].__setattr__("int64_param", 1),
        lambda made: setattr(made, "id", "i" * 300),
        lambda made: setattr(made, "id", "i\0"),
    ],
)
def test_anything_else_goes_the_long_way(change):
    made = message()
    change(made)
    assert plain_row(made, READER) is None


@st.composite
def messages(draw):
    made = REQUEST(model_name="m", id=draw(st.text(max_size=2)))
    for name in draw(st.lists(st.sampled_from("xy"), min_size=1, max_size=2)):
        one = made.inputs.add(name=name, datatype=draw(st.sampled_from(["FP32", "FP32", *DATATYPES])))
        one.shape.extend(draw(st.sampled_from([[1, 2], [1, 2], [2, 1], [1]])))
        for field in draw(st.lists(st.sampled_from(["fp32_contents", *CONTENTS]), max_size=2)):
            getattr(one.contents, field).extend(draw(st.lists(CONTENTS[field], min_size=2, max_size=2)))
    made.raw_input_contents.extend(draw(st.lists(st.binary(min_size=8, max_size=8), max_size=2)))
    return made


@settings(max_examples=300, deadline=None)
@given(messages())
def test_where_the_short_way_is_taken_the_long_way_agrees(made):
    row = plain_row(made, READER)
    if row is not None:
        same(made, row)


def live_with(outputs):
    return SimpleNamespace(deployed={"a": SimpleNamespace(manifest=SimpleNamespace(outputs=outputs))})


NUMBERS = st.floats(width=64) | st.floats(width=32)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(NUMBERS, min_size=1, max_size=3),
    st.text(max_size=3) | st.text("é", min_size=60, max_size=120),
    st.booleans(),
    st.sampled_from(["ok", "error:not_finite"]),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_are_written_as_the_long_way_writes_them(dtype, values, name, raw, status):
    outputs = [Tensor("p", dtype, (-1, len(values)))]
    live = live_with(outputs)
    value = values[0] if len(values) == 1 else values
    short = PlainMessages()
    answer = TensorAnswer("m", "a", name, np.array([values]), outputs, status="" if status == "ok" else status)
    long = encode_message(answer, raw=raw).SerializeToString()
    for _ in range(2):
        assert short.write(live, "m", "a", id=name, value=value, raw=raw, status=status) == long


def test_a_version_with_other_outputs_is_no_plain_answer():
    with pytest.raises(Unavailable, match="other outputs"):
        PlainMessages().write(live_with([OUTPUT, OUTPUT]), "m", "a", id="", value=1.0, raw=True)
