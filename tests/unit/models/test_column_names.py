"""A column that no request could name is refused when its model is registered, and not when it is served."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.e2e.worker_house import onnx_model

import trimtab as tt
from trimtab.adapters.models.register import tensor_plan
from trimtab.app.alone import register_model
from trimtab.errors import InputError
from trimtab.serving.codec import RequestCodec


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ('a"', "quotation mark"),
        ("a\\", "backslash"),
        ("a\n", "control character"),
        ("\x00", "control character"),
        ("\ud800", "surrogate"),
        ("instances", "list of requests"),
    ],
)
def test_registering_refuses_a_column_that_no_request_could_name(tmp_path, column, why):
    task = tt.binary(positive="bought")
    with pytest.raises(InputError, match="no request could send a column of this name") as refused:
        register_model(tmp_path, onnx_model(0.0, 2), name="m", task=task, columns=["a", column])
    assert why in refused.value.hint
    assert refused.value.got == repr(column)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=6) | st.text(alphabet='"\\\x00\x1f \x7f/.`', max_size=3))
@example("c0")
@example("i0")
def test_whatever_registers_can_be_asked_one_row_at_a_time_and_several(name):
    try:
        plan = tensor_plan("m", (name,), ())
    except InputError:
        return
    codec = RequestCodec(plan.requests)
    for body in ({name: 1.5}, {"instances": [{name: 1.5}]}):
        found = codec.decode(json.dumps(body).encode(), new_id=lambda: "r")
        assert codec.batch(found.rows, found.ids, at=0).inputs[name].tolist() == [1.5]
