"""How often a sound canary is rolled back by traffic that is no independent draws: from routing to guardrails, seeded.

Both versions behave alike here: a request fails, or is slow, whichever of them answers it. Each scenario also says what
counting requests in place of units would have done.
"""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from trimtab.core.clock import WEEK
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.gates.guardrails import ROLLBACK_ALPHA, SPLIT_ALPHA, Tally, judge_counts
from trimtab.monitoring.blocks import ArmCount
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.monitoring.units import ASKED, ERRED, StepUnits, unit_number
from trimtab.serving.allotment import drawn_together, with_units
from trimtab.serving.answers import Answers
from trimtab.serving.routing import Arm, Route, choose, split

CONFIG = ObserverConfig("m", "regression", "squared_error", matures=0, slow_after=100)
SHARE, TICKS = 0.3, 8


def heavy_user(rng):
    """300 requests of one user fail and are slow; of 600 others one in a hundred fails."""
    lone = [(f"r{number}", "", rng.random() < 0.01, False) for number in range(600)]
    his = [(f"h{number}", "ann", number % 2 == 0, number % 2 == 1) for number in range(300)]
    return lone + his


def sent_again(rng):
    """One in twenty requests cannot be answered, and each of those is sent ten to a hundred times."""
    bad = [f"bad{number}" for number in range(25)]
    again = [(name, "", True, False) for name in bad for _ in range(int(rng.integers(10, 100)))]
    return [(f"r{number}", "", False, False) for number in range(500)] + again


def bodies(rng):
    """Bodies of 1 to 200 rows; one in ten fails as a whole, one in ten is slow."""
    found = []
    for number in range(120):
        size, fate = int(min(rng.pareto(0.8) + 1, 200)), rng.random()
        found += [(f"b{number}/0", "", fate < 0.1, fate > 0.9)]
        found += [(f"b{number}/{row}", f"b{number}/0", fate < 0.1, fate > 0.9) for row in range(1, size)]
    return found


def failed_then_answered(rng):
    """A third of the requests fails at first, and is sent again until it is answered."""
    found = [(f"r{number}", "", False, False) for number in range(600)]
    return found + [(f"r{number}", "", True, False) for number in range(200) for _ in range(int(rng.integers(1, 9)))]


def lone(rng):
    return [(f"r{number}", "", rng.random() < 0.02, rng.random() < 0.02) for number in range(1200)]


def answers(arm, rows, *, slow):
    ids, units = [name for name, *_ in rows], [unit for _, unit, *_ in rows]
    n, together = len(ids), [unit != "" for unit in units]
    said = np.array([np.nan if failed else 0.5 for _, _, failed, _ in rows])
    features = FeatureBatch(np.zeros((n, 0), np.float32), np.zeros((n, 0), np.float32), {}, ())
    requests, timings = RequestBatch(ids, np.full(n, 20 * WEEK), {}, {}), (200 if slow else 2,)
    return Answers(requests, features, arm, arm, "r1", said, timings, "", units, "", False, together)


def tallies(observer):
    """Canary's and champion's, by units and by requests."""
    arms = {arm.arm: arm for arm in observer.step_arms("r1", 0)}
    both = []
    for name in ("champion", "canary"):
        arm = arms.get(name, ArmCount("r1", name, name, 0, 0, 0))
        both.append(Tally(arm.answered + arm.errors, arm.errors, arm.slow, arm.repeats))
    return both


def rolled_back(scenario, seed, *, worse=False):
    """Which guardrails stop at any tick, by units, and by requests."""
    rng = np.random.default_rng(seed)
    requests = scenario(rng)
    rng.shuffle(requests)
    route = Route("m", (Arm("champion", "champion", 1 - SHARE), Arm("canary", "canary", SHARE)), salt=f"rollout {seed}")
    observer, stops, by_requests = Observer(CONFIG), set(), set()
    observer.step_arms("r1", 0)
    for tick in np.array_split(np.arange(len(requests)), TICKS):
        parts = {}
        for place in tick:
            name, unit, failed, slow = requests[place]
            arm = choose(route, unit or name).name
            fails = bool(int(failed)) or (worse and arm == "canary" and unit_number(name) % 10 == 0)
            parts.setdefault((arm, bool(int(slow))), []).append((str(name), str(unit), fails, slow))
        for (arm, slow), rows in parts.items():
            observer.answered(answers(arm, rows, slow=slow))
        champion, canary = tallies(observer)
        stops |= {rail.name for rail in judge_counts(champion, canary, share=SHARE) if rail.state == "stop"}
        raw = (champion._replace(repeats=(0, 0, 0)), canary._replace(repeats=(0, 0, 0)))
        by_requests |= {rail.name for rail in judge_counts(*raw, share=SHARE) if rail.state == "stop"}
    return stops, by_requests


