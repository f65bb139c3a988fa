"""One bad project per rule: each message names what is wrong and the line that says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trimtab.adapters.project.file import load_project
from trimtab.app.operations import check_project
from trimtab.core.clock import DAY
from trimtab.datasets.validation import validate
from trimtab.errors import ProjectError
from trimtab.loop.project import Problem, check, check_history

# Each line of a declaration has a name, so that a test can swap it and find its number in the file.
LINES = {
    "import": "import trimtab as tt",
    "when": "from datetime import datetime",
    "shop": 'shop = tt.Entity("shop")',
    "order": 'order = tt.Entity("order")',
    "fit": "def fit(data, params): ...",
    "sales": 'sales = tt.Events("sales", time="sold", known="told", keys=[shop], schema={SALES}, id="order")',
    "sky": 'sky = tt.Table("sky", time="hour", known="seen", keys=[shop], schema={"wind": float, "name": str})',
    "visits": 'visits = tt.Requests("visits", id="visit", at="asked", keys=[shop], inputs={"basket": float})',
    "form": 'form = tt.windows(sales, by=[shop], over=["3h"], count="*", mean=["amount"])',
    "wind": 'wind = tt.latest(sky, ["wind"], ttl="3h")',
    "label": 'label = tt.label(sales, "bought", on="order", matures="1d")',
    "policy": "policy = {}",
    "features": 'features = [form, wind, "extra"]',
    "model": 'model = tt.Model("m", task=tt.binary(positive="bought"), requests=visits, features=features, '
    "label=label, train=fit, **policy)",
}
SALES = '{"amount": float, "bought": bool, "note": str, "due": datetime}'
MODULE = "import numpy as np\nFEATURES = ('size',)\ndef compute(columns):\n    return {'size': columns['basket']}\n"


def write(root: Path, *, module: str | None = MODULE, after: str = "", **changes: str) -> list[Problem]:
    lines = LINES | changes
    text = "\n".join(line.replace("{SALES}", SALES) for line in lines.values())
    (root / "project.py").write_text(f"{text}\n{after}")
    if module is not None:
        (root / "extra.py").write_text(module)
    return check(load_project(root))


def place(name: str) -> str:
    return f"project.py:{list(LINES).index(name) + 1}"


def test_the_good_project_has_no_problem(tmp_path):
    assert write(tmp_path) == []


def test_what_the_hints_about_floors_and_budgets_say_can_be_written(tmp_path):
    policy = 'policy = {"gates": [tt.at_most("log_loss", 0.5)], "budget": (2, "7d")}'
    assert write(tmp_path, policy=policy) == []
    spec = load_project(tmp_path).model("m")
    assert (spec.budget.runs, spec.budget.period) == (2, 7 * DAY)
    assert [(floor.measure, floor.side) for floor in spec.floors] == [("log_loss", "at_most")]


CASES = {
    "window on a missing column": (
        {"form": 'form = tt.windows(sales, by=[shop], over=["3h"], mean=["amuont"])'},
        "window (mean) of a column that 'sales' does not have",
        "'amuont'",
        "did you mean 'amount'?",
        "form",
    ),
    "window on text": (
        {"form": 'form = tt.windows(sales, by=[shop], over=["3h"], max=["note"])'},
        "window (max) of a column that is not a number",
        "'note' of type str",
        "on-request module",
        "form",
    ),
    "window on a time": (
        {"form": 'form = tt.windows(sales, by=[shop], over=["3h"], max=["due"])'},
        "window (max) of a column that is not a number",
        "'due' of type time",
        "on-request module",
        "form",
    ),
    "by an entity the source lacks": (
        {"form": 'form = tt.windows(sales, by=[shop, tt.Entity("shpo")], over=["3h"], count="*")'},
        "windows by 'shpo', which is not a key of 'sales'",
        "keys shop",
        "did you mean 'shop'?",
        "form",
    ),
    "by an entity the requests lack": (
        {"visits": 'visits = tt.Requests("visits", id="visit", at="asked", keys=[], inputs={"basket": float})'},
        "windows by 'shop', which is not a key of 'visits'",
        "keys none",
        "add it to keys= of 'visits'",
        "form",
    ),
    "windows over requests": (
        {"form": 'form = tt.windows(visits, by=[shop], over=["3h"], count="*")'},
        "a view reads requests: 'visits'",
        "",
        "use tt.Events or a tt.Table",
        "form",
    ),
    "latest of a missing column": (
        {"wind": 'wind = tt.latest(sky, ["winds"], ttl="3h")'},
        "latest value of a column that 'sky' does not have",
        "'winds'",
        "did you mean 'wind'?",
        "wind",
    ),
    "latest of text": (
        {"wind": 'wind = tt.latest(sky, ["name"], ttl="3h")'},
        "latest value of a column that is not a number",
        "'name' of type str",
        "",
        "wind",
    ),
    "latest by a key the requests lack": (
        {"visits": 'visits = tt.Requests("visits", id="visit", at="asked", keys=[], inputs={"basket": float})'},
        "latest values of 'sky' need the key 'shop', which 'visits' do not have",
        "keys none",
        "",
        "wind",
    ),
    "label sent with the request": (
        {
            "visits": 'visits = tt.Requests("visits", id="visit", at="asked", keys=[shop], '
            'inputs={"basket": float, "bought": bool})'
        },
        "the label of 'm' is sent with 'visits': the answer leaks",
        "'bought'",
        "not known when the question is asked",
        "visits",
    ),
    "label known by an input": (
        {
            "sales": LINES["sales"].replace('known="told"', 'known="due"'),
            "visits": 'visits = tt.Requests("visits", id="visit", at="asked", keys=[shop], inputs={"due": datetime})',
        },
        "'sales' is declared known by a column that callers send when they ask: the answer leaks",
        "known='due', which is an input of 'visits'",
        "when the outcome could be known",
        "sales",
    ),
    "view of the label's own row": (
        {
            "sales": LINES["sales"].replace("keys=[shop]", "keys=[shop, order]"),
            "visits": 'visits = tt.Requests("visits", id="order", at="asked", keys=[shop, order], inputs={"basket": float})',
            "form": 'form = tt.windows(sales, by=[order], over=["3h"], mean=["amount"])',
        },
        "a feature of 'm' is drawn from what is only known after the request: its own row of 'sales'",
        "keyed by 'order'",
        "key the view by an entity that has a past",
        "form",
    ),
    "latest of the request's own row": (
        {
            "visits": 'visits = tt.Requests("visits", id="order", at="asked", keys=[shop, order], inputs={"basket": float})',
            "sky": LINES["sky"].replace("keys=[shop]", "keys=[order]"),
        },
        "a feature of 'm' is drawn from what is only known after the request: its own row of 'sky'",
        "keyed by 'order'",
        "",
        "wind",
    ),
    "label from the requests": (
        {"label": 'label = tt.label(visits, "basket", on="visit", matures="1d")'},
        "the label of 'm' comes from the requests themselves: the answer leaks",
        "'visits'",
        "declare tt.Events",
        "label",
    ),
    "label from a table": (
        {"label": 'label = tt.label(sky, "wind", on="name", matures="1d")'},
        "the label of 'm' comes from a table",
        "'sky'",
        "",
        "label",
    ),
    "label column missing": (
        {"label": 'label = tt.label(sales, "bougth", on="order", matures="1d")'},
        "label names a column that 'sales' does not have",
        "'bougth'",
        "did you mean 'bought'?",
        "label",
    ),
    "label of the wrong type": (
        {"label": 'label = tt.label(sales, "amount", on="order", matures="1d")'},
        "label 'amount' has the wrong type",
        "float",
        "a binary task needs bool",
        "label",
    ),
    "label on a missing column": (
        {"label": 'label = tt.label(sales, "bought", on="ordr", matures="1d")'},
        "on= names a column that 'sales' does not have",
        "'ordr'",
        "did you mean 'order'?",
        "label",
    ),
    "label on a number": (
        {"label": 'label = tt.label(sales, "bought", on="amount", matures="1d")'},
        "on='amount' is not text, as request ids are",
        "float",
        "",
        "label",
    ),
    "label that matures at once": (
        {"label": 'label = tt.label(sales, "bought", on="order", matures="0h")'},
        "matures must be longer than nothing",
        "0 µs",
        "",
        "label",
    ),
    "unknown metric": (
        {"policy": 'policy = {"gates": [tt.at_least("roc_acu", 0.7)]}'},
        "a floor of 'm' names an unknown metric",
        "'roc_acu'",
        "did you mean 'roc_auc'?",
        "model",
    ),
    "metric of another task": (
        {"policy": 'policy = {"gates": [tt.at_least("r2", 0.7)]}'},
        "a floor of 'm' names an unknown metric",
        "'r2'",
        "roc_auc",
        "model",
    ),
    "floor the wrong way round": (
        {"policy": 'policy = {"gates": [tt.at_least("log_loss", 0.7)]}'},
        "a floor of 'm' asks for a bad model",
        "at_least('log_loss', 0.7)",
        "write tt.at_most('log_loss', ...)",
        "model",
    ),
    "unknown loss": (
        {"policy": 'policy = {"gates": [tt.beats_champion("roc_auc")]}'},
        "the champion gate of 'm' compares another loss",
        "'roc_auc'",
        "use 'log_loss'",
        "model",
    ),
    "two champion gates": (
        {"policy": 'policy = {"gates": [tt.beats_champion("log_loss")] * 2}'},
        "'m' has more than one champion gate",
        "2",
        "",
        "model",
    ),
    "canary shares that fall": (
        {"policy": 'policy = {"rollout": [tt.shadow(), tt.canary(0.5), tt.canary(0.1)]}'},
        "the rollout of 'm' does not grow",
        "0, 0.5, 0.1",
        "order the steps by share",
        "model",
    ),
    "champion gate without a shadow": (
        {"policy": 'policy = {"rollout": [tt.canary(0.5)], "gates": [tt.beats_champion("log_loss")]}'},
        "'m' has a champion gate but no shadow step",
        "",
        "put tt.shadow() first",
        "model",
    ),
    "holdout longer than the span": (
        {"policy": 'policy = {"on": tt.last("7d"), "holdout": "7d"}'},
        "'m' holds back as much as it learns from",
        "",
        "",
        "model",
    ),
    "train is not a function": (
        {"fit": "fit = 'lightgbm'"},
        "train= of 'm' is not a function",
        "str",
        "",
        "model",
    ),
    "requests that are none": (
        {"model": LINES["model"].replace("requests=visits", "requests=sky")},
        "requests= of 'm' is not of requests",
        "'sky' holds table",
        "",
        "model",
    ),
    "no module of that name": (
        {"features": 'features = [form, "extar"]'},
        "no view and no module is named 'extar'",
        "",
        "did you mean 'extra'?",
        "model",
    ),
    "column declared twice": (
        {"sky": LINES["sky"].replace('"wind": float', '"wind": float, "shop": int')},
        "column 'shop' of 'sky' is declared twice, differently",
        "int in the schema, str as key, id or time",
        "",
        "sky",
    ),
    "range of text": (
        {"sky": LINES["sky"].replace('"name": str', '"name": tt.column(str, between=(1, 2))')},
        "the range of column 'name' of 'sky' cannot be kept",
        "between=(1, 2) of str",
        "",
        "sky",
    ),
    "range upside down": (
        {"sky": LINES["sky"].replace('"wind": float', '"wind": tt.column(float, between=(2, 1))')},
        "the range of column 'wind' of 'sky' cannot be kept",
        "between=(2, 1) of float",
        "",
        "sky",
    ),
    "key named twice": (
        {"sky": LINES["sky"].replace("keys=[shop]", "keys=[shop, shop]")},
        "'sky' names a key twice",
        "shop",
        "",
        "sky",
    ),
    "entity of two types": (
        {"order": 'order = tt.Entity("shop", int)', "sky": LINES["sky"].replace("keys=[shop]", "keys=[order]")},
        "entity 'shop' is declared with two types",
        "int here, str at project.py:3",
        "",
        "order",
    ),
    "an input called at": (
        {"visits": LINES["visits"].replace('"basket": float', '"basket": float, "at": float')},
        "an input of 'visits' is named 'at'",
        "",
        "'asked'",
        "visits",
    ),
    "an input that holds a quotation mark": (
        {"visits": LINES["visits"].replace('"basket": float', '"basket": float, "size\\"": float')},
        "no request could send an input of this name",
        "'size\"', of 'visits'",
        "a quotation mark",
        "visits",
    ),
    "an input called instances": (
        {"visits": LINES["visits"].replace('"basket": float', '"basket": float, "instances": float')},
        "no request could send an input of this name",
        "'instances', of 'visits'",
        "a list of requests",
        "visits",
    ),
    "a key with a line end": (
        {"shop": 'shop = tt.Entity("shop\\n")'},
        "no request could send a key of this name",
        "'shop\\n', of 'visits'",
        "a control character",
        "shop",
    ),
    "an id with a backslash": (
        {"visits": LINES["visits"].replace('id="visit"', 'id="visit\\\\"')},
        "no request could send an id of this name",
        "of 'visits'",
        "a backslash",
        "visits",
    ),
    "name unfit for an address": (
        {"sky": LINES["sky"].replace('tt.Table("sky"', 'tt.Table("the sky/1"')},
        "a source has a name that cannot stand in an address",
        "'the sky/1'",
        "",
        "sky",
    ),
    "two sources of one name": (
        {"sky": LINES["sky"].replace('tt.Table("sky"', 'tt.Table("sales"')},
        "two sources have the same name",
        "'sales'",
        "the other is at project.py:6",
        "sky",
    ),
    "two views with the same features": (
        {"features": "features = [form, form]"},
        "two views give features of the same name",
        "sales.shop.count_3h",
        "drop one",
        "visits",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_is_named_with_its_line(case, tmp_path):
    changes, what, got, hint, line = CASES[case]
    found = {problem.what: problem for problem in write(tmp_path, **changes)}
    assert what in found
    problem = found[what]
    assert got in problem.got
    assert hint in problem.hint
    assert problem.where == place(line)
    assert str(problem).startswith(f"{place(line)}: {what}")


def test_two_models_of_one_name(tmp_path):
    found = write(tmp_path, after=LINES["model"].replace("model =", "other ="))
    problem = next(item for item in found if item.what == "two models have the same name")
    assert problem.hint == f"the other is at {place('model')}"
    assert problem.where == f"project.py:{len(LINES) + 1}"


def test_all_problems_are_found_not_just_the_first(tmp_path):
    found = write(
        tmp_path,
        wind='wind = tt.latest(sky, ["winds"])',
        label='label = tt.label(sales, "amount", on="ordr", matures="1d")',
        policy='policy = {"gates": [tt.at_least("auc", 0.7)]}',
    )
    assert len(found) == 4


def test_a_project_without_a_model(tmp_path):
    (problem,) = write(tmp_path, model="")
    assert problem.what == "the project declares no model"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("import numpy\nimport pandas\nFEATURES = ('a',)\ndef compute(columns): ...\n", ":2"),
        ("FEATURES = ('a',)\ndef compute(columns):\n    import trimtab\n", ":3"),
        ("FEATURES = ('a',)\ndef compute(columns:\n", ":2"),
        ("def compute(columns): ...\n", ""),
        ("FEATURES = ('a',)\n", ""),
    ],
)
def test_a_module_that_serving_workers_could_not_run(module, line, tmp_path):
    (problem,) = write(tmp_path, module=module)
    assert "'extra'" in problem.what
    assert problem.where.startswith(f"extra.py{line}")


# What only the data shows.


def histories(project, *, known_after, rows=200, early=0):
    sales, visits = project.sources["sales"], project.sources["visits"]
    ids = np.array([f"v{number}" for number in range(rows)])
    asked = np.arange(rows) * 1_000_000
    told = asked + np.asarray(known_after)
    answers = {
        "sold": told + np.where(np.arange(rows) < early, 1, 0),
        "told": told,
        "shop": np.full(rows, "a"),
        "order": ids[::-1],
        "amount": np.ones(rows),
        "bought": np.ones(rows, bool),
        "note": np.full(rows, ""),
        "due": asked,
    }
    answers = {name: values if name == "order" else values[::-1] for name, values in answers.items()}
    return {
        "sales": validate(sales, answers),
        "visits": validate(visits, {"visit": ids, "asked": asked, "shop": np.full(rows, "a"), "basket": np.ones(rows)}),
    }


def test_labels_known_after_the_question_are_fine(tmp_path):
    write(tmp_path)
    project = load_project(tmp_path)
    assert check_history(project, histories(project, known_after=1)) == []


def test_a_label_known_before_its_question_leaks(tmp_path):
    write(tmp_path)
    project = load_project(tmp_path)
    after = np.where(np.arange(200) < 3, 0, 5)  # 1.5 %; a row known at the moment of asking is seen by the request
    (problem,) = check_history(project, histories(project, known_after=after))
    assert problem.what == "labels of 'm' were known before their request was asked: the answer leaks"
    assert problem.got == "3 of 200 labels"
    after = np.where(np.arange(200) < 2, 0, 5)
    assert check_history(project, histories(project, known_after=after)) == []


def test_a_source_known_before_it_happened(tmp_path):
    write(tmp_path)
    project = load_project(tmp_path)
    (problem,) = check_history(project, histories(project, known_after=5, early=3))
    assert problem.what == "'sales' has rows that were known before they happened"
    assert problem.got == "3 of 200"
    assert check_history(project, histories(project, known_after=5, early=2)) == []


def test_labels_that_never_join(tmp_path):
    write(tmp_path)
    project = load_project(tmp_path)
    found = histories(project, known_after=5)
    found["sales"] = validate(project.sources["sales"], dict(found["sales"].columns) | {"order": ["zz"] + ["y"] * 199})
    (problem,) = check_history(project, found)
    assert problem.what == "no label of 'm' joins a request"


def test_a_problem_as_json():
    assert Problem("a", where="f:1").to_json() == {"problem": "a", "where": "f:1"}


MISTYPED = {
    "a gate that is a name": ("policy", 'policy = {"gates": ["roc_auc"]}', "gates= of model 'm'", "model"),
    "gates that are text": ("policy", 'policy = {"gates": "roc_auc"}', "gates= of model 'm' is not a list", "model"),
    "a bound in quotes": ("policy", 'policy = {"gates": [tt.at_least("roc_auc", "0.6")]}', "the bound of", "policy"),
    "a bound that is no number": ("policy", 'policy = {"gates": [tt.at_least("a", float("nan"))]}', "range", "policy"),
    "a latency without unit": ("policy", 'policy = {"gates": [tt.p99_below("50")]}', "not a duration", "policy"),
    "a size that is a number": ("policy", 'policy = {"gates": [tt.size_below(500)]}', "not a size", "policy"),
    "alpha in quotes": ("policy", 'policy = {"gates": [tt.beats_champion("l", alpha="1")]}', "alpha", "policy"),
    "retrain that is text": ("policy", 'policy = {"retrain": "28d"}', "retrain= of model 'm' is not a list", "model"),
    "one trigger, no list": ("policy", 'policy = {"retrain": tt.every("28d")}', "retrain= of model 'm'", "model"),
    "every nothing": ("policy", 'policy = {"retrain": [tt.every("0d")]}', "longer than nothing", "policy"),
    "labels in quotes": ("policy", 'policy = {"retrain": [tt.when_new_labels("9")]}', "whole number", "policy"),
    "a cooldown that is a float": (
        "policy",
        "policy = {'retrain': [tt.when_drifts(cooldown=1.5)]}",
        "cooldown",
        "policy",
    ),
    "slo that is text": ("policy", 'policy = {"slo": "100ms"}', "slo= of model 'm' is of the wrong type", "model"),
    "an slo of a bare number": ("policy", 'policy = {"slo": tt.slo(latency_p99="100")}', "not a duration", "policy"),
    "a rollout of triggers": ("policy", 'policy = {"rollout": [tt.every("28d")]}', "an item of rollout=", "model"),
    "a share in quotes": (
        "policy",
        'policy = {"rollout": [tt.shadow(), tt.canary("0.1")]}',
        "a canary's share",
        "policy",
    ),
    "a span that is text": ("policy", 'policy = {"on": "all"}', "on= of model 'm' is of the wrong type", "model"),
    "a budget that is a number": ("policy", 'policy = {"budget": 4}', "budget= of model 'm'", "model"),
    "a budget without a period": ("policy", 'policy = {"budget": (4,)}', "budget= of model 'm' is not a pair", "model"),
    "a budget of a bare number": ("policy", 'policy = {"budget": (4, "28")}', "period of a budget", "model"),
    "params that are a list": ("policy", 'policy = {"params": [1]}', "params= of model 'm'", "model"),
    "a seed in quotes": ("policy", 'policy = {"seed": "7"}', "seed= of model 'm'", "model"),
    "a fit of one argument": ("fit", "def fit(data): ...", "does not take data and params", "model"),
    "a task that is a word": (
        "model",
        LINES["model"].replace('tt.binary(positive="bought")', '"binary"'),
        "task= of model 'm' is of the wrong type",
        "model",
    ),
    "requests by name": ("model", LINES["model"].replace("=visits", '="visits"'), "requests= of model 'm'", "model"),
    "a label by name": ("model", LINES["model"].replace("=label", '="bought"'), "label= of model 'm'", "model"),
    "a module, no list": ("features", 'features = "features.basket"', "features= of model 'm' is not a list", "model"),
    "windows of a name": (
        "form",
        'form = tt.windows("sales", by=[shop], over=["3h"], count="*")',
        "the source of windows is of the wrong type",
        "form",
    ),
    "windows by a name": ("form", 'form = tt.windows(sales, by=["shop"], over=["3h"], count="*")', "by=", "form"),
    "windows over text": ("form", 'form = tt.windows(sales, by=[shop], over="3h", count="*")', "over=", "form"),
    "latest of a name": ("wind", 'wind = tt.latest("sky", ["wind"])', "the source of latest", "wind"),
    "a label of a name": ("label", 'label = tt.label("sales", "bought", on="order", matures="1d")', "label", "label"),
    "keys that are names": (
        "visits",
        'visits = tt.Requests("visits", id="visit", at="asked", keys=["shop"], inputs={"basket": float})',
        "an item of keys= of 'visits'",
        "visits",
    ),
    "a type that is a list": (
        "sky",
        'sky = tt.Table("s", time="h", known="k", keys=[shop], schema={"w": [1]})',
        "",
        "sky",
    ),
}


@pytest.mark.parametrize("case", MISTYPED)
def test_a_wrong_type_is_one_line_and_no_traceback(case, tmp_path):
    line, text, what, at = MISTYPED[case]
    with pytest.raises(ProjectError) as refused:
        write(tmp_path, **{line: text})
    assert what in refused.value.what
    assert "raises an error" not in refused.value.what
    assert refused.value.where == place(at)
    assert refused.value.got
    found = check_project(tmp_path)["problems"]
    assert [problem["where"] for problem in found] == [place(at)]


@pytest.mark.parametrize(("fault", "said"), [("1 / 0", "ZeroDivisionError"), ("raise SystemExit(3)", "SystemExit")])
def test_a_module_that_raises_is_said_to_raise(fault, said, tmp_path):
    (found,) = write(tmp_path, module=f"{MODULE}{fault}\n")
    assert "raises an error when it is loaded" in found.what
    assert said in found.got
    assert found.where.startswith("extra.py")


def test_a_module_that_is_no_text_is_a_problem(tmp_path):
    write(tmp_path)
    (tmp_path / "extra.py").write_bytes(b"\xff\xfe")
    (found,) = check(load_project(tmp_path))
    assert "not UTF-8" in found.what


STAGES = {
    "no such module": (
        'preprocess="scalin"',
        "def preprocess(values): return values\n",
        "preprocess= of model 'm' names no module of the project: 'scalin'",
        "",
        "did you mean 'scaling'?",
        "",
    ),
    "no such function": (
        'postprocess="scaling"',
        "def preprocess(values): return values\n",
        "module 'scaling' has no function postprocess",
        "functions preprocess",
        "def postprocess(outputs)",
        "",
    ),
    "a function of two": (
        'preprocess="scaling"',
        "\ndef preprocess(values, names): return values\n",
        "preprocess of module 'scaling' does not take one matrix",
        "def preprocess(values, names)",
        "def preprocess(values)",
        "scaling.py:2",
    ),
    "a function of none": (
        'preprocess="scaling"',
        "def preprocess(): return 1\n",
        "preprocess of module 'scaling' does not take one matrix",
        "def preprocess()",
        "def preprocess(values)",
        "scaling.py:1",
    ),
    "more than numpy": (
        'preprocess="scaling"',
        "import numpy\nimport pandas\ndef preprocess(values): return values\n",
        "preprocess module 'scaling' imports more than the standard library and numpy",
        "pandas",
        "it runs in every serving worker",
        "scaling.py:2",
    ),
    "no Python": (
        'preprocess="scaling"',
        "\ndef preprocess(\n",
        "preprocess module 'scaling' is not valid Python",
        "was never closed",
        "",
        "scaling.py:2",
    ),
    "raises": (
        'preprocess="scaling"',
        "1 / 0\ndef preprocess(values): return values\n",
        "preprocess module 'scaling' raises an error when it is loaded",
        "ZeroDivisionError",
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_cannot_run(name, tmp_path):
    policy, text, what, got, hint, where = STAGES[name]
    (tmp_path / "scaling.py").write_text(text)
    (problem,) = write(tmp_path, policy=f"policy = dict({policy})")
    assert what in problem.what
    assert got in problem.got
    assert hint in problem.hint
    assert problem.where == (where or place("model"))
    with pytest.raises(ProjectError, match=what.partition("'")[0]):
        load_project(tmp_path).stage(policy.split('"')[1])


@pytest.mark.parametrize("given", ["print", '["scaling"]', "None", '"features/scaling.py"', '"../scaling"', '"a..b"'])
def test_a_stage_that_is_no_name_of_a_module(given, tmp_path):
    with pytest.raises(ProjectError, match=r"preprocess= of model 'm' (is of the wrong type|names no module)") as error:
        write(tmp_path, policy=f"policy = dict(preprocess={given})")
    assert error.value.where == place("model")
    assert "features.scaling" in error.value.hint


def test_a_good_stage_is_no_problem_and_part_of_the_revision(tmp_path):
    (tmp_path / "scaling.py").write_text(
        "def preprocess(values): return values\ndef postprocess(outputs): return outputs\n"
    )
    policy = 'policy = {"preprocess": "scaling", "postprocess": "scaling"}'
    assert write(tmp_path, policy=policy) == []
    first = load_project(tmp_path)
    assert list(first.stages) == ["scaling"]
    (tmp_path / "scaling.py").write_text(first.stages["scaling"] + "# changed\n")
    assert load_project(tmp_path).revision != first.revision
