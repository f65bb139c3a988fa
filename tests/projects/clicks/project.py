"""Will a visitor buy? A small project with windows whose training takes a second."""

from fit import fit_small

import trimtab as tt

shop = tt.Entity("shop", str)

sales = tt.Events(
    "sales",
    time="at",
    known="at",
    keys=[shop],
    schema={"visit": str, "bought": bool, "amount": tt.column(float, between=(0, 10_000))},
    history="data/sales.parquet",
    id="visit",
)

visits = tt.Requests(
    "visits",
    id="visit",
    at="asked",
    keys=[shop],
    inputs={"basket": tt.column(float, between=(0, 10_000))},
    history="data/visits.parquet",
)

buys = tt.Model(
    "buys",
    task=tt.binary(positive="bought"),
    requests=visits,
    features=[
        tt.windows(sales, by=[shop], over=["3h", "24h"], count="*", mean=["bought", "amount"]),
        "features.basket",
    ],
    label=tt.label(sales, "bought", on="visit", matures="3h"),
    train=fit_small,
    params={"trees": 8},
    holdout="1d",
    gates=[tt.at_least("roc_auc", 0.5), tt.beats_champion("log_loss")],
    retrain=[tt.every("3d")],
    rollout=[tt.shadow(), tt.canary(0.50)],
)
