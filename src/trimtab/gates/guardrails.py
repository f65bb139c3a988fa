"""Guardrails of a canary: when to go back at once, and when what was seen is enough to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from trimtab.gates.comparison import PairedEvidence
from trimtab.stats.betting import REPORTED_MOST, e_value
from trimtab.stats.counts import excess_bound, share_e_value, split_e_value

ROLLBACK_ALPHA = 0.05
"""Greatest chance that a canary that is no worse is ever rolled back by one of the guardrails below."""
GUARDRAILS = 3
"""Errors, slow answers, loss: each may use a third of :data:`ROLLBACK_ALPHA`."""
SPLIT_ALPHA = 0.001
"""Of the traffic-split check: routing is a hash, so a wrong split is a fault and not bad luck."""
RATE_MARGIN = 0.01
"""A step passes only if the canary's rate of errors, and of slow answers, is less than this above the champion's."""

TYPICAL_RATE = 0.01
"""Where the bounds are tightest. With no bad answer in 500 the upper bound is 0.9 %, below the margin: which is why a
canary step asks for 500 answers."""


FAILED_ALL = 50
"""Requests of a canary from which on it goes back when every one of them failed, whoever asked."""


class Tally(NamedTuple):
    """What an arm did in a canary step so far."""

    asked: int
    """Requests that fell to the arm, failed ones included."""
    errors: int
    slow: int
    repeats: tuple[int, int, int] = (0, 0, 0)
    """Of each of these, how many say nothing new: they are of a unit that is counted already. The arm was drawn for it
    once, such as for a user, for a body of rows, or for a request that was sent again."""

    @property
    def units(self) -> tuple[int, int, int]:
        """Units that asked, that met an error, that got a slow answer; each was drawn by itself."""
        asked, errors, slow = self.repeats
        return self.asked - asked, self.errors - errors, self.slow - slow


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One guardrail: ``stop`` is a reason to roll back, ``go`` allows the next step, ``wait`` neither."""

    name: str
    state: Literal["stop", "go", "wait"]
    e_value: float
    """Evidence that the canary is worse (for the split: that it is wrong)."""
    stop_at: float
    bound: float | None = None
    """Upper bound of the excess rate; None for guardrails that have none."""
    margin: float | None = None


def judge_counts(champion: Tally, canary: Tally, *, share: float) -> tuple[Guardrail, ...]:
    """The traffic split first, then errors and slow answers of the step so far.

    All three count units, not requests: where both versions behave alike, each unit falls to the canary with the
    probability of its share, whatever it then asks, so a heavy user is no fault of the version that he fell to. From
    few units little can be said, and the step waits. That is exact as far as what one unit meets does not depend on
    others: requests that are slow together because they were answered in one batch are taken for independent.
    Errors and slow answers are judged anew in each step, with an alpha each; that a unit keeps its place from step to
    step is not taken into account.

    One stop is outside :data:`ROLLBACK_ALPHA`: a canary that failed all of its requests, :data:`FAILED_ALL` or more,
    while the champion did not fail all of its own. Where all traffic of a canary is that of one or two units, nothing
    can be shown, and it might fail them for ever; the price is that one unit which no version can answer, and which is
    all that a sound canary was asked by, sends it back.

    Parameters
    ----------
    share
        The canary's share of the units in this step, in (0, 1).

    Examples
    --------
    >>> [rail.state for rail in judge_counts(Tally(4500, 0, 0), Tally(500, 0, 0), share=0.1)]
    ['go', 'go', 'go']
    """
    (asked_new, errors_new, slow_new), (asked_old, errors_old, slow_old) = canary.units, champion.units
    split = min(split_e_value(asked_new, asked_old, share), REPORTED_MOST)
    rails = [Guardrail("split", "stop" if split > 1 / SPLIT_ALPHA else "go", split, 1 / SPLIT_ALPHA)]
    for name, old, new, all_fail in (
        ("errors", errors_old, errors_new, fails_all(champion, canary)),
        ("slow", slow_old, slow_new, False),
    ):
        evidence = min(share_e_value(new, old, share), REPORTED_MOST)
        excess = excess_bound((new, asked_new), (old, asked_old), alpha=ROLLBACK_ALPHA, typical=TYPICAL_RATE)
        stop_at = GUARDRAILS / ROLLBACK_ALPHA
        state: Literal["stop", "go", "wait"] = "go" if excess < RATE_MARGIN else "wait"
        state = "stop" if evidence > stop_at or all_fail else state
        rails.append(Guardrail(name, state, evidence, stop_at, excess, RATE_MARGIN))
    return tuple(rails)


def fails_all(champion: Tally, canary: Tally) -> bool:
    """Whether a canary failed every one of many requests, and the champion not all of its own.

    Examples
    --------
    >>> fails_all(Tally(0, 0, 0), Tally(50, 50, 0)), fails_all(Tally(9, 9, 0), Tally(50, 50, 0))
    (True, False)
    """
    champion_too = 0 < champion.asked == champion.errors
    return canary.errors == canary.asked >= FAILED_ALL and not champion_too


def judge_loss(evidence: PairedEvidence, *, alpha: float) -> Guardrail:
    """Harm to the predictions, paired: both versions on the same matured rows.

    ``stop`` on evidence of harm since the canary began. ``go`` when the rollout's days show, at ``1 / alpha``, that the
    challenger is better, or at least not worse by the margin, no harm is showing, and the plain mean, nothing cut, is
    not worse by more than the margin either.
    """
    stop_at = GUARDRAILS / ROLLBACK_ALPHA
    harm = e_value(evidence.harm) if evidence.harm is not None else 1.0
    if harm > stop_at:
        return Guardrail("loss", "stop", harm, stop_at)
    shown = max(e_value(evidence.superior), e_value(evidence.noninferior)) >= 1 / alpha
    kept = evidence.mean_gain >= -evidence.margin
    return Guardrail("loss", "go" if shown and kept and harm < 1 / alpha else "wait", harm, stop_at)
