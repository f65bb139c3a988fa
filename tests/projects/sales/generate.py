"""Invented orders for the second project: about 3000 rows over 120 days, some of them bad on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trimtab.adapters.offline.parquet import write_parquet
from trimtab.core.clock import DAY, HOUR, MINUTE, instant

ORDERS, SHOPS, ITEMS, DAYS = 3000, 6, 40, 120
START = instant("2024-03-01")
BAD_DELIVERIES = 3
"""Deliveries confirmed before they were made: quarantined, and their orders have no label."""


def generate(root: Path, *, seed: int = 7) -> None:
    """Write the histories of the project below ``root/data``."""
    rng = np.random.default_rng(seed)
    data = root / "data"
    # Every shop counts its backlog each day and reports it two hours later; one file a half.
    day, shop = (grid.ravel() for grid in np.meshgrid(np.arange(DAYS), np.arange(1, SHOPS + 1), indexing="ij"))
    backlog = (40 + 8 * shop + 15 * np.sin(day / 9) + rng.normal(0, 4, len(day))).astype(np.int64)
    staff = np.where(rng.random(len(day)) < 0.1, np.nan, 5.0 + shop)
    counted = START - DAY + day * DAY
    for half, rows in enumerate((day < DAYS // 2, day >= DAYS // 2)):
        columns = {
            "counted_at": counted[rows],
            "reported_at": counted[rows] + 2 * HOUR,
            "shop": shop[rows],
            "open_orders": backlog[rows],
            "staff": staff[rows],
        }
        write_parquet(data / "backlog" / f"{half}.parquet", columns, times=("counted_at", "reported_at"))

    item = np.tile(np.arange(1, ITEMS + 1), SHOPS)
    where = np.repeat(np.arange(1, SHOPS + 1), ITEMS)
    distance = rng.uniform(5, 900, len(item))
    shelf = rng.random(len(item)) < 0.7
    stock = {"at": np.full(len(item), START - DAY), "shop": where, "item": item, "on_shelf": shelf}
    write_parquet(data / "stock.parquet", stock | {"distance_km": distance}, times=("at",))

    asked = np.sort(START + rng.integers(0, DAYS * DAY // MINUTE, ORDERS) * MINUTE)
    place = rng.integers(0, len(item), ORDERS)
    quantity, express = rng.integers(1, 20, ORDERS), rng.random(ORDERS) < 0.3
    orders = {
        "ordered_at": asked,
        "order_id": np.array([f"o{number:05}" for number in range(ORDERS)]),
        "shop": where[place],
        "item": item[place],
        "quantity": quantity,
        "express": express,
        "note": np.where(rng.random(ORDERS) < 0.2, "leave at the door", ""),
    }
    write_parquet(data / "orders.parquet", orders, times=("ordered_at",))

    queue = backlog[np.clip((asked - START) // DAY, 0, DAYS - 1) * SHOPS + where[place] - 1]
    hours = 6 + 0.3 * queue + distance[place] / 60 + 12 * ~shelf[place] + 3 * np.log(quantity) - 8 * express
    hours = np.maximum(hours + rng.normal(0, 3, ORDERS), 1)
    delivered = asked + (hours * HOUR).astype(np.int64)
    arrived = rng.random(ORDERS) < 0.97  # some never do
    confirmed = delivered + rng.integers(1, 90, ORDERS) * MINUTE
    confirmed[np.flatnonzero(arrived)[:BAD_DELIVERIES]] -= 3 * HOUR
    deliveries = {
        "delivered_at": delivered,
        "confirmed_at": confirmed,
        "shop": where[place],
        "order": orders["order_id"],
        "hours": hours,
    }
    write_parquet(
        data / "deliveries.parquet",
        {name: values[arrived] for name, values in deliveries.items()},
        times=("delivered_at", "confirmed_at"),
    )
