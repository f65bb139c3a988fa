"""Invented visits up to a given time: 12 an hour in four shops; who buys depends on the shop, the hour and the basket."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trimtab.adapters.offline.parquet import write_parquet
from trimtab.core.clock import DAY, MINUTE

SHOPS = ("north", "south", "east", "west")
EVERY = 5 * MINUTE


def generate(root: Path, *, until: int, days: int = 8, seed: int = 3) -> None:
    """Write the histories below ``root/data``; every visit is decided within two hours, one in twenty never."""
    rng = np.random.default_rng(seed)
    count = days * DAY // EVERY
    # A minute of its own for each: no two things happen at once, and none at a full hour.
    asked = until - (count - np.arange(count)) * EVERY + rng.integers(1, 5, count) * MINUTE
    shop = rng.integers(0, len(SHOPS), count)
    basket = np.round(rng.lognormal(3, 1, count), 2)
    drift = 0.8 * np.sin(asked / DAY)
    chance = 1 / (1 + np.exp(-(0.9 * (shop - 1.5) + 0.8 * (np.log1p(basket) - 3) + drift)))
    bought = rng.random(count) < chance
    ids = np.array([f"v{number:06}" for number in range(count)])
    names = np.array(SHOPS)[shop]
    visits = {"visit": ids, "asked": asked, "shop": names, "basket": basket}
    write_parquet(root / "data" / "visits.parquet", visits, times=("asked",))
    at = asked + rng.integers(10, 120, count) * MINUTE
    seen = (rng.random(count) < 0.95) & (at <= until)
    sales = {"visit": ids, "at": at, "shop": names, "bought": bought, "amount": np.where(bought, basket, 0.0)}
    write_parquet(
        root / "data" / "sales.parquet", {name: values[seen] for name, values in sales.items()}, times=("at",)
    )
