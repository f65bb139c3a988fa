import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.serving.test_serving_tensors import INPUT, OUTPUT, decode, tensor, values

from trimtab.errors import InputError, SchemaError
from trimtab.registry.manifest import Tensor
from trimtab.serving.infer import decode_infer, encode_infer, header_length
from trimtab.serving.tensors import DATATYPES, TensorAnswer


def binary_body(tensors, blobs, **more):
    head = msgspec.json.encode({"inputs": tensors} | more)
    return head + b"".join(blobs), len(head)


def raw(name="x", shape=(2, 2), datatype="FP32", size=16, **more):
    return {"name": name, "shape": list(shape), "datatype": datatype, "parameters": {"binary_data_size": size} | more}


def decode_raw(tensors, blobs, *, inputs=(INPUT,), outputs=(OUTPUT,), length=None, **more):
    body, head = binary_body(tensors, blobs, **more)
    return decode_infer(
        body, inputs=inputs, outputs=outputs, header_length=head if length is None else length, max_rows=3
    )


FOUR = np.array([[1, 2], [3, np.nan]], "<f4")


def test_bytes_are_read_as_rows_and_nan_is_a_missing_value():
    asked = decode_raw([raw()], [FOUR.tobytes()], id="r")
    assert asked.values.dtype == np.float32
    np.testing.assert_array_equal(asked.values, FOUR)
    assert (asked.id, asked.binary) == ("r", ())


def test_floats_that_lie_aligned_are_not_copied():
    spaces = [decode_raw([raw()], [FOUR.tobytes()], id="r" * pad) for pad in range(1, 9)]
    assert {asked.values.flags.aligned for asked in spaces} == {True}
    assert {asked.values.flags.owndata or asked.values.base.flags.owndata for asked in spaces} == {True, False}


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BOOL"])
def test_bytes_of_every_number_type(datatype):
    data = np.array([1, 2, 3, 4], np.dtype(DATATYPES[datatype]).newbyteorder("<")).tobytes()
    assert decode_raw([raw(datatype=datatype, size=len(data))], [data]).values.tolist() == [[1, 2], [3, 4]]


def test_json_and_bytes_in_one_body_in_any_order():
    flag = {"name": "y", "shape": [2, 1], "datatype": "INT64", "data": [8, 9]}
    last = raw("z", (2,), "BOOL", 2)
    inputs = (INPUT, Tensor("y", "float32", (-1, 1)), Tensor("z", "float32", (-1,)))
    data = np.array([[1, 2], [3, 4]], "<f4").tobytes()
    for tensors, blobs in (([raw(), flag, last], [data, b"\1\0"]), ([last, flag, raw()], [b"\1\0", data])):
        asked = decode_raw(tensors, blobs, inputs=inputs)
        assert asked.values.tolist() == [[1, 2, 8, 1], [3, 4, 9, 0]]


