"""The decision: a pure function of policy, state, observations and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.core.clock import Micros
from trimtab.core.ledger import Draft
from trimtab.loop import events as e
from trimtab.loop.candidates import fail_training, finish_training
from trimtab.loop.commands import Command, new_commands
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.matured import mature, notice_drift
from trimtab.loop.observations import Asked, Counted, DayMatured, Drifted, JobDone, JobLost, Observation, Warmed
from trimtab.loop.policy import Policy
from trimtab.loop.requests import answer_request
from trimtab.loop.rollout import count_answers, expire
from trimtab.loop.state import State
from trimtab.loop.strategies import take_warmth
from trimtab.loop.triggers import consider_retraining


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be appended, and what is then to be done."""

    drafts: tuple[Draft, ...]
    commands: tuple[Command, ...]
    state: State
    """The state once the drafts are in the ledger."""


def decide(
    policy: Policy, state: State, observations: Sequence[Observation], now: Micros, *, measured_decide: bool = True
) -> Decision:
    """Decide what follows from what was observed.

    Pure: the same arguments give the same drafts, ids included, on every machine. Observations are taken in the order
    given; one that was taken in before changes nothing, so a caller that is not sure may tell it again.

    Parameters
    ----------
    policy
        What the model allows.
    state
        The fold of the model's stream.
    observations
        What happened since. ``Counted`` is the one kind that leaves no trace of its own: tell the newest each time.
    now
        The time, in microseconds.
    measured_decide
        Whether floors on what a wall clock measured (:data:`trimtab.gates.floors.MEASURED`) may refuse a version. Not
        in a replay: how busy the machine was must not change what is decided.
    """
    work = Deliberation(policy, state, now, measured_decide=measured_decide)
    if state.policy != policy.digest:
        declared = {"model": policy.model, "policy": policy.digest, "previous": state.policy}
        work.record(e.MODEL_DECLARED, declared)
    for observation in observations:
        _take_in(work, observation)
    expire(work)
    consider_retraining(work)
    return Decision(tuple(work.drafts), new_commands(state, work.state), work.state)


def _take_in(work: Deliberation, observation: Observation) -> None:
    match observation:
        case JobDone():
            finish_training(work, observation)
        case JobLost():
            fail_training(work, observation)
        case DayMatured():
            mature(work, observation)
        case Drifted(report=report):
            notice_drift(work, report)
        case Counted():
            count_answers(work, observation)
        case Warmed():
            take_warmth(work, observation)
        case Asked():
            answer_request(work, observation)
