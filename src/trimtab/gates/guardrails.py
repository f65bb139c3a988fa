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


class Tally(NamedTuple):
    """What an arm did in a canary step so far."""

    asked: int
    """Requests that fell to the arm, failed ones included."""
    errors: int
    slow: int
    together: int = 0
    """Requests that fell to the arm together with others: a user's, or the rows of one body. They are not independent
    draws, so the split is judged without them."""

    @property
    def drawn(self) -> int:
        """Requests that the arm was drawn for, each by itself."""
        return self.asked - self.together


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

    Parameters
    ----------
    share
        The canary's share of the requests in this step, in (0, 1). Where requests fell to their arm together, errors
        and slow answers are held against the share that it really had: a heavy user is no fault of the version that
        he fell to. They are then not independent draws, and the bound is what it says only roughly.

    Examples
    --------
    >>> [rail.state for rail in judge_counts(Tally(4500, 0, 0), Tally(500, 0, 0), share=0.1)]
    ['go', 'go', 'go']
    """
    split = min(split_e_value(canary.drawn, champion.drawn, share), REPORTED_MOST)
    rails = [Guardrail("split", "stop" if split > 1 / SPLIT_ALPHA else "go", split, 1 / SPLIT_ALPHA)]
    grouped = canary.together + champion.together > 0 and canary.asked > 0 and champion.asked > 0
    held = canary.asked / (canary.asked + champion.asked) if grouped else share
    for name, old, new in (
        ("errors", champion.errors, canary.errors),
        ("slow", champion.slow, canary.slow),
    ):
        evidence = min(share_e_value(new, old, held), REPORTED_MOST)
        excess = excess_bound((new, canary.asked), (old, champion.asked), alpha=ROLLBACK_ALPHA, typical=TYPICAL_RATE)
        stop_at = GUARDRAILS / ROLLBACK_ALPHA
        state: Literal["stop", "go", "wait"] = "go" if excess < RATE_MARGIN else "wait"
        rails.append(Guardrail(name, "stop" if evidence > stop_at else state, evidence, stop_at, excess, RATE_MARGIN))
    return tuple(rails)


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