@pytest.mark.parametrize(
    ("tensors", "blobs", "word"),
    [
        ([raw(size=12)], [bytes(12)], "number of values"),
        ([raw(size=15)], [bytes(15)], "no whole number of values. Got 15 bytes"),
        ([raw(size=21)], [bytes(21)], "no whole number of values. Got 21 bytes"),
        ([raw(size=17)], [bytes(16)], "past the end"),
        ([raw(size=2**31)], [bytes(16)], "past the end"),
        ([raw(size=16)], [bytes(17)], "1 bytes too many"),
        ([raw(size=-1)], [bytes(16)], "not an infer request"),
        ([raw(size="16")], [bytes(16)], "not an infer request"),
        ([raw(size=1.5)], [bytes(16)], "not an infer request"),
        ([raw(size=True)], [bytes(1)], "not an infer request"),
        ([raw() | {"data": [1, 2, 3, 4]}], [bytes(16)], "has data and bytes"),
        ([tensor()], [bytes(16)], "16 bytes too many"),
        ([raw(datatype="BYTES")], [bytes(16)], "BYTES is not taken"),
        ([raw(datatype="BF16", size=8)], [bytes(8)], "BF16 is not taken"),
        ([raw(datatype="BOOL", size=4)], [b"\0\1\2\0"], "neither 0 nor 1"),
        ([raw(shared_memory_region="a")], [bytes(16)], "shared memory"),
        ([raw()], [np.array([1, 2, 3, np.inf], "<f4").tobytes()], "past the range"),
        ([raw(datatype="FP64", size=32)], [np.array([1, 2, 3, 1e300], "<f8").tobytes()], "past the range"),
        ([raw(), raw()], [bytes(32)], "not the inputs"),
        ([raw("q" * 500)], [bytes(16)], "not the inputs"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(tensors, blobs, word):
    with pytest.raises(InputError, match=word):
        decode_raw(tensors, blobs)


def test_what_is_no_input_is_refused_before_anything_is_made_of_it():
    """A body has room for many thousands."""
    for tensors in ([raw(size=10**6), raw("z")], [raw("z", size=10**6)], [raw(size=10**6)] * 1000, []):
        with pytest.raises(SchemaError, match="these are not the inputs of the model") as refused:
            decode_raw(tensors, [])
        assert len(refused.value.got) <= 200


def test_a_header_longer_than_the_body_is_refused():
    with pytest.raises(InputError, match="shorter than"):
        decode_raw([raw()], [FOUR.tobytes()], length=10_000)


def test_bytes_without_the_header_are_refused():
    with pytest.raises(InputError):
        decode_raw([raw()], [], length=-1)


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"x", b"1" * 16, b"\xb2", b"0x10", b"1 2"])
def test_a_header_that_is_no_length(value):
    with pytest.raises(InputError):
        header_length(value)


def test_integers_that_would_be_rounded_are_refused_where_the_model_takes_integers():
    counts = (Tensor("x", "int64", (-1, 1)),)
    for value, fits in ((2**24, True), (-(2**24), True), (2**24 + 1, False), (-(2**24) - 1, False)):
        sent = {"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [value]}
        if fits:
            assert decode(sent, inputs=counts).values.tolist() == [[value]]
        else:
            with pytest.raises(SchemaError, match="exactly"):
                decode(sent, inputs=counts)


HALF = Tensor("x", "float16", (-1, 1))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("FP32", -70000), ("FP64", 65520), ("FP32", 1e30), ("INT64", 70000), ("UINT16", 65535), ("FP16", 70000)],
)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_number_past_float16_is_refused_where_the_model_takes_float16(datatype, value, as_bytes):
    def send(number):
        if not as_bytes:
            return decode({"name": "x", "shape": [1, 1], "datatype": datatype, "data": [number]}, inputs=(HALF,))
        with np.errstate(over="ignore"):
            data = np.array(number).astype(np.dtype(DATATYPES[datatype]).newbyteorder("<")).tobytes()
        return decode_raw([raw(shape=(1, 1), datatype=datatype, size=len(data))], [data], inputs=(HALF,))

    with pytest.raises(SchemaError, match=r"past the range of float16.*65504"):
        send(value)
    assert send(65504).values.tolist() == [[65504]]


OUTPUTS = (Tensor("p", "float32", (-1, 2)), Tensor("label", "int64", (-1,)))


@pytest.mark.parametrize(
    ("asked", "names", "binary"),
    [
        ({}, (), ()),
        ({"parameters": {"binary_data_output": True}}, (), ("p", "label")),
        ({"parameters": {"binary_data_output": False, "priority": 3}}, (), ()),
        ({"outputs": [{"name": "p"}]}, ("p",), ()),
        ({"outputs": [{"name": "p", "parameters": {"binary_data": True}}, {"name": "label"}]}, ("p", "label"), ("p",)),
        (
            {
                "outputs": [{"name": "p", "parameters": {"binary_data": False, "other": 1}}, {"name": "label"}],
                "parameters": {"binary_data_output": True},
            },
            ("p", "label"),
            ("label",),
        ),
        ({"outputs": [{"name": "p", "parameters": {"binary_data": True}}] * 3}, ("p",), ("p",)),
    ],
)
def test_which_outputs_are_wanted_as_bytes(asked, names, binary):
    found = decode_infer(msgspec.json.encode({"inputs": [tensor()]} | asked), inputs=[INPUT], outputs=OUTPUTS)
    assert (found.outputs, found.binary) == (names, binary)


@pytest.mark.parametrize("more", [{"classification": 3}, {"shared_memory_region": "a"}, {"binary_data": 1}])
def test_outputs_that_cannot_be_given_are_refused(more):
    with pytest.raises(SchemaError):
        decode(tensor(), outputs=[{"name": "p", "parameters": more}])


