"""Records are written column by column; byte for byte they are what one record after the other would be."""

import msgspec
import numpy as np
import pytest

from trimtab.core.ids import derived_id
from trimtab.features.batch import FeatureBatch, RequestBatch, Watermark
from trimtab.serving.answers import Answers
from trimtab.serving.record import PredictionRecord, decode_record, encode_record, in_test
from trimtab.serving.recording import encode_records, statuses


def answers(rows, *, outputs=1, width=3, keys=False, units=False, **more):
    draw = np.random.default_rng(rows + 10 * outputs)
    columns = {"shop": np.array([f"s{row}" for row in range(rows)]), "till": np.arange(rows)} if keys else {}
    ages = np.ones((rows, 2 if keys else 0), np.float32)
    features = FeatureBatch(
        draw.random((rows, width)).astype(np.float32), ages, {"sales": Watermark(7, 70)} if keys else {}, ()
    )
    ids = [f"r{row}ä" for row in range(rows)]
    said = draw.random((rows, outputs))
    said = said.reshape(-1) if outputs == 1 else said
    return Answers(
        RequestBatch(ids, np.arange(rows) + 1_000, columns, columns),
        features, "v" * 64, "champion", "r1", said, (1, 2, 3, 4, 5, 6),
        units=[f"u{row}" for row in range(rows)] if units else (), **more,
    )  # fmt: skip


def one_by_one(given, model):
    columns = [
        {name: values[row].item() for name, values in given.requests.keys.items()} for row in range(len(given.requests))
    ]
    for row, name in enumerate(given.requests.ids):
        record = PredictionRecord(
            request_id=name,
            prediction_id=derived_id(name, given.version, given.arm),
            asked_at=int(given.requests.at[row]),
            model=model,
            version=given.version,
            arm=given.arm,
            rollout=given.rollout,
            keys=columns[row],
            features=given.features.values[row].tobytes(),
            ages=given.features.ages[row].tobytes(),
            watermarks=given.features.watermarks,
            outputs=tuple(np.atleast_1d(given.outputs[row]).tolist()),
            timings=given.timings,
            status=statuses(given)[row],
            inputs=columns[row],
            unit=given.units[row] if given.units else "",
            together=given.together[row] if given.together else False,
        )
        yield record


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("more", [{}, {"keys": True}, {"units": True}, {"width": 0}, {"error": "ValueError"}])
def test_a_batch_is_written_as_its_records_one_by_one(rows, outputs, more):
    given = answers(rows, outputs=outputs, **more)
    found = encode_records(given, "m")
    wanted = list(one_by_one(given, "m"))
    assert [decode_record(row) for row in found] == wanted
    if given.units:  # the last field is left out, as before there was one
        assert [row[3:] for row in found] == [encode_record(record)[3:-1] for record in wanted]
    else:  # and so is the unit
        assert [row[1:] for row in found] == [encode_record(record)[3:-2] for record in wanted]


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("units", [False, True])
def test_rows_that_fell_to_their_arm_together_say_so_and_the_others_are_written_as_ever(rows, units):
    flags = [row % 2 == 0 for row in range(rows)]
    given, plain = answers(rows, units=units, together=flags), answers(rows, units=units)
    found = encode_records(given, "m")
    wanted = list(one_by_one(given, "m"))
    assert [decode_record(row) for row in found] == wanted
    for row, record, without, together in zip(found, wanted, encode_records(plain, "m"), flags, strict=True):
        assert row == (encode_record(record) if together else without)
    assert encode_records(answers(rows, units=units, together=[False] * rows), "m") == encode_records(plain, "m")


def test_lone_rows_of_a_canary_are_written_as_ever_beside_those_of_a_user():
    given = msgspec.structs.replace(answers(3), units=["", "ann", ""], together=[False, True, False])
    found, plain = encode_records(given, "m"), encode_records(answers(3), "m")
    assert [found[0], found[2]] == [plain[0], plain[2]]
    assert [decode_record(row).unit for row in found] == ["", "ann", ""]
    assert [in_test(decode_record(row)) for row in found] == [False] * 3


def test_a_record_of_an_ab_test_has_a_unit_that_it_did_not_fall_together_by():
    (row,) = encode_records(answers(1, units=True), "m")
    assert in_test(decode_record(row))
    (row,) = encode_records(answers(1, units=True, together=[True]), "m")
    assert not in_test(decode_record(row))


def test_what_is_measured_around_the_pipeline_keeps_what_fell_together():
    assert answers(2, together=[True, False]).timed(decode_us=1, encode_us=2).together == [True, False]


def test_a_row_that_is_not_finite_says_so():
    given = answers(3)
    given.outputs[1] = np.nan
    assert [decode_record(row).status for row in encode_records(given, "m")] == ["ok", "error:not_finite", "ok"]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_lone_row_that_is_not_finite_says_so(outputs, value):
    given = answers(1, outputs=outputs)
    given.outputs[..., -1] = value
    assert [decode_record(row).status for row in encode_records(given, "m")] == ["error:not_finite"]


def test_a_lone_row_of_great_numbers_is_fine():
    given = answers(1, outputs=3)
    given.outputs[:] = 1e308  # their sum is past every float
    assert [decode_record(row).status for row in encode_records(given, "m")] == ["ok"]
