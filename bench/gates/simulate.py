"""Error rates and power of the default gate and guardrails, on made-up daily gains.

Run: ``python bench/gates/simulate.py``. No real data: the defaults were chosen from these tables alone.
"""

from __future__ import annotations

import numpy as np

from trimtab.gates.comparison import add_day, start_evidence, start_harm, verdict
from trimtab.gates.guardrails import GUARDRAILS, ROLLBACK_ALPHA
from trimtab.stats.betting import e_value, update, winsor_bound

RUNS, HOLDOUT, SHADOW, ROWS, LEVEL = 2000, 7, 28, 900, 0.46


def noise(rng, kind: str, size):
    """Unit variance; ``dependent`` has a correlation of 0.3 from one day to the next, which breaks the test's terms."""
    if kind == "heavy":
        return rng.standard_t(4, size) / np.sqrt(2)
    z = rng.normal(size=size)
    if kind == "dependent":
        for day in range(1, size[1]):
            z[:, day] = 0.3 * z[:, day - 1] + np.sqrt(1 - 0.3**2) * z[:, day]
    return z


def shadow(mean: float, sd: float, kind: str, *, alpha: float = 0.1):
    """Shares of superior, inferior and expired, and the mean days to a verdict."""
    gains = mean + sd * noise(np.random.default_rng(1), kind, (RUNS, HOLDOUT + SHADOW))
    answers, days = {"superior": 0, "inferior": 0, "open": 0}, 0
    for row in gains:
        evidence = start_evidence(winsor_bound(row[:HOLDOUT], level=LEVEL), margin=0.02 * LEVEL)
        answer = "open"
        for gain in row[HOLDOUT:]:
            evidence = add_day(evidence, ROWS, ROWS * gain)
            if (answer := verdict(evidence, alpha=alpha)) != "open":
                break
        answers[answer] += 1
        days += evidence.days
    return [answers[name] / RUNS for name in answers] + [days / RUNS]


def harm(mean: float, sd: float, kind: str):
    """Share rolled back within 28 canary days, and the mean days to it."""
    gains = mean + sd * noise(np.random.default_rng(2), kind, (RUNS, HOLDOUT + SHADOW))
    rolled, days = 0, 0
    for row in gains:
        state = start_harm(winsor_bound(row[:HOLDOUT], level=LEVEL))
        for day, gain in enumerate(row[HOLDOUT:], 1):
            state = update(state, -gain)
            if e_value(state) > GUARDRAILS / ROLLBACK_ALPHA:
                rolled += 1
                days += day
                break
    return rolled / RUNS, days / max(rolled, 1)


def skewed(*, alpha: float = 0.1):
    """Better by 0.01 on 85 % of days, worse by 0.08 on the others; shares that the bet alone and the gate let through."""
    gains = np.where(np.random.default_rng(7).random((RUNS, SHADOW)) < 0.15, -0.08, 0.01)
    bet, gate = 0, 0
    for row in gains:
        evidence, won, answers = start_evidence(0.01, margin=0.02 * LEVEL), False, set()
        for gain in row:
            evidence = add_day(evidence, ROWS, ROWS * gain)
            won |= e_value(evidence.superior) >= 1 / alpha
            answers.add(verdict(evidence, alpha=alpha))
        bet, gate = bet + won, gate + ("superior" in answers)
    return bet / RUNS, gate / RUNS


def main() -> None:
    print(f"shadow, {SHADOW} days, alpha 0.1, a day's gain = mean + sd * noise")
    print("| mean | sd | noise | superior | inferior | expired | days |\n|---|---|---|---|---|---|---|")
    for mean in (-0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02):
        for kind in ("normal", "heavy", "dependent"):
            cells = shadow(mean, 0.02, kind)
            print(
                f"| {mean} | 0.02 | {kind} | "
                + " | ".join(f"{cell:.3f}" for cell in cells[:3])
                + f" | {cells[3]:.0f} |"
            )
    print("| 0.01 | 0.01 | normal | " + " | ".join(f"{cell:.3f}" for cell in shadow(0.01, 0.01, "normal")[:3]) + " | |")
    bet, gate = skewed()
    print(f"\nskewed, worse by 0.0035 a day: the bet alone passes {bet:.3f}, with the plain mean {gate:.3f}")
    print("\ncanary, harm only\n| mean | noise | rolled back | days |\n|---|---|---|---|")
    for mean in (0.0, -0.02, -0.05, -0.1):
        for kind in ("normal", "heavy"):
            share, days = harm(mean, 0.02, kind)
            print(f"| {mean} | {kind} | {share:.3f} | {days:.1f} |")


if __name__ == "__main__":
    main()
