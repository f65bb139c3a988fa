"""The engine: the thin shell around ``decide`` that appends what it decided and has its commands done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.core.clock import Clock
from trimtab.core.ledger import Event, Ledger, model_stream
from trimtab.loop import events as e
from trimtab.loop.commands import Command, Notify, new_commands, pending_commands
from trimtab.loop.decide import decide
from trimtab.loop.fold import fold, fold_all
from trimtab.loop.observations import Observation
from trimtab.loop.policy import Policy
from trimtab.loop.state import State

Execute = Callable[[Command], None]
"""Does a command, or hands it over durably to what will. Idempotent by the command's id; a failure that will pass (a
notifier that is down) is its own to retry, and an error it raises ends the step, to be resumed later."""


class Loop:
    """The loop of one model.

    A step is: decide, append (atomically, at the expected place, under this epoch), fold, execute. A process that dies
    between any two of these loses nothing: the ledger says what was decided, :meth:`resume` does what may not have been
    done, and observations that were not taken in are told again by the caller.

    Parameters
    ----------
    ledger
        Holds the model's stream.
    policy
        What the model allows.
    epoch
        The fencing token of this process; a newer one elsewhere makes the next append raise ``StaleEpoch``.
    clock
        The time of decisions.
    execute
        Called with each command, after the events that ask for it are in the ledger.
    from_start
        Begin with no state although the stream may hold events: a replay that was cut off decides everything anew, and
        the ledger checks event by event that it comes to the same.
    measured_decide
        Passed on to :func:`trimtab.loop.decide.decide`; False in a replay.
    """

    def __init__(
        self,
        ledger: Ledger,
        policy: Policy,
        *,
        epoch: int,
        clock: Clock,
        execute: Execute,
        from_start: bool = False,
        measured_decide: bool = True,
    ) -> None:
        self._ledger, self.policy, self._epoch, self._clock, self._execute = ledger, policy, epoch, clock, execute
        self._measured_decide = measured_decide
        self.stream = model_stream(policy.model)
        events = () if from_start else ledger.read(stream=self.stream)
        self.state: State = fold_all(self.stream, events)

    def resume(self) -> None:
        """Ask again for everything that may not have been done; call it once, before the first step."""
        self._carry_out(pending_commands(self.state))

    def step(self, observations: Sequence[Observation] = ()) -> list[Event]:
        """Decide on what was observed, append it, and have it done. Returns the events of this step.

        Raises
        ------
        StaleEpoch
            Another process has taken over; this one must stop.
        ConflictError
            The stream has grown under this process; make a new ``Loop`` and tell the observations again.
        """
        now = self._clock.now()
        decision = decide(self.policy, self.state, observations, now, measured_decide=self._measured_decide)
        if not decision.drafts:
            return []
        before = self.state
        events = self._ledger.append(self.stream, decision.drafts, expected=before.number, epoch=self._epoch)
        self._fold(events)
        return events + self._carry_out(new_commands(before, self.state))

    def _carry_out(self, commands: Sequence[Command]) -> list[Event]:
        """Execute, then record which notices were handed over, so that they are not repeated after a restart."""
        for command in commands:
            self._execute(command)
        told = [command.key for command in commands if isinstance(command, Notify)]
        if not told:
            return []
        happened = max(notice.happened for notice in self.state.notices)
        draft = e.draft(self.stream, self.state.number + 1, e.NOTIFIED, {"keys": told}, at=happened)
        events = self._ledger.append(self.stream, [draft], expected=self.state.number, epoch=self._epoch)
        self._fold(events)
        return events

    def _fold(self, events: Sequence[Event]) -> None:
        for event in events:
            self.state = fold(self.state, event)
