"""A user's own code before and after a model: declared, packed, loaded, run, and refused when it cannot be right."""

import numpy as np
import pytest
from tests.e2e.worker_house import onnx_model
from tests.unit.models.test_register_foreign import ask, close, dispatcher

import trimtab as tt
from trimtab.app.alone import register_model
from trimtab.app.home import Home
from trimtab.errors import InputError, ModelFailed, ProjectError
from trimtab.registry.bundle import load

BEFORE = "import numpy as np\n\ndef preprocess(values):\n    return np.column_stack([values.sum(axis=1) * 1000, values[:, 0] * 0])\n"
AFTER = "def postprocess(outputs):\n    return outputs.clip(0.2, 0.8)\n"
TASK = tt.binary(positive="yes")


def register(tmp_path, before=BEFORE, after=AFTER, columns=("a", "b", "c")):
    stages = {}
    for stage, text in (("preprocess", before), ("postprocess", after)):
        if text:
            stages[stage] = tmp_path / f"my_{stage}.py"
            stages[stage].write_text(text)
    return register_model(tmp_path / "home", onnx_model(0.0), name="m", task=TASK, columns=columns, stages=stages)


def test_both_stages_run_around_the_model(tmp_path):
    """Three columns in; the model takes two: their sum in thousands, and zero."""
    version = register(tmp_path)
    bundle = load(Home(tmp_path / "home").blobs(), version)
    assert bundle.modules == {"preprocess": BEFORE, "postprocess": AFTER}
    serving = dispatcher(tmp_path / "home", version, model="m")
    answers = ask(serving, {"a": 0.1, "b": 0.1, "c": 0.1}, {"a": 9, "b": 0, "c": 0}, model="m")
    assert answers[0]["prediction"] == pytest.approx(1 / (1 + np.exp(-0.3)), abs=1e-6)
    assert answers[1]["prediction"] == pytest.approx(0.8, abs=1e-6)
    close(serving)


def test_another_stage_is_another_version(tmp_path):
    assert (
        len({register(tmp_path), register(tmp_path, after=AFTER.replace("0.8", "0.9")), register(tmp_path, after="")})
        == 3
    )


@pytest.mark.parametrize(
    ("before", "error", "words"),
    [
        ("def other(values): return values", ProjectError, "no function preprocess"),
        ("import pandas\ndef preprocess(values): return values", ProjectError, "imports more than"),
        ("def preprocess(", ProjectError, "not valid Python"),
        (
            "raise OSError('x')\ndef preprocess(values): return values",
            ProjectError,
            "raises an error when it is loaded",
        ),
        ("def preprocess(values): return values / values['a']", ModelFailed, "IndexError"),
        ("def preprocess(values): return values[:, :1]", InputError, "another number of columns"),
    ],
)
def test_code_that_cannot_be_right_is_refused_when_it_is_registered(tmp_path, before, error, words):
    with pytest.raises(error, match=words):
        register(tmp_path, before=before)


def test_a_stage_that_fails_on_a_row_fails_that_row_by_name(tmp_path):
    before = BEFORE.replace("    return", "    if (values == 13).any():\n        raise KeyError('13')\n    return")
    serving = dispatcher(tmp_path / "home", register(tmp_path, before=before), model="m")
    bad, good = ask(serving, {"a": 13, "b": 0, "c": 0}, {"a": 0, "b": 0, "c": 0}, model="m")
    assert bad.got == "KeyError"
    assert good["prediction"] == 0.5
    close(serving)


def test_an_estimator_is_checked_on_what_its_stage_makes_of_the_rows(tmp_path):
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    (tmp_path / "pre.py").write_text("def preprocess(values):\n    return values[:, :2] ** 2\n")
    model = LogisticRegression().fit(rows[:, :2] ** 2, rows[:, 0] ** 2 > 1)
    given = {"name": "m", "task": TASK, "columns": ["a", "b", "c"], "rows": rows}
    version = register_model(tmp_path / "home", model, stages={"preprocess": tmp_path / "pre.py"}, **given)
    serving = dispatcher(tmp_path / "home", version, model="m")
    answer = ask(serving, {"a": 1.5, "b": 0.5, "c": 7}, model="m")[0]["prediction"]
    assert answer == pytest.approx(model.predict_proba([[2.25, 0.25]])[0, 1], abs=1e-5)
    close(serving)


def test_a_stage_that_is_none(tmp_path):
    with pytest.raises(InputError, match="no such stage"):
        register_model(tmp_path / "h", b"", name="m", task=TASK, columns=["a"], stages={"encode": "x.py"})
    with pytest.raises(InputError, match="cannot be read"):
        register_model(tmp_path / "h", b"", name="m", task=TASK, columns=["a"], stages={"preprocess": tmp_path / "no"})
