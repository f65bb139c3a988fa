"""How many hours will an order take? Another shape of project: regression, integer keys, no windows."""

from fit import fit_ridge

import trimtab as tt

shop, item = tt.Entity("shop", int), tt.Entity("item", int)

backlog = tt.Table(
    "backlog",
    time="counted_at",
    known="reported_at",
    keys=[shop],
    schema={"open_orders": tt.column(int, between=(0, 10_000)), "staff": tt.column(int, optional=True)},
    history="data/backlog/*.parquet",
)

stock = tt.Table(
    "stock",
    time="at",
    known="at",
    keys=[shop, item],
    schema={"on_shelf": bool, "distance_km": tt.column(float, between=(0, 20_000))},
    history="data/stock.parquet",
)

orders = tt.Requests(
    "orders",
    id="order_id",
    at="ordered_at",
    keys=[shop, item],
    inputs={"quantity": tt.column(int, between=(1, 1000)), "express": bool, "note": tt.column(str, optional=True)},
    history="data/orders.parquet",
)

deliveries = tt.Events(
    "deliveries",
    time="delivered_at",
    known="confirmed_at",
    keys=[shop],
    schema={"order": str, "hours": tt.column(float, between=(0, 1000))},
    history="data/deliveries.parquet",
    id="order",
)

hours = tt.Model(
    "delivery_hours",
    task=tt.regression(target="hours"),
    requests=orders,
    features=[
        tt.latest(backlog, ["open_orders", "staff"], ttl="2d"),
        tt.latest(stock, ["on_shelf", "distance_km"]),
        "features.basket",
    ],
    label=tt.label(deliveries, "hours", on="order", matures="7d"),
    train=fit_ridge,
    params={"alpha": 1.0},
    on=tt.last("60d"),
    holdout="5d",
    gates=[tt.at_least("r2", 0.1), tt.beats_champion("squared_error")],
    retrain=[tt.every("14d")],
    approval="manual",
)
