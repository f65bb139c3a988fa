"""Several classes, and several numbers: through replay, training, gates, monitors, records, serving and quantisation."""

import numpy as np
import pytest

from trimtab import app
from trimtab.adapters.offline.parquet import write_parquet
from trimtab.core.clock import HOUR, instant
from trimtab.errors import InputError
from trimtab.serving.record import PREDICTIONS, decode_record

PROJECT = """
import trimtab as tt

shop = tt.Entity("shop", str)
sales = tt.Events("sales", time="at", known="at", keys=[shop],
                  schema={"visit": str, "paid": str, "hours": float, "cost": float}, history="data/sales/*.parquet")
visits = tt.Requests("visits", id="visit", at="asked", keys=[shop], inputs={"basket": float, "hour": float},
                     history="data/visits.parquet")
recent = tt.windows(sales, by=[shop], over=["24h"], mean=["hours"], count="*")

def paid(data, params):
    from sklearn.neural_network import MLPClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    import warnings
    warnings.simplefilter("ignore")
    net = MLPClassifier((48, 48), max_iter=60, random_state=data.seed)
    return make_pipeline(SimpleImputer(), net).fit(data.X, data.y)

def both(data, params):
    import lightgbm as lgb
    return [lgb.train({"verbose": -1, "num_threads": 1, "seed": data.seed}, lgb.Dataset(data.X, data.y[:, one]), 20)
            for one in range(2)]

common = dict(requests=visits, features=[recent, "features.inputs"], holdout="7d", retrain=[tt.every("14d")],
              rollout=[tt.shadow(), tt.canary(0.5)])
payment = tt.Model("payment", task=tt.multiclass(classes=["cash", "card", "voucher"]), train=paid,
    label=tt.label(sales, "paid", on="visit", matures="2h"),
    gates=[tt.at_least("accuracy", 0.4), tt.beats_champion("log_loss")], **common)
effort = tt.Model("effort", task=tt.regression(target=["hours", "cost"]), train=both,
    label=tt.label(sales, ["hours", "cost"], on="visit", matures="2h"),
    gates=[tt.at_least("r2", 0.1), tt.beats_champion("squared_error")], **common)
"""

INPUTS = '''
"""What the request says."""
FEATURES = ("basket", "hour")

def compute(columns):
    return {"basket": columns["basket"] / 40.0, "hour": columns["hour"] / 24.0}
'''


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    root = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(7)
    n = 5000
    asked = np.sort(rng.integers(0, 84 * 86_400, n)) * 1_000_000 + instant("2026-01-05")
    basket, hour = rng.gamma(2.0, 20.0, n), rng.uniform(0, 24, n)
    shops, ids = rng.choice(["ams", "ber"], n), np.array([f"v{k}" for k in range(n)])
    late = asked > instant("2026-03-20")
    scores = np.stack([np.full(n, 1.0), basket / 25 + late, hour / 10], axis=1) + rng.gumbel(size=(n, 3))
    paid = np.array(["cash", "card", "voucher"])[scores.argmax(axis=1)]
    (root / "data" / "sales").mkdir(parents=True)
    (root / "features").mkdir()
    hours, cost = basket / 20 + rng.normal(size=n) * 0.3, hour / 6 + rng.normal(size=n) * 0.3
    write_parquet(root / "data" / "sales" / "all.parquet",
                  {"at": asked + HOUR, "shop": shops, "visit": ids, "paid": paid, "hours": hours, "cost": cost}, times=["at"])  # fmt: skip
    write_parquet(root / "data" / "visits.parquet",
                  {"visit": ids, "asked": asked, "shop": shops, "basket": basket, "hour": hour}, times=["asked"])  # fmt: skip
    (root / "project.py").write_text(PROJECT)
    (root / "features" / "inputs.py").write_text(INPUTS)
    return root


def test_the_project_is_sound(shop):
    assert app.check(shop)["problems"] == []


@pytest.mark.parametrize(("model", "outputs", "loss"), [("payment", 3, 1.0), ("effort", 2, 0.5)])
def test_a_replay_answers_records_and_judges_several_outputs(shop, tmp_path, model, outputs, loss):
    from trimtab.app.home import Home

    result = app.replay(shop, model=model, start="2026-03-09", until="2026-03-28", out=tmp_path / "replay")
    assert result["counts"]["requests answered"] == result["counts"]["requests asked"] > 500
    assert result["counts"]["promotions"] >= 1
    assert result["parity"]["mismatch"] == 0
    assert 0 < result["total"]["trimtab"]["loss"] < loss
    assert result["drift"]["prediction"]["cells"]
    rows = [decode_record(row) for _, row in Home(tmp_path / "replay").records("replay").scan(PREDICTIONS)]
    assert {len(record.outputs) for record in rows} == {outputs}
    if model == "payment":
        np.testing.assert_allclose([sum(record.outputs) for record in rows], 1.0, atol=1e-4)


def test_a_version_is_trained_quantised_and_waits_to_be_deployed(shop):
    trained = app.train(shop, "payment", cutoff="2026-03-25")
    assert trained["metrics"]["accuracy"] > 0.4
    found = app.quantise(shop, "payment", mode="dynamic")
    assert (found["parent"], found["registered"], found["passed"]) == (trained["version"], True, True)
    assert found["before"]["metrics"] == pytest.approx(trained["metrics"])
    assert abs(found["after"]["metrics"]["log_loss"] - found["before"]["metrics"]["log_loss"]) < 0.05
    assert found["after"]["model_bytes"] < found["before"]["model_bytes"]
    status = app.log(shop, model="payment", limit=20)
    assert any(event["type"] == "VariantMeasured" and "int8-dynamic" in event["text"] for event in status["events"])
    assert app.gate(shop, "payment", found["version"])["passed"]
    again = app.quantise(shop, "payment", version="1", mode="static")
    assert again["variant"] == "int8-static"
    with pytest.raises(InputError, match=r"is a variant \(int8-dynamic\) itself.*--version 1\."):
        app.quantise(shop, "payment", version="2", mode="dynamic")
    repeated = app.quantise(shop, "payment", version="1", mode="static")
    assert "asked to register a variant, which cannot be done: it is registered already" in repeated["sentence"]
    started = app.deploy(shop, "payment", "2", reason="smaller", actor=None, force=False)
    assert started["accepted"], started["sentence"]


def test_trees_of_a_project_are_not_quantised(shop):
    app.train(shop, "effort", cutoff="2026-03-25")
    with pytest.raises(InputError, match="trees cannot be quantised"):
        app.quantise(shop, "effort")
