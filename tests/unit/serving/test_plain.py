"""The short way says what the long way says, byte for byte, or leaves the request to it."""

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trimtab.errors import SchemaError, TrimtabError
from trimtab.registry.manifest import Tensor
from trimtab.serving.infer import decode_infer, encode_infer
from trimtab.serving.plain import PlainReader, PlainWriter
from trimtab.serving.tensors import TensorAnswer

INPUT, OUTPUT = Tensor("x", "float32", (-1, 2)), Tensor("p", "float32", (-1, 1))
ROW = np.array([1.5, -2.0], "<f4").tobytes()
GIVEN = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}


def body(row=ROW, *, given=GIVEN, **more):
    head = msgspec.json.encode({"inputs": [given]} | more)
    return head + row, len(head)


def reader():
    return PlainReader(INPUT, output="p")


def same(found, sent, length):
    asked = decode_infer(sent, inputs=[INPUT], outputs=[OUTPUT], header_length=length)
    assert found.row == asked.values.astype("<f4").tobytes()
    assert len(asked.values) == 1
    assert (found.id, ("p",) if found.binary else ()) == (asked.id, asked.binary)


ASKED = [
    ({}, False),
    ({"id": "r"}, False),
    ({"parameters": {"binary_data_output": True}}, True),
    ({"parameters": {}}, False),
    ({"outputs": [{"name": "p"}]}, False),
    ({"outputs": [{"name": "p", "parameters": {"binary_data": True}}], "id": "r"}, True),
    ({"outputs": [{"name": "p"}], "parameters": {"binary_data_output": True}}, True),
    (
        {"outputs": [{"name": "p", "parameters": {"binary_data": False}}], "parameters": {"binary_data_output": True}},
        False,
    ),
    ({"outputs": []}, False),
]


@pytest.mark.parametrize(("more", "binary"), ASKED)
def test_a_row_of_bytes_goes_the_short_way_again_and_again(more, binary):
    read = reader()
    for row in (ROW, np.array([np.nan, 3e38], "<f4").tobytes(), ROW):
        sent, length = body(row, **more)
        found = read.read_bytes(sent, length)
        assert (found.row, found.binary) == (row, binary)
        same(found, sent, length)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "y"},
        {"shape": [2, 1]},
        {"shape": [2]},
        {"datatype": "FP64"},
        {"datatype": "INT32"},
        {"datatype": "BYTES"},
        {"data": [1, 2]},
        {"parameters": {"binary_data_size": 4}},
        {"parameters": {}},
        {"parameters": {"binary_data_size": 8, "shared_memory_region": "a"}},
    ],
)
def test_another_tensor_goes_the_long_way(change):
    assert reader().read_bytes(*body(given=GIVEN | change)) is None


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": [{"name": "q"}]},
        {"outputs": [{"name": "p"}, {"name": "p"}]},
        {"outputs": [{"name": "p", "parameters": {"classification": 1}}]},
        {"parameters": {"timeout": 5}},
        {"id": "i" * 300},
        {"other": 1},
    ],
)
def test_other_wishes_go_the_long_way(more):
    assert reader().read_bytes(*body(**more)) is None


def test_an_infinity_is_left_to_the_decoder_that_refuses_it_and_its_bytes_out_of_step_are_not():
    read = reader()
    for value in (np.inf, -np.inf):
        assert read.read_bytes(*body(np.array([1, value], "<f4").tobytes())) is None
    across = b"\x01\x00\x00\x00\x80\x7f\x00\x00"  # the bytes of an infinity, two places off
    assert read.read_bytes(*body(across)).row == across
    assert read.read_bytes(*body(ROW + b"\0")) is None
    assert read.read_bytes(*body(ROW[:-1])) is None


@pytest.mark.parametrize("binary", [True, False])
def test_an_id_with_a_nul_is_left_to_the_decoder_that_refuses_it(binary):
    if binary:
        sent, length = body(id="a\0")
        assert reader().read_bytes(sent, length) is None
    else:
        sent, length = body(b"", given={"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}, id="a\0")
        assert reader().read(sent) is None
        length = -1
    with pytest.raises(SchemaError, match="NUL"):
        decode_infer(sent, inputs=[INPUT], outputs=[OUTPUT], header_length=length)


def test_a_head_is_remembered_within_bounds_and_never_with_an_id():
    read = reader()
    for number in range(500):
        sent, length = body()
        padded = sent[: length - 1] + b" " * number + sent[length - 1 :]
        assert read.read_bytes(padded, length + number).row == ROW
        assert read.read_bytes(*body(id=f"r{number}")).id == f"r{number}"
    assert 0 < len(read._heads) <= 64
    assert not any(b'"id"' in head for head in read._heads)
    read.read_bytes(sent[: length - 1] + b" " * 5000 + sent[length - 1 :], length + 5000)
    assert max(map(len, read._heads)) <= 1024


def test_versions_that_name_their_output_differently_have_no_short_way_for_bytes():
    assert PlainReader(INPUT).read_bytes(*body()) is None
    assert PlainReader(INPUT).read(body(b"", given=GIVEN | {"data": [1, 2]} | {"parameters": {}})[0]) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ASKED), st.data())
@example(ASKED[0], None)
def test_whatever_is_changed_in_a_body_the_short_way_agrees_or_steps_aside(asked, data):
    sent, length = body(**asked[0])
    if data is not None:
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(sent)))
            sent = sent[:at] + data.draw(st.binary(max_size=2)) + sent[at + data.draw(st.integers(0, 2)) :]
        length = data.draw(st.integers(-1, 3)) + length
    read = reader()
    for _ in range(2):
        found = read.read_bytes(sent, length)
        if found is not None:
            same(found, sent, length)
        elif length <= len(sent):
            with contextlib.suppress(TrimtabError):
                decode_infer(sent, inputs=[INPUT], outputs=[OUTPUT], header_length=length)


NUMBERS = st.floats(width=64) | st.floats(width=32)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(NUMBERS, min_size=1, max_size=3),
    st.sampled_from(["float32", "float64"]),
    st.text(max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["ok", "error:not_finite", 'stale:a"b']),
)
def test_answers_are_written_as_the_long_way_writes_them(values, dtype, id, flat, binary, status):
    shape = (-1,) if len(values) == 1 and flat else (-1, len(values))
    outputs = [Tensor("p", dtype, shape)]
    value = values[0] if len(values) == 1 else values
    written = PlainWriter("m", "v", outputs)
    said = "" if status == "ok" else status
    answer = TensorAnswer("m", "v", id, np.array([values]), outputs, status=said)
    long = encode_infer(answer, binary=("p",) if binary else ())
    found = written.write_bytes(id, value, status) if binary else written.write(id, value, status)
    assert found == (long if binary else long.body)