@pytest.mark.parametrize("scenario", [heavy_user, sent_again, bodies, failed_then_answered])
def test_a_sound_canary_is_rarely_rolled_back_whatever_its_traffic(scenario):
    runs = [rolled_back(scenario, seed) for seed in range(150)]
    by_units = sum(bool(stops) for stops, _ in runs) / len(runs)
    by_requests = sum(bool(stops) for _, stops in runs) / len(runs)
    print(f"{scenario.__name__}: rolled back {by_units:.3f} by units, {by_requests:.3f} by requests")
    assert by_units <= ROLLBACK_ALPHA
    assert by_requests > 2 * ROLLBACK_ALPHA


@pytest.mark.parametrize("bad_rows", [1, 3, 50])
def test_rows_that_are_drawn_each_by_itself_and_fail_as_one_body_are_one_error(bad_rows):
    """60 bodies of 50 rows beside 600 lone requests. In one body of six, rows are bad: their arms fail as a whole.

    Of such a body the rows of the other arm are not recorded.
    """
    runs, by_requests = 80, 0
    stops = {"split": 0, "errors": 0, "slow": 0}
    for seed in range(runs):
        arms = (Arm("champion", "champion", 1 - SHARE), Arm("canary", "canary", SHARE))
        route, rng = Route("m", arms, salt=f"rollout {seed}"), np.random.default_rng(seed)
        observer, seen, requests = Observer(CONFIG), set(), set()
        observer.step_arms("r1", 0)
        for number in range(60):
            bad = set(rng.choice(50, bad_rows, replace=False).tolist()) if rng.random() < 1 / 6 else set()
            for base, rows in [(f"b{number}", 50), *((f"r{number}/{one}", 1) for one in range(10))]:
                batch = RequestBatch([f"{base}/{row}" for row in range(rows)], np.zeros(rows), {}, {})
                answer(observer, route, batch, bad if rows > 1 else set())
            champion, canary = tallies(observer)
            seen |= {rail.name for rail in judge_counts(champion, canary, share=SHARE) if rail.state == "stop"}
            raw = (champion._replace(repeats=(0, 0, 0)), canary._replace(repeats=(0, 0, 0)))
            requests |= {rail.name for rail in judge_counts(*raw, share=SHARE) if rail.state == "stop"}
        by_requests += bool(requests)
        for name in seen:
            stops[name] += 1
    print(f"{bad_rows} bad rows: {stops} of {runs} by units, {by_requests} by requests")
    assert stops["errors"] / runs <= ROLLBACK_ALPHA / 3
    assert stops["split"] == stops["slow"] == 0
    assert bad_rows > 1 or by_requests / runs > 0.1


def answer(observer, route, batch, bad):
    """As the engine and the worker do: by arm, in the order of the route; all fail where one does, and are recorded."""
    given = []
    shared = drawn_together(route, batch, batch.ids)
    for arm, rows in split(route, batch.ids):
        fails = not bad.isdisjoint(rows)
        made = answers(arm.name, [(batch.ids[row], "", fails, False) for row in rows], slow=False)
        given.append(with_units(replace(made, error="ZeroDivisionError" if fails else ""), shared, batch, rows))
    for one in given:
        if one.error or not bad:
            observer.answered(one)


def test_harm_to_lone_requests_is_found_by_exactly_the_same_evidence():
    for seed in range(20):
        stops, by_requests = rolled_back(lone, seed, worse=True)
        assert stops == by_requests
        assert "errors" in stops


@pytest.mark.parametrize("scenario", [heavy_user, bodies])
def test_harm_is_found_among_all_that_traffic(scenario):
    found = sum("errors" in rolled_back(scenario, seed, worse=True)[0] for seed in range(30))
    print(f"{scenario.__name__}: harm found in {found} of 30")
    assert found >= (28 if scenario is heavy_user else 12)


def test_the_tests_hold_where_only_a_part_of_the_units_is_kept():
    """3000 users, a fifth of whom fail, of which at most 200 are kept: looked at after every 100."""
    stopped = {"split": 0, "errors": 0}
    for seed in range(120):
        arms = (Arm("champion", "a", 1 - SHARE), Arm("canary", "b", SHARE))
        route = Route("m", arms, salt=f"rollout {seed}")
        units, raw, stops = StepUnits(1, limit=200), {"champion": [0, 0], "canary": [0, 0]}, set()
        for number in range(3000):
            name = f"user {seed} {number}"
            arm, fails = choose(route, name).name, number % 5 == 0
            units.meet(("r1", arm, arm), [name] * 7, ASKED | (ERRED if fails else 0), days=[])
            raw[arm][fails] += 7
            if number % 100 == 99:
                both = []
                for key in ("champion", "canary"):
                    repeats = units.repeats(ArmCount("r1", key, key, *raw[key], 0))
                    both.append(Tally(sum(raw[key]), raw[key][1], 0, repeats))
                assert sum(tally.units[0] for tally in both) <= 200
                stops |= {rail.name for rail in judge_counts(*both, share=SHARE) if rail.state == "stop"}
        for name in stops:
            stopped[name] += 1
    print(f"of 120: {stopped}")
    assert stopped["errors"] / 120 <= ROLLBACK_ALPHA
    assert stopped["split"] / 120 <= max(10 * SPLIT_ALPHA, 0.01)
