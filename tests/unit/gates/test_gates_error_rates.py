"""How often the gate and the guardrails err, on seeded simulations of made-up data."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.gates.comparison import add_day, start_evidence, start_harm, verdict, watch_harm
from trimtab.gates.guardrails import GUARDRAILS, ROLLBACK_ALPHA, Tally, judge_counts, judge_loss
from trimtab.stats.betting import e_value, update, winsor_bound

STOP = GUARDRAILS / ROLLBACK_ALPHA


def run(gains, bound):
    """The verdict of a shadow of these daily gains, and the day of it."""
    evidence = start_evidence(bound, margin=0.01)
    for day, gain in enumerate(gains, 1):
        evidence = add_day(evidence, 900, 900 * gain)
        if (answer := verdict(evidence, alpha=0.1)) != "open":
            return answer, day
    return "expired", len(gains)


def share_of(answer, *, mean, sd=0.02, runs=400, days=28, heavy=False):
    rng = np.random.default_rng(11)
    count = 0
    for _ in range(runs):
        noise = rng.standard_t(4, days + 7) / np.sqrt(2) if heavy else rng.normal(size=days + 7)
        gains = mean + sd * noise
        count += run(gains[7:], winsor_bound(gains[:7], level=0.46))[0] == answer
    return count / runs


@pytest.mark.parametrize("heavy", [False, True])
def test_an_equal_challenger_is_superior_at_most_alpha(heavy):
    assert share_of("superior", mean=0.0, heavy=heavy) <= 0.1


def test_a_worse_challenger_is_essentially_never_superior():
    assert share_of("superior", mean=-0.005) <= 0.015
    assert share_of("superior", mean=-0.01) == 0


def test_a_clearly_better_challenger_is_nearly_always_found():
    assert share_of("superior", mean=0.02) >= 0.98
    assert share_of("superior", mean=0.01) >= 0.6
    assert share_of("superior", mean=0.01, sd=0.01) >= 0.98


def test_the_shadow_judges_harm_as_it_judges_benefit():
    assert share_of("inferior", mean=-0.02) >= 0.98
    assert share_of("inferior", mean=0.0) <= 0.1


def skewed(rng, days=28):
    """Better by 0.01 on 85 % of days, worse by 0.08 on the others: worse by 0.0035 a day."""
    return np.where(rng.random(days) < 0.15, -0.08, 0.01)


def test_rare_large_losses_that_were_seen_outweigh_many_small_gains():
    """The cut mean is above 0 and the bet wins; what callers get is the plain mean, and that is a loss."""
    rng = np.random.default_rng(7)
    passed = bet_alone = 0
    for _ in range(400):
        evidence, answers, won = start_evidence(0.01, margin=0.0092), set(), False
        for gain in skewed(rng):
            evidence = add_day(evidence, 900, 900 * gain)
            answer = verdict(evidence, alpha=0.1)
            assert answer != "superior" or evidence.mean_gain > 0
            answers.add(answer)
            won |= e_value(evidence.superior) >= 10
        passed += "superior" in answers
        bet_alone += won
    assert bet_alone / 400 >= 0.97
    assert passed / 400 <= 0.78  # 0.85 ** 5 = 44 % have no bad day in the five that the bet needs: no test sees those


def test_a_skewed_challenger_whose_bad_days_came_first_is_never_superior():
    evidence = start_evidence(0.01, margin=0.0092)
    for gain in [-0.08] * 3 + [0.01] * 23:
        evidence = add_day(evidence, 900, 900 * gain)
        assert verdict(evidence, alpha=0.1) != "superior"
    assert e_value(evidence.superior) > 10


def test_a_canary_step_waits_while_the_plain_mean_is_worse_by_more_than_the_margin():
    evidence = start_evidence(0.01, margin=0.005)
    for gain in [0.01] * 17 + [-0.08] * 3:
        evidence = add_day(evidence, 900, 900 * gain)
    assert e_value(evidence.superior) > 10
    assert judge_loss(evidence, alpha=0.1).state == "go"  # -0.0035 a day
    evidence = add_day(evidence, 900, -900 * 0.08)
    assert e_value(evidence.superior) > 10
    assert judge_loss(evidence, alpha=0.1).state == "wait"  # -0.0071 a day


@pytest.mark.parametrize("heavy", [False, True])
def test_an_equal_canary_is_rarely_rolled_back_for_harm(heavy):
    rng = np.random.default_rng(5)
    rolled = 0
    for _ in range(500):
        noise = rng.standard_t(4, 35) / np.sqrt(2) if heavy else rng.normal(size=35)
        gains = 0.02 * noise
        state = start_harm(winsor_bound(gains[:7], level=0.46))
        for gain in gains[7:]:
            state = update(state, -gain)
            if e_value(state) > STOP:
                rolled += 1
                break
    assert rolled / 500 <= ROLLBACK_ALPHA / GUARDRAILS + 0.01


def test_a_bad_canary_is_rolled_back_within_days():
    evidence = watch_harm(start_evidence(0.03, margin=0.01))
    for _ in range(6):
        assert e_value(evidence.harm) <= STOP or evidence.days >= 3, "one or two days are not enough"
        evidence = add_day(evidence, 900, -900 * 0.1)
    assert e_value(evidence.harm) > STOP


def test_good_days_in_the_shadow_do_not_shield_a_canary_that_turns_bad():
    evidence = start_evidence(0.03, margin=0.01)
    for _ in range(20):
        evidence = add_day(evidence, 900, 900 * 0.03)
    assert e_value(evidence.inferior) < 1e-4
    evidence = watch_harm(evidence)
    for _ in range(6):
        evidence = add_day(evidence, 900, -900 * 0.1)
    assert e_value(evidence.harm) > STOP


def test_five_hundred_answers_without_a_failure_are_enough_and_four_hundred_are_not():
    def states(answered):
        rails = judge_counts(Tally(9 * answered, 0, 0), Tally(answered, 0, 0), share=0.1)
        return [rail.state for rail in rails]

    assert states(500) == ["go", "go", "go"]
    assert states(400) == ["go", "wait", "wait"]


def test_all_three_are_judged_by_units():
    def rails(champion, canary):
        return {rail.name: rail for rail in judge_counts(champion, canary, share=0.3)}

    assert rails(Tally(3503, 0, 0), Tally(497, 0, 0))["split"].state == "stop"
    assert rails(Tally(3503, 0, 0, (2803, 0, 0)), Tally(497, 0, 0, (197, 0, 0)))["split"].state == "go"
    few = rails(Tally(3503, 90, 80, (3500, 88, 79)), Tally(497, 70, 60, (495, 69, 60)))
    assert few == rails(Tally(3, 2, 1), Tally(2, 1, 0))
    wrong = rails(Tally(3503, 0, 0, (2503, 0, 0)), Tally(3497, 0, 0, (2497, 0, 0)))
    assert wrong["split"].state == "stop"


def test_guardrails_on_the_field_s_own_case():
    """100 canary and 1900 champion requests a tick, 2 % errors; the canary then has 4 %, and 8 %."""
    rng = np.random.default_rng(4)

    def ticks(rate, most=200):
        old = new = answered = 0
        for tick in range(1, most + 1):
            answered += 100
            old, new = old + rng.binomial(1900, 0.02), new + rng.binomial(100, rate)
            rails = judge_counts(Tally(19 * answered, old, 0), Tally(answered, new, 0), share=0.05)
            if any(rail.state == "stop" for rail in rails):
                return "stop", tick
            if all(rail.state == "go" for rail in rails):
                return "go", tick
        return "wait", most

    healthy = [ticks(0.02)[0] for _ in range(150)]
    assert healthy.count("stop") <= 4
    assert healthy.count("go") >= 140
    doubled = [ticks(0.04) for _ in range(100)]
    assert sum(answer == "stop" for answer, _ in doubled) >= 93
    assert np.median([tick for _, tick in doubled]) <= 15
    fourfold = [ticks(0.08) for _ in range(50)]
    assert all(answer == "stop" and tick <= 10 for answer, tick in fourfold)


def test_a_heavy_user_is_no_fault_of_the_version_that_he_fell_to():
    """He alone asks 2000 of the canary's 2400 requests, and every one of them fails and is slow."""
    champion, canary = Tally(933, 9, 9), Tally(2400, 2004, 2004, (1999, 1999, 1999))
    found = {rail.name: rail for rail in judge_counts(champion, canary, share=0.3)}
    assert [found[name].state != "stop" for name in ("split", "errors", "slow")] == [True] * 3
    worse = canary._replace(errors=2060)
    assert judge_counts(champion, worse, share=0.3)[1].state == "stop"
    alone = [rail.state for rail in judge_counts(champion, canary._replace(repeats=(0, 0, 0)), share=0.3)]
    assert alone == ["stop"] * 3


def test_few_units_are_not_enough_to_go_on():
    states = [rail.state for rail in judge_counts(Tally(3591, 0, 0), Tally(500, 0, 0, (101, 0, 0)), share=0.1)]
    assert states == ["go", "wait", "wait"]


def test_a_canary_that_fails_all_its_requests_goes_back_though_a_single_unit_asked():
    def errors(champion, asked, failed):
        repeats = (asked - 1, max(failed - 1, 0), 0)
        return judge_counts(champion, Tally(asked, failed, 0, repeats), share=0.1)[1].state

    assert errors(Tally(0, 0, 0), 50, 50) == "stop"
    assert errors(Tally(900, 899, 0), 50, 50) == "stop"
    assert errors(Tally(900, 900, 0), 50, 50) == "wait"
    assert errors(Tally(900, 0, 0), 49, 49) == "wait"
    assert errors(Tally(900, 0, 0), 51, 50) == "wait"
    assert errors(Tally(900, 0, 0), 0, 0) == "wait"