def test_an_answer_of_json_and_bytes():
    values = np.array([[0.25, 0.75, 1], [0.5, np.nan, 0]])
    encoded = encode_infer(TensorAnswer("m", "v", "r", values, OUTPUTS), binary=("p",))
    head = msgspec.json.decode(encoded.body[: encoded.header_length])
    assert head["outputs"] == [
        {"name": "p", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
        {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
    ]
    found = np.frombuffer(encoded.body[encoded.header_length :], "<f4")
    np.testing.assert_array_equal(found, np.array([0.25, 0.75, 0.5, np.nan], np.float32))
    both = encode_infer(TensorAnswer("m", "v", "r", values, OUTPUTS), binary=("p", "label"))
    assert np.frombuffer(both.body[-16:], "<i8").tolist() == [1, 0]


def test_an_integer_output_without_a_value_is_still_an_answer():
    values = np.array([[0.25, 0.75, np.nan]])
    assert len(encode_infer(TensorAnswer("m", "v", "", values, OUTPUTS), binary=("label",)).body) > 8
    assert b"null" in encode_infer(TensorAnswer("m", "v", "", values, OUTPUTS)).body


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 3),
    kinds=st.lists(
        st.tuples(st.sampled_from(sorted(set(DATATYPES) - {"BOOL"})), st.booleans()), min_size=1, max_size=4
    ),
    seed=st.integers(0, 2**32 - 1),
    mixed=st.permutations(range(4)),
)
def test_what_is_sent_arrives_as_json_as_bytes_or_mixed(rows, kinds, seed, mixed):
    generator = np.random.default_rng(seed)
    inputs = [Tensor(f"t{place}", "float32", (-1, 2)) for place in range(len(kinds))]
    sent, expected = [], []
    for place, (datatype, as_bytes) in enumerate(kinds):
        data = generator.integers(0, 100, (rows, 2)).astype(DATATYPES[datatype])
        one = {"name": f"t{place}", "shape": [rows, 2], "datatype": datatype}
        packed = data.astype(data.dtype.newbyteorder("<")).tobytes()
        more = {"parameters": {"binary_data_size": len(packed)}} if as_bytes else {"data": data.tolist()}
        sent.append((one | more, packed if as_bytes else b""))
        expected.append(data.astype(np.float32))
    order = [place for place in mixed if place < len(kinds)]
    body, head = binary_body([sent[place][0] for place in order], [sent[place][1] for place in order])
    asked = decode_infer(body, inputs=inputs, outputs=[], header_length=head, max_rows=3)
    np.testing.assert_array_equal(asked.values, np.concatenate(expected, axis=1))


@settings(max_examples=300, deadline=None)
@given(
    head=st.one_of(
        st.binary(max_size=40),
        st.fixed_dictionaries(
            {
                "inputs": st.lists(
                    st.fixed_dictionaries(
                        {
                            "name": st.sampled_from(["x", "y"]),
                            "shape": st.lists(st.integers(-1, 4), max_size=3),
                            "datatype": st.sampled_from([*DATATYPES, "BYTES", "BF16", ""]),
                        },
                        optional={
                            "data": values,
                            "parameters": st.dictionaries(
                                st.sampled_from(["binary_data_size", "shared_memory_region", "z"]), values, max_size=2
                            )
                            | st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40)}),
                        },
                    ),
                    max_size=2,
                )
            },
            optional={
                "outputs": st.lists(
                    st.dictionaries(st.sampled_from(["name", "parameters"]), values, max_size=2), max_size=2
                ),
                "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "z"]), values, max_size=2),
            },
        ).map(msgspec.json.encode),
    ),
    tail=st.binary(max_size=40),
    shift=st.integers(-3, 3) | st.none(),
)
def test_any_binary_body_gives_a_finite_matrix_or_an_input_error(head, tail, shift):
    length = -1 if shift is None else max(len(head) + shift, 0)
    try:
        asked = decode_infer(head + tail, inputs=[INPUT], outputs=OUTPUTS, header_length=length, max_rows=3)
    except InputError:
        return
    assert asked.values.shape[1] == 2
    assert 1 <= len(asked.values) <= 3
    assert not np.isinf(asked.values).any()
