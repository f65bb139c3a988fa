"""Features and drift for frames of one's own, without a project."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

import trimtab as tt
from trimtab.app.alone import drift, historical_features, register_model, serve_model
from trimtab.core.clock import MINUTE
from trimtab.errors import BundleCorrupt, InputError, SchemaError, UnknownName

shop = tt.Entity("shop")
sales = tt.Events("sales", time="at", known="known", keys=[shop], schema={"amount": int})
weather = tt.Table("weather", time="hour", known="seen", keys=[tt.Entity("city")], schema={"wind": float})
FORM = tt.windows(sales, by=[shop], over=["1h"], count="*", sum=["amount"])
EVENTS = {
    "at": np.array([1, 2, 3]) * MINUTE,
    "known": np.array([1, 2, 30]) * MINUTE,
    "shop": np.array(["a", "b", "a"]),
    "amount": np.array([10, 20, 40]),
}
QUESTIONS = {"asked": np.array([10, 10, 40]) * MINUTE, "shop": np.array(["a", "b", "a"])}


def test_a_late_report_is_not_seen_before_it_was_known():
    found = historical_features(QUESTIONS, [FORM], {"sales": EVENTS}, at="asked")
    assert found.values.tolist() == [[1, 10], [1, 20], [2, 50]]
    assert found.columns()["sales.shop.sum_amount_1h"].tolist() == [10, 20, 50]
    assert found.quarantine["sales"].total == 0


def test_order_and_repetition_of_questions_do_not_matter():
    rows = [2, 0, 0, 1]
    asked = {name: values[rows] for name, values in QUESTIONS.items()}
    found = historical_features(asked, [FORM], {"sales": EVENTS}, at="asked")
    assert found.values.tolist() == [[2, 50], [1, 10], [1, 10], [1, 20]]


def test_frames_of_objects_and_times_with_a_zone():
    def moment(minute):
        return datetime(1970, 1, 1, 0, minute, tzinfo=UTC)

    asked = {"asked": [moment(10), moment(40)], "shop": ["a", "a"]}
    events = {
        "at": [moment(1), moment(3)],
        "known": np.array(["1970-01-01T00:01", "1970-01-01T00:30"], "datetime64[s]"),
        "shop": np.array(["a", "a"], object),
        "amount": [10, 40],
    }
    assert historical_features(asked, [FORM], {"sales": events}, at="asked").values.tolist() == [[1, 10], [2, 50]]


def test_a_pandas_frame_will_do():
    pandas = pytest.importorskip("pandas")
    events = pandas.DataFrame(EVENTS | {name: EVENTS[name].astype("datetime64[us]") for name in ("at", "known")})
    asked = pandas.DataFrame(QUESTIONS | {"asked": QUESTIONS["asked"].astype("datetime64[us]")})
    found = historical_features(asked, [FORM], {"sales": events}, at="asked")
    assert found.values.tolist() == [[1, 10], [1, 20], [2, 50]]


def test_several_sources_and_their_entities():
    asked = QUESTIONS | {"city": np.array(["x", "y", "x"])}
    hours = {"hour": [5 * MINUTE], "seen": [20 * MINUTE], "city": ["x"], "wind": [7.0]}
    found = historical_features(
        asked, [tt.latest(weather, ["wind"]), FORM], {"sales": EVENTS, "weather": hours}, at="asked"
    )
    assert found.names[0] == "weather.wind"
    np.testing.assert_array_equal(found.values[:, 0], [np.nan, np.nan, 7])


def test_bad_rows_of_a_source_are_listed_and_a_bad_question_is_an_error():
    early = EVENTS | {"known": np.array([0, 2, 30]) * MINUTE}
    found = historical_features(QUESTIONS, [FORM], {"sales": early}, at="asked")
    assert found.quarantine["sales"].counts == {("known", "known before it happened"): 1}
    assert found.values[:, 0].tolist() == [0, 1, 1]
    with pytest.raises(SchemaError, match=r"1 of 3 questions .* row 1: shop is '', empty"):
        historical_features(QUESTIONS | {"shop": np.array(["a", "", "a"])}, [FORM], {"sales": EVENTS}, at="asked")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sources": {}}, UnknownName, "rows of a source are missing"),
        ({"sources": {"sales": EVENTS, "returns": EVENTS}}, UnknownName, "no feature reads that source"),
        ({"questions": {"asked": [1]}}, SchemaError, "column 'shop' .* is missing"),
        ({"questions": {"shop": ["a"]}}, SchemaError, "column 'asked' .* is missing"),
        ({"questions": 3}, InputError, "not a data frame"),
        ({"sources": {"sales": {"at": [1]}}}, SchemaError, "is missing"),
        ({"features": ["features.calendar"]}, InputError, "not a feature over a source"),
    ],
)
def test_mistakes_are_named(change, error, words):
    given = {"questions": QUESTIONS, "features": [FORM], "sources": {"sales": EVENTS}} | change
    with pytest.raises(error, match=words):
        historical_features(given["questions"], given["features"], given["sources"], at="asked")


def test_drift_between_two_frames():
    rng = np.random.default_rng(0)
    before = {"age": rng.normal(40, 9, 20_000), "plan": np.repeat(["a", "b"], 10_000)}
    after = {"age": rng.normal(47, 9, 3_000), "plan": np.repeat(["a", "b"], 1_500)}
    assert {name: one.severity for name, one in drift(before, after).items()} == {"age": "critical", "plan": "ok"}
    with pytest.raises(UnknownName, match="plan"):
        drift(before, {"age": after["age"]})


def onnx(width: int) -> bytes:
    from tests.e2e.worker_house import onnx_model

    return onnx_model(0.0, width)


def test_registering_refuses_what_does_not_fit(tmp_path):
    task = tt.binary(positive="bought")
    with pytest.raises(InputError, match="different names"):
        register_model(tmp_path, onnx(2), name="m", task=task, columns=["a", "a"])
    with pytest.raises(InputError, match="cannot be called id") as refused:
        register_model(tmp_path, onnx(2), name="m", task=task, columns=["a", "id"])
    assert "item_id" in refused.value.hint
    with pytest.raises(InputError, match="another number of columns"):
        register_model(tmp_path, onnx(2), name="m", task=task, columns=["a"])
    with pytest.raises(InputError, match="not a model that ONNX Runtime loads"):
        register_model(tmp_path, b"no model", name="m", task=task, columns=["a"])
    with pytest.raises(UnknownName, match="no such version"):
        serve_model(tmp_path, "0" * 64)


def test_a_changed_byte_is_refused_before_anything_is_served(tmp_path):
    version = register_model(tmp_path, onnx(2), name="m", task=tt.binary(positive="bought"), columns=["a", "b"])
    largest = max((path for path in (tmp_path / "blobs").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(data)
    with pytest.raises(BundleCorrupt, match="is not the file that was packed"):
        serve_model(tmp_path, version)
    assert not (tmp_path / "route.json").exists()


def test_a_single_feature_need_not_be_in_a_list():
    found = historical_features(QUESTIONS, FORM, {"sales": EVENTS}, at="asked")
    assert found.values.tolist() == [[1, 10], [1, 20], [2, 50]]


@pytest.mark.parametrize("ragged", ["reference", "current"])
def test_drift_refuses_columns_of_different_lengths(ragged):
    frames = {"reference": {"a": np.arange(9.0), "b": np.arange(9.0)}, "current": {"a": [1.0, 2.0], "b": [1.0, 2.0]}}
    frames[ragged]["b"] = np.arange(5.0)
    with pytest.raises(InputError, match=f"columns of the {ragged} frame are not of one length"):
        drift(frames["reference"], frames["current"])


def test_an_optional_column_must_be_a_column(tmp_path):
    task = tt.binary(positive="bought")
    with pytest.raises(InputError, match="optional column is no column"):
        register_model(tmp_path, onnx(2), name="m", task=task, columns=["a", "b"], optional=["c"])
