import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from tests.unit.training.project import NAMES, PLAN, REGRESSION, MemoryBlobs, packed, profile, spec, split, trained

from trimtab.core.clock import DAY
from trimtab.core.ids import canonical
from trimtab.datasets.frozen import FrozenSplit, freeze
from trimtab.errors import NotEnoughData, ParityError, ProjectError, SchemaError
from trimtab.registry.bundle import load
from trimtab.stats.metrics import evaluate, losses
from trimtab.training.export import compare_exported
from trimtab.training.result import MEASURED, TrainingResult
from trimtab.training.run import Champion, daily_means, one_row_p99, train


def test_two_processes_make_the_same_version():
    root = Path(__file__).resolve().parents[3]
    path = os.pathsep.join([str(root / "src"), str(root)])
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.training.project"],
            cwd=root,
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    versions = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert len(versions) == 1
    assert len(versions.pop()) == 64


@pytest.mark.parametrize("changes", [{"seed": 4}, {"params": {"num_leaves": 5}}, {"code_revision": "abd"}])
def test_what_goes_in_shows_in_the_version(changes):
    assert packed(MemoryBlobs(), **changes).version != packed(MemoryBlobs()).version


def test_the_result_is_json_and_survives_it():
    result = packed(MemoryBlobs(), params={"num_leaves": 7})
    value = result.to_builtins()
    assert TrainingResult.from_builtins(json.loads(canonical(value))) == result
    assert set(MEASURED) <= set(value)
    again = packed(MemoryBlobs(), params={"num_leaves": 7}).to_builtins()
    differing = {name for name in value if value[name] != again[name]}
    assert differing <= set(MEASURED)


def test_the_bundle_holds_what_was_judged():
    blobs = MemoryBlobs()
    data = split()
    result = packed(blobs, data=data)
    bundle = load(blobs, result.version)
    assert bundle.manifest.dataset_digest == result.dataset == data.digest
    assert bundle.manifest.trained_until == data.trained_until == 22 * DAY
    assert bundle.plan == PLAN
    assert bundle.profile.startswith(str(result.rows).encode())
    assert bundle.size_bytes == result.size_bytes > 1000
    for text in (data.digest, "`calendar.a`", "log_loss", "1970-01-23T00:00:00Z", "nothing else"):
        assert text in bundle.card


def test_metrics_are_those_of_the_exported_model_on_the_held_out_rows():
    data = split()
    model = trained(data=data)
    said = model.exported.predict(data.holdout.X)
    assert model.metrics == pytest.approx(evaluate("binary", data.holdout.y, said))
    assert model.metrics["roc_auc"] > 0.8
    assert (model.rows, model.holdout_rows) == (len(data.train), len(data.holdout))
    assert model.exported.parity.rows == len(data.train) + len(data.holdout)


def test_regression_works_the_same_way():
    data = split(regression_task=True)

    def ridge(part, params):
        return Ridge(**params).fit(np.nan_to_num(part.X), part.y)

    holes_filled = FrozenSplit(*(filled(part) for part in (data.train, data.holdout)), data.trained_until, data.cutoff)
    model = trained(data=holes_filled, task=REGRESSION, fit=ridge, params={"alpha": 2.0})
    assert model.exported.parity.flipped == 0
    assert all(np.isfinite(list(model.metrics.values())))
    assert "squared_error" in model.card


def filled(part):
    ids = [str(n) for n in range(len(part))]
    return freeze(np.nan_to_num(part.X), part.y, part.at, names=part.names, ids=ids)


def champion(**changes):
    def half(X):
        return np.full(len(X), 0.5)

    return Champion(
        **{"version": "c" * 64, "trained_until": 5 * DAY, "plan_digest": PLAN.digest, "predict": half} | changes
    )


def test_the_champion_is_scored_on_the_same_held_out_rows():
    data = split()
    model = trained(data=data, champion=champion())
    y = data.holdout.y
    gain = losses("log_loss", y, np.full(len(y), 0.5)) - losses("log_loss", y, model.exported.predict(data.holdout.X))
    assert model.champion.metrics["log_loss"] == pytest.approx(np.log(2))
    assert len(model.champion.daily_gains) == 7
    first = data.holdout.at // DAY == data.holdout.at[0] // DAY
    assert model.champion.daily_gains[0] == pytest.approx(gain[first].mean())
    assert model.champion.skipped == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trained_until": 25 * DAY}, "learned from rows of the held-out tail"),
        ({"plan_digest": "other"}, "other features"),
    ],
)
def test_a_champion_that_cannot_be_scored_fairly_is_not_scored(changes, why):
    score = trained(champion=champion(**changes)).champion
    assert why in score.skipped
    assert (score.metrics, score.daily_gains) == ({}, ())


