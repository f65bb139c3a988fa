"""Invented parcels over ten weeks; from one day on they are heavier, and weight costs more time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trimtab.adapters.offline.parquet import write_parquet
from trimtab.core.clock import DAY, MINUTE, instant

START = instant("2024-03-04")
DEPOTS = ("east", "north", "west")
DAYS, SERVED, CHANGE = 70, 42, 44
"""Days, the first day on which a model answers, and the first day of the changed world."""
LEARNED_A_DAY, SERVED_A_DAY = 280, 150
"""As many as a reference of drift asks for, and a week in which drift is judged; no more, since answers are kept."""


def generate(root: Path, *, seed: int = 11) -> None:
    """Write the histories of the project below ``root/data``."""
    # The one generator whose numbers never change: the stored home holds the digest of these histories.
    rng = np.random.RandomState(seed)
    first = rng.randint(0, SERVED * 24 * 60, SERVED * LEARNED_A_DAY)
    then = rng.randint(SERVED * 24 * 60, DAYS * 24 * 60, (DAYS - SERVED) * SERVED_A_DAY)
    sent = START + np.sort(np.concatenate([first, then])).astype(np.int64) * MINUTE
    count = len(sent)
    depot = rng.randint(0, len(DEPOTS), count)
    changed = sent >= START + CHANGE * DAY
    weight = (rng.randint(1, 21, count) + np.where(changed, 8, 0)).astype(np.int64)
    express = rng.random_sample(count) < 0.3
    hours = 4 + 2 * depot + np.where(changed, 0.55, 0.25) * weight - 2 * express + rng.uniform(-2, 2, count)
    hours = np.maximum(np.round(hours * 4) / 4, 0.5)
    names, places = np.array([f"p{number:05}" for number in range(count)]), np.array(DEPOTS)[depot]
    parcels = {"parcel": names, "sent_at": sent, "depot": places, "weight": weight, "express": express}
    write_parquet(root / "data" / "parcels.parquet", parcels, times=("sent_at",))
    arrivals = {"parcel": names, "arrived_at": sent + (hours * 60).astype(np.int64) * MINUTE + MINUTE // 2}
    arrivals |= {"depot": places, "hours": hours}
    kept = rng.random_sample(count) < 0.98  # some never do
    columns = {name: values[kept] for name, values in arrivals.items()}
    write_parquet(root / "data" / "arrivals.parquet", columns, times=("arrived_at",))
