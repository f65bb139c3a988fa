import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.serving.parts import GOOD, SHAPE, SMALL

from trimtab.core.clock import instant
from trimtab.errors import InputError, SchemaError, TooLarge
from trimtab.features.plan import RequestShape
from trimtab.serving.codec import MISSING_TIME, RequestCodec

CODEC = RequestCodec(SHAPE, max_rows=3)


def decode(body, codec=CODEC):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return codec.decode(raw, new_id=lambda: "new")


def columns(body, codec=CODEC, at=7):
    found = decode(body, codec)
    return codec.batch(found.rows, found.ids, at=at)


def test_a_flat_body_becomes_typed_columns():
    batch = columns(GOOD)
    assert batch.ids == ["r1"]
    assert batch.at.tolist() == [7]
    assert batch.keys["shop"].tolist() == ["a"]
    assert batch.keys["till"].dtype == np.int64
    assert batch.inputs["basket"].dtype == np.float64
    assert batch.inputs["member"].dtype == np.bool_
    assert batch.inputs["since"].tolist() == [instant("2013-03-04T06:00Z")]
    assert batch.inputs["note"].tolist() == [""]
    assert math.isnan(batch.inputs["age"][0])


def test_a_list_keeps_its_order_and_gives_ids_where_none_came():
    names = iter(["n1", "n2"])
    body = {
        "instances": [{"shop": "a", "basket": 1}, {"id": "x", "shop": "bb", "basket": 2}, {"shop": "c", "basket": 3}]
    }
    codec = RequestCodec(SMALL)
    found = codec.decode(msgspec.json.encode(body), new_id=lambda: next(names))
    batch = codec.batch(found.rows, found.ids, at=0)
    assert (found.ids, found.single) == (["n1", "x", "n2"], False)
    assert batch.keys["shop"].tolist() == ["a", "bb", "c"]
    assert batch.inputs["basket"].tolist() == [1, 2, 3]


def test_rows_of_several_bodies_make_one_batch():
    codec = RequestCodec(SMALL)
    one, two = (decode({"shop": name, "basket": 1}, codec).rows for name in "ab")
    assert codec.batch(one + two, ["1", "2"], at=0).keys["shop"].tolist() == ["a", "b"]


def test_the_projects_own_name_for_the_id_works_too():
    assert decode({**GOOD, "id": None, "visit": "v9"}).ids == ["v9"]


def test_an_id_that_is_an_input_as_well_is_read_from_it():
    shape = RequestShape("s", "ticket", "at", {}, {"ticket": "int"}, (), {})
    found = decode({"ticket": 12}, RequestCodec(shape))
    assert found.ids == ["12"]
    with pytest.raises(SchemaError):
        decode({"ticket": "x"}, RequestCodec(shape))


def test_microseconds_and_iso_times_are_the_same():
    when = "2013-03-04T06:00+02:00"
    assert columns({**GOOD, "since": instant(when)}).inputs["since"] == columns({**GOOD, "since": when}).inputs["since"]


def test_a_missing_optional_time_is_not_a_time():
    shape = RequestShape("s", "id", "at", {}, {"due": "time"}, ("due",), {})
    assert columns({}, RequestCodec(shape)).inputs["due"].tolist() == [MISSING_TIME]
    assert np.isnat(columns({"due": None}, RequestCodec(shape)).inputs["due"].view("datetime64[us]"))[0]


@pytest.mark.parametrize(
    ("change", "what", "got", "hint"),
    [
        ({"color": 1}, "unknown field 'color'", "", "basket (float)"),
        ({"basket": "far"}, "basket is not acceptable: expected `float`, got `str`", "'far'", "a number between 0 and 1000"),
        ({"basket": -1}, "basket is not acceptable", "-1", "between 0 and 1000"),
        ({"basket": None}, "basket may not be missing", "null, as which NaN is sent", "a number between 0 and 1000"),
        ({"items": 100}, "items is not acceptable", "100", "between 0 and 99"),
        ({"items": 1.5}, "items is not acceptable: expected `int`, got `float`", "1.5", "an integer"),
        ({"items": "x"}, "items is not acceptable: expected `int`, got `str`", "'x'", "between 0 and 99"),
        ({"items": 100.0}, "items is not acceptable", "100.0", "between 0 and 99"),
        ({"till": 2.0**53}, "till is not acceptable", "9007199254740992.0", "an integer"),
        ({"age": 1.5}, "age is not acceptable: expected `int`, got `float`", "1.5", "an integer, or null"),
        ({"items": 2**70}, "items is not acceptable", str(2**70), "an integer"),
        ({"member": 1}, "member is not acceptable", "1", "true or false"),
        ({"since": "soon"}, "since is not a time", "'soon'", "ISO 8601"),
        ({"since": 2**62}, "since is not acceptable", str(2**62), "a time"),
        ({"shop": 5}, "shop is not acceptable", "5", "a text"),
        ({"shop": "x" * 257}, "shop is not acceptable", "xxx", "a text"),
        ({"shop": "a\x00"}, "NUL", "a\\x00", "remove"),
        ({"id": ""}, "id is not acceptable", "''", ""),
        ({"age": "x"}, "age is not acceptable", "'x'", "or null"),
    ],
)  # fmt: skip
def test_a_bad_field_is_explained(change, what, got, hint):
    with pytest.raises(SchemaError) as caught:
        decode({**GOOD, **change})
    assert what in caught.value.what
    assert got in caught.value.got
    assert hint in caught.value.hint


