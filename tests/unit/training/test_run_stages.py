"""Code before and after the model, in training: what is fitted, what is judged, what is refused."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from tests.unit.registry.memory import MemoryBlobs
from tests.unit.training.project import MODULE, PLAN, REGRESSION, fit, spec, split, trained

from trimtab.adapters.models.export import OnnxExporter
from trimtab.core.clock import DAY
from trimtab.datasets.frozen import Dataset, FrozenSplit
from trimtab.errors import InputError, ProjectError
from trimtab.registry.assemble import assemble
from trimtab.stats.metrics import evaluate, losses
from trimtab.training.run import Champion, train
from trimtab.training.stages import Stages
from trimtab.training.task import multiclass


def before(values):
    return np.column_stack([np.nan_to_num(values), np.nan_to_num(values[:, 0]) ** 2])


def after(outputs):
    return 0.1 + 0.5 * outputs


class Seen:
    """A training function that keeps what it was given."""

    def __call__(self, data, params):
        self.data = data
        self.model = LogisticRegression().fit(data.X, data.y)
        return self.model


def run(stages, **changes):
    rows = {}

    def profile(data, on_train, holdout, on_holdout):
        rows.update(train=data.X, holdout=holdout.X, on_train=on_train, on_holdout=on_holdout)
        return b"{}"

    data = changes.pop("data", split())
    options = {name: changes.pop(name) for name in ("champion", "timer") if name in changes}
    fit = changes.pop("fit", Seen())
    made = train(
        spec(fit=fit, stages=stages, **changes),
        data,
        exporter=OnnxExporter(),
        profile=profile,
        **{"timer": lambda: 0} | options,
    )
    return made, fit, rows, data


def test_the_estimator_is_fitted_on_what_preprocess_makes_and_its_answers_are_what_postprocess_makes():
    made, fit, rows, data = run(Stages(before, after))
    np.testing.assert_array_equal(fit.data.X, before(data.train.X).astype(np.float32))
    assert fit.data.feature_names == ("prepared_0", "prepared_1", "prepared_2", "prepared_3")
    assert made.exported.parity.rows == len(data.train) + len(data.holdout)
    by_hand = 0.1 + 0.5 * fit.model.predict_proba(before(data.holdout.X).astype(np.float32))[:, 1]
    np.testing.assert_allclose(rows["on_holdout"], by_hand, atol=1e-6)
    assert made.metrics == pytest.approx(evaluate("binary", data.holdout.y, by_hand), abs=1e-5)
    assert made.train_metrics == pytest.approx(evaluate("binary", data.train.y, rows["on_train"]))


def test_the_profile_and_the_dataset_are_of_the_features_as_they_are():
    made, _, rows, data = run(Stages(before, after))
    assert rows["train"] is data.train.X
    assert rows["holdout"] is data.holdout.X
    assert np.isnan(rows["train"]).any()
    assert made.dataset == data.digest


def test_columns_keep_their_names_when_there_are_as_many():
    _, fit, _, data = run(Stages(np.nan_to_num, None))
    assert fit.data.feature_names == data.train.names


def test_the_challenger_is_compared_as_it_will_serve_and_the_champion_is_given_features():
    asked = []

    def predict(values):
        asked.append(values)
        return np.full(len(values), 0.5)

    made, _, rows, data = run(Stages(before, after), champion=Champion("c" * 64, 5 * DAY, PLAN.digest, predict))
    assert asked[0] is data.holdout.X
    y = data.holdout.y
    gain = losses("log_loss", y, np.full(len(y), 0.5)) - losses("log_loss", y, rows["on_holdout"])
    first = data.holdout.at // DAY == data.holdout.at[0] // DAY
    assert made.champion.daily_gains[0] == pytest.approx(gain[first].mean())


def test_the_latency_that_a_floor_judges_holds_the_stages():
    clock = [0]

    def slow(outputs):
        clock[0] += 5_000_000
        return outputs

    made, *_ = run(Stages(np.nan_to_num, slow), timer=lambda: clock[0])
    assert made.p99_ms == 5.0


def test_without_a_held_out_tail():
    whole = split()
    none = type(whole.holdout)(
        whole.holdout.X[:0], whole.holdout.y[:0], whole.holdout.at[:0], whole.holdout.names, "none"
    )
    made, *_ = run(Stages(before, after), data=FrozenSplit(whole.train, none, whole.trained_until, whole.cutoff))
    assert made.metrics == {}
    assert made.train_metrics["roc_auc"] > 0.8


def test_no_stages_change_nothing():
    assert trained(stages=Stages()).exported.data == trained().exported.data
    assert not Stages()


def standardised(values):
    return (np.nan_to_num(values) - np.nanmean(values)) / np.nanstd(values)


REFUSED = {
    "a mean over rows": (Stages(standardised, None), "preprocess says something else of a row when other rows"),
    "fewer rows": (Stages(lambda values: np.nan_to_num(values[:-1]), None), "another number of rows"),
    "no matrix": (Stages(lambda values: np.nan_to_num(values[:, 0]), None), "a row of columns for each row"),
    "a rank over rows": (
        Stages(np.nan_to_num, lambda outputs: outputs.argsort(axis=0) / max(len(outputs), 2)),
        "postprocess says something else of a row",
    ),
    "two numbers for one": (
        Stages(np.nan_to_num, lambda outputs: np.hstack([outputs, outputs])),
        "another number of outputs than the task has",
    ),
    "no probability in a few rows": (
        Stages(np.nan_to_num, lambda outputs: np.where(outputs > 0.99, 2.0, outputs)),
        "gives no probabilities",
    ),
    "no probability": (Stages(np.nan_to_num, lambda outputs: outputs * 3), "gives no probabilities"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_code_that_would_answer_otherwise_than_it_was_judged_is_refused(name):
    stages, words = REFUSED[name]
    with pytest.raises(ProjectError, match=words):
        run(stages)


def test_a_number_goes_through_postprocess():
    def square(part, params):
        return Ridge().fit(part.X, part.y)

    data = split(regression_task=True)
    made, _, rows, _ = run(Stages(np.nan_to_num, lambda outputs: outputs * 2), data=data, task=REGRESSION, fit=square)
    twice = 2 * made.exported.predict(np.nan_to_num(data.holdout.X))
    np.testing.assert_allclose(rows["on_holdout"], twice, atol=1e-6)


@pytest.mark.parametrize("stages", [Stages(np.nan_to_num, None), Stages(None, None, "features.scaling")])
def test_what_was_judged_with_a_stage_is_not_packed_without_it(stages):
    made, *_ = run(stages, fit=fit)
    with pytest.raises(InputError, match="preprocess"):
        assemble(MemoryBlobs(), made, modules={"features.calendar": MODULE})


def three_classes():
    data = split()
    parts = (
        Dataset(part.X, np.digitize(np.nan_to_num(part.X[:, 0]), [-0.5, 0.5]).astype(float), part.at, part.names, "ids")
        for part in (data.train, data.holdout)
    )
    return FrozenSplit(*parts, data.trained_until, data.cutoff)


def test_classes_go_through_postprocess_side_by_side():
    def softer(outputs):
        found = np.sqrt(outputs)
        return found / found.sum(axis=1, keepdims=True)

    data = three_classes()
    classes = multiclass(classes=["low", "middle", "high"])
    made, fit, rows, _ = run(Stages(before, softer), data=data, task=classes)
    by_hand = softer(fit.model.predict_proba(before(data.holdout.X).astype(np.float32)))
    np.testing.assert_allclose(rows["on_holdout"], by_hand, atol=1e-5)
    assert made.metrics == pytest.approx(evaluate("multiclass", data.holdout.y, by_hand), abs=1e-4)
    with pytest.raises(ProjectError, match="do not add up to 1"):
        run(Stages(before, np.sqrt), data=data, task=classes)
