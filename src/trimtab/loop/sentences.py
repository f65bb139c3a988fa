"""A sentence for every event: what a person reads in ``trimtab log``, in the timeline and in notifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trimtab.core.clock import duration_text, iso
from trimtab.core.ids import Json
from trimtab.core.ledger import Draft, Event
from trimtab.loop import events as e

Data = Mapping[str, Json]


def describe(event: Event | Draft) -> str:
    """What happened, why, and the key numbers, in one sentence.

    An event of a type that this version of Trimtab does not know is named, never hidden.

    Examples
    --------
    >>> describe(e.draft("model:m", 1, e.TRAINING_FAILED, {"job": "j1", "error": "out of memory"}, at=0))
    'Training j1 failed: out of memory'
    """
    sentence = _SENTENCES.get(event.type)
    return sentence(event.data) if sentence else f"{event.type} (unknown to this version)"


def version_text(data: Data, field: str = "version", number: str = "number") -> str:
    """A version as a person says it: its number and the first digits of its digest."""
    digest = str(data[field])[:8]
    return f"version {data[number]} ({digest})" if data.get(number) else f"version {digest}"


def _evidence_text(evidence: Json) -> str:
    if not isinstance(evidence, Mapping) or not evidence.get("days"):
        return ""
    return (
        f": mean gain {evidence['mean_gain']:+.4f} a row over {evidence['days']} days, {evidence['rows']} rows,"
        f" evidence {evidence['e_superior']:.3g} to 1 for better, {evidence['e_inferior']:.3g} to 1 for worse"
    )


def _fired(data: Data) -> str:
    return f"Retraining is due ({data['trigger']}): {data['reason']}"


def _held(data: Data) -> str:
    return f"Retraining ({data['trigger']}) is held back: {data['reason']}"


def _requested(data: Data) -> str:
    return f"Training {str(data['job'])[:8]} starts on data known until {iso(data['cutoff'])} ({data['trigger']})"


def _metrics_text(metrics: Mapping[str, Json]) -> str:
    numbers = [f"{name} {value:.4g}" for name, value in sorted(metrics.items()) if isinstance(value, int | float)]
    return ", ".join(numbers) or "no metrics"


def _finished(data: Data) -> str:
    return (
        f"Training {str(data['job'])[:8]} finished with {data['rows']} rows up to {iso(data['trained_until'])}:"
        f" {_metrics_text(data['metrics'])} on the held-out tail"
    )


_WORDS = {
    "variant": "register a variant",
    "register": "register a version that was made elsewhere",
    "rollback": "roll back",
    "force": "force a version past the gate",
    "kill": "throw the kill switch",
    "revive": "end the kill switch",
}
"""What was asked for, where its kind alone is no verb that a person would say after "asked to"."""


def _refused(data: Data) -> str:
    wanted = _WORDS.get(str(data["kind"]), data["kind"])
    return f"{data['by']} asked to {wanted}, which cannot be done: {data['reason']}"


def _variant(data: Data) -> str:
    smaller = data["parent_size_bytes"] / max(1, data["size_bytes"])
    return (
        f"{version_text(data).capitalize()} is version {str(data['parent'])[:8]} as {data['variant']},"
        f" {smaller:.2g} times smaller: {_metrics_text(data['metrics'])}"
        f" (before: {_metrics_text(data['parent_metrics'])})"
    )


def _brought(data: Data) -> str:
    judged = f"{_metrics_text(data['metrics'])} on {data['rows']} rows" if data["rows"] else "no rows to judge it on"
    return (
        f"{version_text(data).capitalize()} was made elsewhere, {data['by']} registered it: {data['reason']} ({judged})"
    )


def _floors(data: Data) -> str:
    values = {**{check["measure"]: check["value"] for check in data["checks"]}, **data["measured_values"]}
    parts = []
    for check in data["checks"]:
        value = values[check["measure"]]
        shown = "not measured" if value is None else f"{value:.4g}"
        sign = "≥" if check["side"] == "at_least" else "≤"
        kept = value is not None and (value >= check["bound"] if sign == "≥" else value <= check["bound"])
        how = ("" if kept else "(only reported) ") if check["passed"] else "breaks "
        parts.append(f"{check['measure']} {shown} {how}{sign} {check['bound']:g}")
    verdict = "passes its floors" if data["passed"] else "fails its floors"
    return f"{version_text(data).capitalize()} {verdict}" + (f": {', '.join(parts)}" if parts else " (none declared)")


def _rollout_started(data: Data) -> str:
    who = version_text(data).capitalize()
    if not data["champion"]:
        return f"{who} waits to become the first version"
    match data.get("strategy"):
        case "blue-green":
            return f"{who} is being loaded beside {version_text(data, 'champion', 'champion_number')}"
        case "canary":
            beside = version_text(data, "champion", "champion_number")
            return f"{who} begins as a canary beside {beside}, with {100 * data['wanted']:.3g}% of the requests"
        case "ab":
            arms = ", ".join(f"{arm['name']} ({arm['version'][:8]}) {arm['share']:.0%}" for arm in data["arms"])
            return f"An A/B test by {data['unit']} begins: {arms}"
    return (
        f"{who} runs in the shadow of {version_text(data, 'champion', 'champion_number')}: a day's gain counts up to"
        f" ±{data['bound']:.3g}, chance of promotion by luck at most {data['alpha']:.0%},"
        f" for at most {duration_text(data['expires'])}"
    )


def _gate_progressed(data: Data) -> str:
    return (
        f"Shadow day {iso(data['day'])[:10]}: {data['days']} days, {data['rows']} rows, gain so far"
        f" {data['gain']:+.4f} a row, evidence {data['e_superior']:.3g} to 1 for better, {data['e_inferior']:.3g} to 1"
        " for worse"
    )


def _gate_judged(data: Data) -> str:
    verdicts = {
        "superior": "is better than the champion",
        "inferior": "is worse than the champion",
        "expired": "could not show that it is better in time",
        "floors": "needs no comparison with the champion (none declared)",
    }
    return f"{version_text(data).capitalize()} {verdicts[data['verdict']]}{_evidence_text(data['evidence'])}"


def _shifted(data: Data) -> str:
    return f"{version_text(data).capitalize()} now answers {data['share']:.0%} of requests (step {data['step'] + 1})"


def _step_passed(data: Data) -> str:
    evidence = data["evidence"]
    units = f" (all requests are of {evidence['units']} units)" if "units" in evidence else ""
    return (
        f"{version_text(data).capitalize()} passed canary step {data['step'] + 1}: {evidence['answered']} answers,"
        f" {evidence['errors']} errors{units}, {evidence['slow']} slow, {evidence['canary_days']} matured days"
        f"{_evidence_text(evidence)}"
    )


def _promoted(data: Data) -> str:
    over = f" in place of {version_text(data, 'replaces', 'replaces_number')}" if data["replaces"] else ""
    return f"{version_text(data).capitalize()} is the champion{over}: {data['reason']}"


def _rolled_back(data: Data) -> str:
    if data["of"] == "test":  # which may be of the champion alone: nothing is withdrawn
        tested = "" if data["version"] == data["to"] else f" with {version_text(data)}"
        stays = version_text(data, "to", "to_number")
        return f"The A/B test{tested} is ended, {stays} stays the champion: {data['reason']}"
    to = f" to {version_text(data, 'to', 'to_number')}" if data["to"] else ""
    return f"{version_text(data).capitalize()} is rolled back{to}: {data['reason']}"


def _drift_changed(data: Data) -> str:
    what = "predictions" if data["feature"] == "prediction" else f"feature {data['feature']}"
    return (
        f"Drift of {what} is {data['severity']} (was {data['previous']}): PSI {data['psi']:.3f} against"
        f" {data['alarm_psi']:.3f} in ordinary weeks, KS {data['ks']:.3f}, {data['rows']} rows"
    )


def _quality(data: Data) -> str:
    week = f"Week of {iso(data['week'])[:10]}"
    seen = f"{data['labelled']} labels, {data['coverage']:.1%} coverage"
    if data["loss"] is None:
        return f"{week}: too few labels to judge ({seen})"
    if data["limit"] is None:
        return f"{week}: loss {data['loss']:.4f}, no limit yet: the reference is too short ({seen})"
    above = "above" if data["verdict"] == "drop" else "within"
    chance = "" if data["alpha"] is None else f"chance of a false alarm {100 * data['alpha']:.3g}%, "
    return f"{week}: loss {data['loss']:.4f} is {above} the limit {data['limit']:.4f} ({chance}{seen})"


def _by(verb: str) -> Callable[[Data], str]:
    return lambda data: f"{data['by']} {verb} {_permitted(data)}: {data['reason']}"


def _permitted(data: Data) -> str:
    """What was let through: of a test not one of its versions, but that it is held."""
    return "the A/B test" if data.get("strategy") == "ab" else version_text(data)


def _killed(data: Data) -> str:
    said = ", ".join(f"{value:g}" for value in data["constant"])
    instead = f"every answer is {said}" if said else f"{version_text(data, 'to', 'to_number')} answers"
    return f"{data['by']} pulled the kill switch of {version_text(data)}: {instead}: {data['reason']}"


_SENTENCES: dict[str, Callable[[Data], str]] = {
    e.MODEL_DECLARED: lambda d: (
        f"Model {d['model']} is under policy {d['policy'][:8]}"
        + (f" (was {d['previous'][:8]})" if d["previous"] else "")
    ),
    e.TRIGGER_FIRED: _fired,
    e.TRIGGER_HELD: _held,
    e.TRAINING_REQUESTED: _requested,
    e.TRAINING_FINISHED: _finished,
    e.TRAINING_FAILED: lambda d: f"Training {str(d['job'])[:8]} failed: {d['error']}",
    e.TRAINING_REPEATED: lambda d: f"Training {str(d['job'])[:8]} gave {version_text(d)} again: nothing to roll out",
    e.VERSION_REGISTERED: lambda d: f"{version_text(d).capitalize()} is registered, trained on {d['rows']} rows",
    e.FLOORS_JUDGED: _floors,
    e.ROLLOUT_STARTED: _rollout_started,
    e.GATE_PROGRESSED: _gate_progressed,
    e.GATE_JUDGED: _gate_judged,
    e.APPROVAL_REQUESTED: lambda d: (
        f"{version_text(d).capitalize()} waits for a person's approval{_evidence_text(d['evidence'])}"
    ),
    e.APPROVED: _by("approved"),
    e.DENIED: _by("denied"),
    e.VARIANT_MEASURED: _variant,
    e.VERSION_BROUGHT: _brought,
    e.FORCED: _by("forced past the gate"),
    e.TRAFFIC_SHIFTED: _shifted,
    e.STEP_PASSED: _step_passed,
    e.PROMOTED: _promoted,
    e.REJECTED: lambda d: f"{version_text(d).capitalize()} is rejected: {d['reason']}",
    e.ROLLED_BACK: _rolled_back,
    e.DAY_MATURED: lambda d: f"Labels of {iso(d['day'])[:10]} have matured: {d['labelled']} of {d['answered']}",
    e.QUALITY_JUDGED: _quality,
    e.DRIFT_CHANGED: _drift_changed,
    e.DRIFT_CONFIRMED: lambda d: (
        f"Drift of predictions is confirmed: {d['severity']} since {iso(d['since'])[:10]}, PSI {d['psi']:.3f} against"
        f" {d['alarm_psi']:.3f} in ordinary weeks"
    ),
    e.KILLED: _killed,
    e.REVIVED: lambda d: f"{d['by']} ended the kill switch, {version_text(d)} answers again: {d['reason']}",
    e.REQUEST_REFUSED: _refused,
    e.NOTIFIED: lambda d: f"{len(d['keys'])} notification{'s' if len(d['keys']) != 1 else ''} handed over",
}

QUIET = frozenset({e.GATE_PROGRESSED, e.DAY_MATURED, e.NOTIFIED, e.TRAFFIC_SHIFTED, e.VERSION_REGISTERED})
"""Types that a short timeline leaves out: bookkeeping, or said by the event beside them."""