def test_an_integer_may_be_written_as_a_number_with_nothing_after_the_point():
    batch = columns(GOOD | {"till": 4.0, "items": 2.0, "age": 3e1})
    assert (batch.keys["till"].dtype, batch.inputs["items"].dtype) == (np.int64, np.int64)
    assert [batch.keys["till"][0], batch.inputs["items"][0], batch.inputs["age"][0]] == [4, 2, 30]
    ticket = RequestCodec(RequestShape("s", "ticket", "at", {}, {"ticket": "int"}, (), {}))
    assert decode({"ticket": 12.0}, ticket).ids == ["12"]


def test_a_missing_field_is_named():
    with pytest.raises(SchemaError, match="field 'shop' is missing"):
        decode({name: value for name, value in GOOD.items() if name != "shop"})


def test_the_place_in_a_list_is_named():
    with pytest.raises(SchemaError) as caught:
        decode({"instances": [GOOD, {**GOOD, "id": "r2", "basket": "far"}]})
    assert "instances[1].basket" in caught.value.what
    assert caught.value.got == "'far'"


@pytest.mark.parametrize(
    ("body", "error", "what"),
    [
        (b"", InputError, "not JSON"),
        (b"{", InputError, "not JSON"),
        (b'{"shop": NaN}', InputError, "not JSON"),
        (b'{"id": "\xff"}', InputError, "not JSON"),
        (b'{"basket": 1e999}', SchemaError, "basket"),
        (b"[" * 100_000, SchemaError, "body"),
        (b'{"instances": ' + b"[" * 100_000, InputError, ""),
        (b"[]", SchemaError, "body"),
        (b"3", SchemaError, "body"),
        (b'{"instances": []}', InputError, "no instances"),
        (b'{"instances": {}}', SchemaError, "instances"),
        (b'   {   "instances": [1]}', SchemaError, "instances[0]"),
        (b" " * 100 + b'{"instances": [1]}', SchemaError, "instances[0]"),
    ],
)
def test_a_bad_body_is_explained(body, error, what):
    with pytest.raises(error) as caught:
        decode(body)
    assert what in caught.value.what


def test_too_many_rows_are_refused():
    with pytest.raises(TooLarge, match="at most 3"):
        decode({"instances": [{**GOOD, "id": str(index)} for index in range(4)]})


def test_an_id_names_one_request():
    with pytest.raises(InputError, match="same id"):
        decode({"instances": [GOOD, GOOD]})


def test_the_repeated_id_is_found_in_one_pass():
    """Each against each other, they would be compared for hours."""
    codec = RequestCodec(SMALL, max_rows=500_000)
    rows = [{"id": str(index), "shop": "a", "basket": 1} for index in range(300_000)]
    with pytest.raises(InputError, match="same id") as caught:
        decode({"instances": [*rows, rows[-1]]}, codec)
    assert caught.value.got == "'299999'"


@pytest.mark.parametrize("text", [" - at `", " - at `$", "field `", "field `\n", "[1", "`", "\n"])
@pytest.mark.parametrize("inside", [False, True])
def test_an_unknown_field_is_explained_in_one_pass_whatever_its_name_is(text, inside):
    """A pattern that looks for where the decoder stopped would look hours in a name made of those words."""
    row = {"shop": "a", "basket": 1, text * 200_000 + "\n": 1}
    with pytest.raises(SchemaError, match="unknown field") as caught:
        decode({"instances": [row]} if inside else row, RequestCodec(SMALL))
    assert len(str(caught.value)) < 2000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "instances", "z"]), inner, max_size=9),
    max_leaves=12,
)  # fmt: skip
nearly = st.fixed_dictionaries({name: st.just(value) | json_values for name, value in GOOD.items()})


@settings(max_examples=150, deadline=None)
@given(json_values | nearly | st.fixed_dictionaries({"instances": st.lists(nearly, max_size=4)}))
def test_any_json_gives_a_valid_batch_or_an_input_error(value):
    try:
        batch = columns(value)
    except InputError:
        return
    assert 1 <= len(batch) <= 3
    low, high = SHAPE.ranges["basket"]
    assert all(len(values) == len(batch) for values in [*batch.keys.values(), *batch.inputs.values()])
    assert ((batch.inputs["basket"] >= low) & (batch.inputs["basket"] <= high)).all()
    assert batch.keys["shop"].dtype.kind == "U"
    assert all(batch.ids)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_give_a_valid_batch_or_an_input_error(body):
    with pytest.raises(InputError):
        decode(body)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=20), st.floats(0, 1000), st.integers(0, 99))
def test_what_was_sent_is_what_is_read(shop, basket, items):
    body = {**GOOD, "shop": shop, "basket": basket, "items": items}
    if "\x00" in shop:
        with pytest.raises(SchemaError):
            decode(body)
        return
    batch = columns(body)
    assert batch.keys["shop"].tolist() == [shop]
    assert batch.inputs["basket"].tolist() == [basket]
    assert batch.inputs["items"].tolist() == [items]


@pytest.mark.parametrize("body", [b'{"instances": [null]}', b'{"instances": null}'])
def test_only_a_field_is_said_to_be_missing(body):
    with pytest.raises(SchemaError) as refused:
        CODEC.decode(body, new_id=lambda: "new")
    assert "NaN" not in str(refused.value)
