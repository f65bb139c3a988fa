"""How many hours will a parcel take? A small project whose world changes once; the stored home is made of it."""

from fit import fit_line

import trimtab as tt

depot = tt.Entity("depot", str)

arrivals = tt.Events(
    "arrivals",
    time="arrived_at",
    known="arrived_at",
    keys=[depot],
    schema={"parcel": str, "hours": tt.column(float, between=(0, 100))},
    history="data/arrivals.parquet",
    id="parcel",
)

parcels = tt.Requests(
    "parcels",
    id="parcel",
    at="sent_at",
    keys=[depot],
    inputs={"weight": tt.column(int, between=(1, 100)), "express": bool},
    history="data/parcels.parquet",
)

hours = tt.Model(
    "parcel_hours",
    task=tt.regression(target="hours"),
    requests=parcels,
    features=[tt.windows(arrivals, by=[depot], over=["24h"], mean=["hours"]), "features.parcel"],
    label=tt.label(arrivals, "hours", on="parcel", matures="1d"),
    train=fit_line,
    params={"alpha": 1.0},
    on=tt.last("42d"),
    holdout="3d",
    gates=[tt.at_least("r2", 0.1), tt.beats_champion("squared_error")],
    retrain=[tt.when_quality_drops(alpha=0.02, cooldown="7d"), tt.every("56d")],
    rollout=[tt.shadow(), tt.canary(0.5, rows=50)],
    approval="manual",
)