def test_a_champion_with_other_features_is_scored_on_its_own():
    data = split()
    own = np.ones((len(data.holdout), 9), np.float32)
    seen = []

    def predict(X):
        seen.append(X.shape)
        return np.full(len(X), 0.4)

    score = trained(data=data, champion=champion(plan_digest="other", predict=predict, holdout=own)).champion
    assert seen == [own.shape]
    assert score.skipped == ""


def test_without_a_champion_the_result_says_so():
    result = packed(MemoryBlobs())
    assert (result.champion, result.champion_metrics, result.holdout_daily_gains) == ("", {}, [])
    assert result.champion_skipped == "there is no champion"


def test_a_training_function_cannot_change_the_frozen_rows():
    def careless(part, params):
        part.X[:] = 0

    with pytest.raises(ValueError, match="read-only"):
        trained(fit=careless)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"fit": lambda _data, _params: None}, ProjectError, "returned nothing"),
        ({"params": {"x": {1, 2}}}, ProjectError, "not JSON"),
        ({"params": {"x": float("nan")}}, ProjectError, "not JSON"),
        (
            {"plan": msgspec.structs.replace(PLAN, parts=(msgspec.structs.replace(PLAN.parts[0], features=("z",)),))},
            SchemaError,
            "columns of the plan",
        ),
    ],
)
def test_a_spec_that_cannot_work_is_refused(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        trained(**changes)


def test_a_binary_label_of_another_value_is_refused():
    data = split()
    odd = freeze(data.train.X, data.train.y * 2, data.train.at, names=NAMES, ids=["x"] * len(data.train))
    with pytest.raises(SchemaError, match="neither 0 nor 1"):
        trained(data=FrozenSplit(odd, data.holdout, data.trained_until, data.cutoff))


def test_an_exporter_that_disagrees_stops_the_run():
    class Disagrees:
        def export(self, estimator, rows, *, task):
            zeros = np.zeros(len(rows))
            compare_exported(zeros + 1, zeros, binary=True)

    with pytest.raises(ParityError, match="largest difference 1"):
        trained(exporter=Disagrees())


def test_too_short_a_history_is_refused():
    with pytest.raises(NotEnoughData):
        split(days=10)


def test_the_p99_of_one_row_is_the_one_that_one_in_a_hundred_exceeds():
    cost = [1] * 980 + [100] * 20

    class Clock:
        now, calls = 0, 0

    def predict(rows):
        assert rows.shape == (1, 3)
        turn = Clock.calls - 50
        Clock.now += cost[turn] * 1_000_000 if turn >= 0 else 10**12
        Clock.calls += 1

    assert one_row_p99(predict, np.zeros((7, 3), np.float32), timer=lambda: Clock.now) == 100.0


def test_days_without_rows_have_no_mean():
    assert daily_means(np.array([0, 5 * DAY]), np.array([1.0, 2.0])) == (1.0, 2.0)


def test_nothing_held_out_leaves_the_metrics_empty():
    data = split()
    empty = freeze(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int64), names=NAMES, ids=[])
    model = trained(data=FrozenSplit(data.train, empty, data.trained_until, data.cutoff), champion=champion())
    assert model.metrics == {}
    assert model.champion.skipped == "nothing was held out"
    assert model.p99_ms > 0


def test_infinities_disagree_only_with_something_else():
    both = np.array([np.inf, np.nan, 1.0])
    assert compare_exported(both, both, binary=False).largest_difference == 0.0
    with pytest.raises(ParityError):
        compare_exported(both, np.array([np.inf, 0.0, 1.0]), binary=False)


def test_a_flip_within_the_tolerance_is_counted_but_does_not_refuse():
    parity = compare_exported(np.array([0.49999999]), np.array([0.50000001]), binary=True)
    assert (parity.flipped, parity.share_beyond) == (1, 0.0)


def test_train_needs_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Exporter:
        def export(self, estimator, rows, *, task):
            from trimtab.training.export import Exported

            def predict(X):
                return np.clip(np.nan_to_num(X[:, 0]), 0.01, 0.99).astype(np.float64)

            same = predict(rows)
            return Exported(b"m", "model.onnx", "onnx", predict, compare_exported(same, same, binary=True), {})

    model = train(
        spec(fit=lambda _data, _params: "estimator"), split(), exporter=Exporter(), profile=profile, timer=lambda: 0
    )
    assert model.train_seconds == 0.0
    assert not list(tmp_path.iterdir())
