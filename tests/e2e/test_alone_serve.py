"""A model of bare tensors, registered and served without a project: both protocols, over real HTTP."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tests.e2e.worker_house import onnx_model

import trimtab as tt
from trimtab import app
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.alone import register_model, serve_model
from trimtab.errors import InputError, Unavailable
from trimtab.serving.record import PREDICTIONS, decode_record

COLUMNS = ["basket", "visits"]


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 2)).astype(np.float32)
    return LogisticRegression().fit(rows, rows[:, 0] + rows[:, 1] > 0), rows


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def served(home, model):
    estimator, rows = model
    version = register_model(home, estimator, name="buys", task=tt.binary(positive="b"), columns=COLUMNS, rows=rows)
    with serve_model(home, version, port=0) as running:
        yield running
    assert running.process.returncode == 0


def expected(model, *rows):
    return model[0].predict_proba(np.array(rows, np.float32))[:, 1]


def test_by_column_name(served, model):
    answers = served.predict([{"basket": 1.5, "visits": -0.5}, {"visits": 2, "basket": 0}])
    np.testing.assert_allclose(answers, expected(model, [1.5, -0.5], [0, 2]), atol=1e-6)


def test_numbers_of_numpy(served, model):
    answers = served.predict([{"basket": np.float32(1.5), "visits": np.int64(2)}])
    np.testing.assert_allclose(answers, expected(model, [1.5, 2]), atol=1e-6)


@pytest.mark.parametrize("number", [np.array(2), np.array(2, np.float32), np.ma.array(2.0), np.array(2, np.longdouble)])
def test_an_array_without_an_axis_is_its_number(served, model, number):
    answers = served.predict([{"basket": 1.5, "visits": number}])
    np.testing.assert_allclose(answers, expected(model, [1.5, 2]), atol=1e-6)


@pytest.mark.parametrize("value", [np.ma.masked, np.ma.array(2.0, mask=True), np.array([2.0]), np.array([1, 2]), pd.NA])
def test_what_is_no_number_is_refused_by_its_place(served, value):
    with pytest.raises(InputError, match=r"a value cannot be sent as JSON\. Got instances\[0\]\.visits: "):
        served.predict([{"basket": 1.5, "visits": value}])


def test_an_array_of_nan_is_missing(served):
    with pytest.raises(InputError, match=r"instances\[0\]\.visits may not be missing"):
        served.predict([{"basket": 1.5, "visits": np.array(np.nan)}])


def test_columns_need_not_be_in_alphabetical_order(tmp_path, model):
    estimator, rows = model
    order = ["visits", "basket"]
    version = register_model(tmp_path, estimator, name="m", task=tt.binary(positive="b"), columns=order, rows=rows)
    with serve_model(tmp_path, version, port=0) as running:
        answers = running.predict([{"basket": 1.5, "visits": -0.5}])
    np.testing.assert_allclose(answers, expected(model, [-0.5, 1.5]), atol=1e-6)


@pytest.mark.parametrize("row", [{"basket": 1.5}, {"basket": 1.5, "visits": np.nan}, {"basket": 1.5, "visits": None}])
def test_a_column_without_a_value_is_an_error_that_names_it(served, row):
    with pytest.raises(InputError, match="visits"):
        served.predict([row])


def test_a_nan_where_a_value_is_due_is_named_as_such(served):
    with pytest.raises(InputError, match=r"instances\[0\]\.visits may not be missing. Got null, as which NaN is sent"):
        served.predict([{"basket": 1.5, "visits": np.nan}])


def test_a_column_declared_optional_may_be_missing(tmp_path):
    version = register_model(
        tmp_path, onnx_model(0.0, 2), name="m", task=tt.binary(positive="b"), columns=COLUMNS, optional=["visits"]
    )
    with serve_model(tmp_path, version, port=0) as running:
        answers = running.predict([{"basket": 1.5}, {"basket": 1.5, "visits": np.nan}])
        for endless in (float("inf"), -np.float32("inf")):
            with pytest.raises(InputError, match=r"an infinity cannot be sent\. Got instances\[0\]\.visits"):
                running.predict([{"basket": 1.5, "visits": endless}])
        with pytest.raises(InputError, match=r"cannot be sent\. Got visits: inf"):
            app.predict(tmp_path, "m", {"basket": "1.5", "visits": "1e999"}, url=running.url)
    assert answers.shape == (2,)


def test_by_tensor(served, model):
    body = {"inputs": [{"name": "input", "shape": [2, 2], "datatype": "FP32", "data": [1.5, -0.5, 0, 2]}]}
    with JsonClient(served.url) as client:
        answer = client.post("/v2/models/buys/infer", body)
        described = client.get("/v2/models/buys")
    assert answer["outputs"][0]["shape"] == [2, 1]
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected(model, [1.5, -0.5], [0, 2]), atol=1e-6)
    columns = {"columns": ["basket", "visits"]}
    assert described["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2], "parameters": columns}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"basket": 1.0, "visitors": 2.0}, "unknown field 'visitors'"),
        ({"basket": "much", "visits": 2.0}, "basket"),
        ({"basket": 1e300, "visits": 2.0}, "past the range of float32"),
    ],
)
def test_bad_requests_are_refused_and_the_next_one_is_answered(served, body, words):
    with JsonClient(served.url) as client:
        with pytest.raises(InputError, match=words):
            client.post("/predict/buys", body)
        assert client.post("/predict/buys", {"basket": 1.0, "visits": 2.0})["version"] == served.version


def test_answers_are_recorded(served, home):
    with JsonClient(served.url) as client:
        client.post("/predict/buys", {"id": "kept", "basket": 1.0, "visits": 2.0})
    found = [decode_record(row) for _, row in SpoolRecords(home / "records", "reader").scan(PREDICTIONS)]
    assert [record.model for record in found if record.request_id == "kept"] == ["buys"]


def test_a_second_one_in_the_same_home_is_refused_and_the_first_goes_on(served, home, model):
    with pytest.raises(Unavailable, match="serves a model already"):
        serve_model(home, served.version, port=0)
    np.testing.assert_allclose(served.predict([{"basket": 0, "visits": 0}]), expected(model, [0, 0]), atol=1e-6)
