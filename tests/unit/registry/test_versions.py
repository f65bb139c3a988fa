from itertools import count

import pytest

from trimtab.core.ledger import Draft, Event, model_stream
from trimtab.errors import UnknownName
from trimtab.registry.versions import fold_registry, live_at

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def ledger(*lines, model="late"):
    seq = count(1)
    events = []
    for at, type_, data in lines:
        number = next(seq)
        draft = Draft(f"e{number}", type_, data, happened=at, known=at)
        events.append(Event(number, model_stream(model), number, 1, draft, "", ""))
    return events


def registered(at, version, number):
    data = {"version": version, "number": number, "metrics": {"roc_auc": 0.7 + number / 100}, "dataset": f"d{number}"}
    return (at, "VersionRegistered", data | {"job": f"j{number}"})


def shifted(at, version, share):
    return (at, "TrafficShifted", {"rollout": "r", "version": version, "share": share})


STORY = ledger(
    registered(10, A, 1),
    (11, "Approved", {"version": A, "by": "policy", "reason": "first model"}),
    (12, "Promoted", {"version": A, "replaces": "", "evidence": {"floors": "kept"}}),
    (15, "SomethingElse", {"version": "unheard of"}),
    registered(20, B, 2),
    shifted(21, B, 0.0),
    (25, "Approved", {"version": B, "by": "operator:ann", "reason": "looks right"}),
    shifted(26, B, 0.1),
    shifted(27, B, 0.5),
    (30, "Promoted", {"version": B, "replaces": A, "evidence": {"e": 21.0}}),
    registered(40, C, 3),
    shifted(41, C, 0.1),
    (45, "RolledBack", {"version": C, "to": B, "reason": "errors", "evidence": {"e": 70}}),
    (50, "RolledBack", {"version": B, "to": A, "reason": "operator", "evidence": {}}),
)


@pytest.mark.parametrize(
    ("when", "version", "others"),
    [
        (9, None, {}),
        (11, None, {}),
        (12, A, {}),
        (20, A, {}),
        (21, A, {B: 0.0}),
        (26, A, {B: 0.1}),
        (29, A, {B: 0.5}),
        (30, B, {}),
        (41, B, {C: 0.1}),
        (45, B, {}),
        (49, B, {}),
        (50, A, {}),
        (10**9, A, {}),
    ],
)
def test_what_was_live_at_any_time(when, version, others):
    answer = live_at(STORY, "late", when)
    assert (answer.version.digest if answer.version else None) == version
    assert {one.digest: one.share for one in answer.others} == others
    if version:
        assert answer.version.status == "production"
        assert answer.version.share == pytest.approx(1 - sum(others.values()))
        assert answer.rollout == ("r" if others else "")


def test_who_approved_it_on_what_data_metrics_and_evidence():
    answer = live_at(STORY, "late", 35)
    version = answer.version
    assert (version.number, version.digest, version.dataset, version.job) == (2, B, "d2", "j2")
    assert (version.approved_by, version.approved_reason, version.approved_at) == ("operator:ann", "looks right", 25)
    assert version.metrics == {"roc_auc": pytest.approx(0.72)}
    assert (version.registered_at, version.deployed_at) == (20, 26)
    assert (answer.evidence, answer.event, answer.promoted_at) == ({"e": 21.0}, "e10", 30)
    assert answer.previous == A


def test_statuses_and_reasons_at_the_end():
    state = fold_registry(STORY, "late")
    assert {v.number: (v.status, v.share, v.reason) for v in state.versions.values()} == {
        1: ("production", 1.0, ""),
        2: ("archived", 0.0, "operator"),
        3: ("archived", 0.0, "errors"),
    }
    assert state.previous == "", "a version that was rolled back is not stable"
    assert live_at(STORY, "late", 60).evidence == {}


def test_a_rejected_challenger_leaves_the_champion_everything():
    events = ledger(
        registered(1, A, 1),
        (2, "Promoted", {"version": A, "replaces": "", "evidence": None}),
        registered(3, B, 2),
        shifted(4, B, 0.5),
        (5, "Rejected", {"version": B, "reason": "worse", "evidence": {}}),
    )
    answer = live_at(events, "late", 5)
    assert (answer.version.digest, answer.version.share, answer.others, answer.rollout) == (A, 1.0, (), "")
    assert fold_registry(events, "late").versions[B].reason == "worse"


def test_the_same_training_twice_is_one_version():
    events = ledger(
        registered(1, A, 1), (2, "Rejected", {"version": A, "reason": "worse", "evidence": {}}), registered(3, A, 2)
    )
    (version,) = fold_registry(events, "late").versions.values()
    assert (version.number, version.status, version.registered_at) == (1, "staging", 1)


def test_the_fold_is_incremental():
    state = fold_registry(STORY[:7], "late")
    for event in STORY[7:]:
        state = state.apply(event)
    assert state == fold_registry(STORY, "late")


def test_other_models_do_not_matter():
    assert live_at(STORY, "early", 60).version is None


@pytest.mark.parametrize("name", [2, "2", "v2", "bbbb", B])
def test_a_version_is_found_by_number_or_digest(name):
    assert fold_registry(STORY, "late").version(name).digest == B


@pytest.mark.parametrize("name", [7, "", "b", "dddd", "latest"])
def test_an_unknown_version_names_the_known_ones(name):
    with pytest.raises(UnknownName, match="1 \\(aaaaaaaa\\)"):
        fold_registry(STORY, "late").version(name)


def test_a_decision_about_an_unregistered_version_is_refused():
    with pytest.raises(UnknownName, match="never registered"):
        fold_registry(ledger((1, "Promoted", {"version": A, "replaces": "", "evidence": None})), "late")


def test_a_rollback_of_the_champion_ends_the_rollout_under_way():
    events = [
        *STORY[:10],
        *ledger(
            registered(40, C, 3),
            shifted(41, C, 0.3),
            (42, "RolledBack", {"version": B, "to": A, "reason": "operator", "evidence": {}}),
        ),
    ]
    answer = live_at(events, "late", 42)
    assert (answer.version.digest, answer.version.share, answer.others) == (A, 1.0, ())
    assert fold_registry(events, "late").versions[C].share == 0.0


def test_a_shift_of_the_champion_says_nothing_new():
    assert fold_registry([*STORY[:3], *ledger(shifted(13, A, 0.4))], "late") == fold_registry(STORY[:3], "late")
