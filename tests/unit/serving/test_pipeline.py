import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.serving.parts import Linear, Reader, batch_of, manifest_of, small_plan

from trimtab.errors import BundleCorrupt, ParityError, SchemaError
from trimtab.features.batch import FeatureBatch
from trimtab.serving.pipeline import Pipeline, deploy, infer, postprocess, preprocess, read_features


def deployed(**more):
    plan = small_plan()
    names = {name: "mod" for name in ("preprocess", "postprocess") if more.get(name[:3] if name[1] == "r" else "post")}
    outputs = more.pop("outputs", 1)
    return deploy(
        "v1",
        manifest_of(plan, outputs=outputs, **names),
        plan,
        reader=Reader(),
        runtime=Linear(0.5, outputs=outputs),
        **more,
    )


def clock(step=1_000_000):
    ticks = itertools.count(step=step)
    return lambda: next(ticks)


def test_each_stage_alone():
    one = deployed(pre=lambda values: values * 2, post=lambda outputs: -outputs)
    read = read_features(one, batch_of("r1", "r2"))
    assert read.values.tolist() == [[1, 2], [1, 2]]
    prepared = preprocess(one, read.values)
    assert prepared.tolist() == [[2, 4], [2, 4]]
    outputs = infer(one, prepared)
    assert outputs.tolist() == [[6.5], [6.5]]
    assert postprocess(one, outputs).tolist() == [-6.5, -6.5]


def test_the_whole_with_its_timings():
    answers = Pipeline(clock()).predict(deployed(), batch_of("r1"), arm="canary", rollout="ro")
    assert answers.outputs.tolist() == [3.5]
    assert answers.outputs.dtype == np.float64
    assert (answers.version, answers.arm, answers.rollout) == ("v1", "canary", "ro")
    assert answers.timings == (0, 1000, 1000, 1000, 1000, 0)


@pytest.mark.parametrize(
    ("stage", "other", "answer"),
    [
        (
            "features",
            lambda deployed, batch: FeatureBatch(np.array([[5, 5]], np.float32), np.empty((1, 0), np.float32), {}, ()),
            10.5,
        ),
        ("preprocess", lambda deployed, values: values * 10, 30.5),
        ("infer", lambda deployed, values: np.full((len(values), 1), 9, np.float32), 9),
        ("postprocess", lambda deployed, outputs: outputs[:, 0].astype(np.float64) + 100, 103.5),
    ],
)
def test_each_stage_is_replaced_alone_and_the_others_are_as_they_were(stage, other, answer):
    called = []

    def replaced(*arguments):
        called.append(stage)
        return other(*arguments)

    pipeline = Pipeline(clock(), **{stage: replaced})
    assert pipeline.predict(deployed(), batch_of("r1")).outputs.tolist() == [answer]
    assert called == [stage]


def test_a_model_is_replaced_without_a_touch_to_the_stages():
    first, second = deployed(), replace(deployed(), version="v2", runtime=Linear(1000.0))
    pipeline = Pipeline(clock())
    answers = [pipeline.predict(one, batch_of("r1")) for one in (first, second)]
    assert [(one.version, one.outputs.tolist()) for one in answers] == [("v1", [3.5]), ("v2", [1003])]


def test_given_features_are_not_read_again():
    one = deployed()
    features = FeatureBatch(np.array([[1, 1]], np.float32), np.empty((1, 0), np.float32), {}, ())
    answers = Pipeline(clock()).predict(one, batch_of("r1"), features=features)
    assert answers.outputs.tolist() == [2.5]
    assert one.reader.reads == []


def test_score_says_what_predict_says():
    one = deployed(post=lambda outputs: outputs * 3)
    pipeline = Pipeline(clock())
    answers = pipeline.predict(one, batch_of("r1", "r2"))
    assert pipeline.score(one, answers.features).tolist() == answers.outputs.tolist()


def test_several_outputs_stay_a_matrix():
    assert Pipeline(clock()).predict(deployed(outputs=3), batch_of("r1", "r2")).outputs.shape == (2, 3)


def test_the_wrong_number_of_features_is_the_callers_fault():
    features = FeatureBatch(np.zeros((1, 3), np.float32), np.empty((1, 0), np.float32), {}, ())
    with pytest.raises(SchemaError, match="number of features"):
        Pipeline(clock()).predict(deployed(), batch_of("r1"), features=features)


def test_a_module_that_loses_rows_is_found():
    with pytest.raises(ParityError, match="another number of answers"):
        Pipeline(clock()).predict(deployed(post=lambda outputs: outputs[:1]), batch_of("r1", "r2"))
    with pytest.raises(ParityError, match="no matrix"):
        Pipeline(clock()).predict(deployed(post=lambda outputs: outputs[:, :0]), batch_of("r1"))


def test_parts_that_do_not_belong_together_are_refused():
    plan, other = small_plan(), small_plan("y")
    with pytest.raises(BundleCorrupt, match="the plan"):
        deploy("v", manifest_of(other), plan, reader=Reader(), runtime=Linear(0))
    with pytest.raises(BundleCorrupt, match="not wired"):
        deploy("v", replace_pre(manifest_of(plan)), plan, reader=Reader(), runtime=Linear(0))
    with pytest.raises(BundleCorrupt, match="not wired"):
        deploy("v", manifest_of(plan), plan, reader=Reader(), runtime=Linear(0), post=lambda outputs: outputs)


def replace_pre(manifest):
    import msgspec

    return msgspec.structs.replace(manifest, preprocess="mod")


def test_a_deployed_version_is_a_value():
    with pytest.raises(AttributeError):
        deployed().version = "other"
    assert replace(deployed(), version="w").version == "w"
