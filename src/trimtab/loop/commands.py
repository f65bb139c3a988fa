"""Commands: what the loop wants done outside. Each is idempotent by its id, so that doing one twice does it once."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from trimtab.core.clock import Micros
from trimtab.loop.state import Killed, State
from trimtab.serving.routing import Arm, Route, killed


@dataclass(frozen=True, slots=True)
class Train:
    """Start a training job; ``job_id`` names the work."""

    job_id: str
    model: str
    cutoff: Micros
    """Nothing known after this may be learned from."""
    reason: str
    champion: str
    """The version to compare with on the held-out tail; empty when there is none."""
    seed: int


@dataclass(frozen=True, slots=True)
class ApplyRoute:
    """Make workers answer by this route; a lower generation than the one in force is ignored."""

    route: Route
    generation: int
    """Grows with every change of this model's route. A table of several models may use their sum."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell a person; ``key`` is the idempotency key of the message."""

    kind: str
    text: str
    key: str


Command = Train | ApplyRoute | Notify


def route_of(state: State) -> Route | None:
    """How requests are answered in a state; None before the first champion.

    Every arm that does not answer a request scores it in the shadow, so that champion and challenger can be compared
    on the same rows in every phase.
    """
    champion, rollout = state.champion, state.rollout
    if not champion:
        return None
    model = state.stream.removeprefix("model:")
    held = (state.stable,) if state.stable else ()
    alone = Route(model, (Arm("champion", champion, 1.0),), held=held)
    if state.killed is not None:
        return _killed(alone, state.killed)
    if rollout is None or not rollout.champion:
        return alone
    match rollout.phase:
        case "warming":
            return replace(alone, held=(*held, rollout.version))
        case "test":
            arms = tuple(Arm(arm.name, arm.version, arm.share) for arm in rollout.arms)
            kept = held if any(arm.version == champion for arm in arms) else (*held, champion)
            return Route(model, arms, rollout=rollout.id, salt=rollout.id, held=kept, unit=rollout.unit)
        case "canary":
            arms = (Arm("champion", champion, 1 - rollout.share), Arm("canary", rollout.version, rollout.share))
        case _:
            arms = (Arm("champion", champion, 1.0), Arm("shadow", rollout.version, 0.0))
    return Route(model, arms, rollout=rollout.id, salt=rollout.id, held=held)


def _killed(alone: Route, switch: Killed) -> Route:
    """As :func:`trimtab.serving.routing.killed`, but back to the version that was named when the switch was pulled."""
    if switch.constant:
        return killed(alone, constant=switch.constant)
    return killed(replace(alone, held=(switch.to,)))


def pending_commands(state: State) -> tuple[Command, ...]:
    """What must be true outside and may not be: after a crash, all of it is asked for again.

    The route comes first: predictions wait for nobody. Then trainings under way, then notices not handed over.
    """
    route = route_of(state)
    commands: list[Command] = [] if route is None else [ApplyRoute(route, state.route)]
    commands += [_train(state, job) for job in sorted(state.trainings)]
    commands += [Notify(notice.kind, notice.text, notice.key) for notice in state.notices]
    return tuple(commands)


def new_commands(before: State, after: State) -> tuple[Command, ...]:
    """What is pending after a decision and was not before it."""
    already = set(before.trainings) | {notice.key for notice in before.notices}
    return tuple(command for command in pending_commands(after) if not _is_old(command, already, before.route))


def _is_old(command: Command, already: set[str], generation: int) -> bool:
    match command:
        case Train(job_id=job):
            return job in already
        case Notify(key=key):
            return key in already
        case ApplyRoute(generation=number):
            return number == generation


def _train(state: State, job: str) -> Train:
    training = state.trainings[job]
    return Train(
        job_id=job,
        model=state.stream.removeprefix("model:"),
        cutoff=training.cutoff,
        reason=training.reason,
        champion=training.champion,
        seed=training.seed,
    )
