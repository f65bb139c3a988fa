"""A project of another shape: regression, integer keys, no windows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.projects.staged import SALES, script, stage_sales

from trimtab.adapters.offline.parquet import read_history
from trimtab.adapters.project.file import load_project
from trimtab.datasets.validation import request_batch
from trimtab.features.plan import LatestPart, ModulePart
from trimtab.loop.project import check, check_history
from trimtab.training.task import TrainingData


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    root = stage_sales(tmp_path_factory.mktemp("sales") / "sales")
    project = load_project(root)
    return project, {name: read_history(source, root) for name, source in project.sources.items()}


def test_it_checks(sales):
    project, history = sales
    assert check(project) == []
    assert check_history(project, history) == []


def test_its_plan_has_no_windows(sales):
    plan = sales[0].plan("delivery_hours")
    assert [type(part) for part in plan.parts] == [LatestPart, LatestPart, ModulePart]
    assert plan.requests.keys == {"shop": "int", "item": "int"}
    assert plan.names()[:2] == ["backlog.open_orders", "backlog.staff"]


def test_its_data(sales):
    _, history = sales
    assert {name: len(found) for name, found in history.items()} == {
        "backlog": 720,
        "stock": 240,
        "orders": 3000,
        "deliveries": 2904,
    }
    assert history["deliveries"].quarantine.counts == {("confirmed_at", "known before it happened"): 3}
    assert history["orders"].columns["shop"].dtype == np.int64
    assert 0 < np.isnan(history["backlog"].columns["staff"]).mean() < 0.2
    assert len(request_batch(sales[0].sources["orders"], history["orders"].columns)) == 3000


def test_its_data_are_the_same_each_time(sales, tmp_path):
    script(SALES / "generate.py").generate(tmp_path)
    project, history = sales
    again = read_history(project.sources["deliveries"], tmp_path)
    for name, values in again.columns.items():
        np.testing.assert_array_equal(values, history["deliveries"].columns[name])


def test_its_fit_learns(sales):
    project, history = sales
    orders, answers = history["orders"].columns, history["deliveries"].columns
    names: dict[str, object] = {}
    exec(project.modules["features.basket"].text, names)
    features = names["compute"]({**orders, "at": orders["ordered_at"].astype("datetime64[us]")})
    row = {order: place for place, order in enumerate(orders["order_id"].tolist())}
    rows = np.array([row[order] for order in answers["order"].tolist()])
    inputs = np.stack(
        [np.asarray(features[name], np.float32)[rows] for name in project.modules["features.basket"].features], 1
    )
    data = TrainingData(inputs, answers["hours"], ("a", "b", "c", "d"), orders["ordered_at"][rows], seed=0)
    spec = project.models["delivery_hours"]
    model = spec.train(data, spec.params)
    assert model.score(inputs, answers["hours"]) > 0.1  # quantity and express are part of how the hours were made
