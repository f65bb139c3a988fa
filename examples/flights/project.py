"""Will a flight arrive more than 15 minutes late? Asked two hours before its scheduled departure from New York."""

from datetime import datetime

from model import fit_lightgbm

import trimtab as tt

carrier, origin, tailnum, route = (tt.Entity(name, str) for name in ("carrier", "origin", "tailnum", "route"))
keys = [carrier, origin, tailnum, route]

# A flight counts from the moment it landed: that is when its delay became known.
landings = tt.Events(
    "landings",
    time="landed_at",
    known="landed_at",
    keys=keys,
    schema={"flight_id": str, "late": bool, "delay": tt.column(int, between=(-300, 3000))},
    history="data/landings.parquet",
    id="flight_id",
)

# The weather of an hour is known when the hour is over.
weather = tt.Table(
    "weather",
    time="hour",
    known="known_at",
    keys=[origin],
    schema={
        "temp": tt.column(float, between=(-60, 130), optional=True),
        "dewp": tt.column(float, between=(-80, 100), optional=True),
        "humid": tt.column(float, between=(0, 100), optional=True),
        "wind_dir": tt.column(float, between=(0, 360), optional=True),
        "wind_speed": tt.column(float, between=(0, 200), optional=True),
        "wind_gust": tt.column(float, between=(0, 250), optional=True),
        "precip": tt.column(float, between=(0, 20), optional=True),
        "pressure": tt.column(float, between=(850, 1100), optional=True),
        "visib": tt.column(float, between=(0, 100), optional=True),
    },
    history="data/weather.parquet",
)

# Who asks, when, with which keys and inputs: training rows, replayed traffic and label joins all come from here.
departures = tt.Requests(
    "departures",
    id="flight_id",
    at="ask_at",
    keys=keys,
    inputs={"sched_dep": datetime, "sched_arr": datetime, "distance": tt.column(float, between=(1, 12_000))},
    history="data/departures.parquet",
)

form = tt.windows(
    landings,
    by=keys,
    over=["3h", "24h", "7d"],
    count="*",
    mean=["late", "delay"],
    fresh="12h",  # at night nothing lands for hours
)

sky = tt.latest(
    weather,
    ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"],
    ttl="3h",
)

late = tt.Model(
    "late_arrival",
    task=tt.binary(positive="late"),
    requests=departures,
    features=[form, sky, "features.calendar"],
    # Of the flights that land at all, all but two in 330,000 have landed a day after they were asked about.
    label=tt.label(landings, "late", on="flight_id", matures="24h"),
    train=fit_lightgbm,
    params={"trees": 150},
    # The policy below is what Trimtab's defaults are, and why: docs/decisions/0003-default-policy.md.
    on=tt.all_history(),
    gates=[tt.at_least("roc_auc", 0.65), tt.p99_below("50ms"), tt.size_below("500MB"), tt.beats_champion("log_loss")],
    retrain=[tt.every("28d"), tt.when_quality_drops(), tt.when_drifts(), tt.when_new_labels(100_000)],
    rollout=[tt.shadow(), tt.canary(0.10), tt.canary(0.50)],
    approval="auto",
    slo=tt.slo(latency_p99="100ms", availability=0.999),
)
