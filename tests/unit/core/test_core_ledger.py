"""The pure part of the ledger: hash chain, upcasting, decision digest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.core.ledger import Draft, Event, decision_digest, normalized, upcast, verify
from trimtab.errors import InputError, LedgerCorrupt
from trimtab.testing.memory import MemoryLedger

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
data = st.dictionaries(st.sampled_from(["a", "b", "seconds"]), json_values, max_size=3)


def chain(contents, measured=("seconds",)):
    ledger = MemoryLedger()
    for number, content in enumerate(contents):
        ledger.append(
            "s", [Draft(f"e{number}", "T", content, number, number, measured=measured)], expected=number, epoch=1
        )
    return list(ledger.read())


@given(st.lists(data, max_size=5))
def test_an_honest_chain_verifies(contents):
    assert verify(chain(contents)) == len(contents)


@given(st.data())
def test_any_change_to_any_event_shows(pick):
    events = chain(pick.draw(st.lists(data, min_size=2, max_size=4)))
    index = pick.draw(st.integers(0, len(events) - 1))
    event = events[index]
    field, other = pick.draw(
        st.sampled_from(
            [
                ("data", {"forged": 1}),
                ("type", "Other"),
                ("id", "other"),
                ("happened", -1),
                ("known", -1),
                ("actor", "mallory"),
                ("cause", "other"),
                ("version", 9),
                ("measured", ("other",)),
            ]
        )
    )
    events[index] = replace(event, draft=replace(event.draft, **{field: other}))
    with pytest.raises(LedgerCorrupt, match=f"event {index + 1} "):
        verify(events)


@pytest.mark.parametrize(
    "change", [{"stream": "x"}, {"number": 7}, {"epoch": 7}, {"hash": "0" * 64}, {"previous": "1" * 64}]
)
def test_a_change_of_place_or_hash_shows(change):
    events = chain([{}, {}])
    with pytest.raises(LedgerCorrupt):
        verify([replace(events[0], **change), events[1]])


def test_a_missing_or_moved_event_shows():
    events = chain([{}, {}, {}])
    for broken in ([events[1], events[2]], [events[0], events[2]], [events[1], events[0], events[2]]):
        with pytest.raises(LedgerCorrupt):
            verify(broken)
    assert verify(events[1:], previous=events[0].hash) == 2


@given(data)
def test_normalizing_twice_is_normalizing_once(content):
    once = normalized(Draft("e", "T", content, 0, 0))
    assert normalized(once) == once


def test_a_draft_needs_an_id():
    with pytest.raises(InputError):
        normalized(Draft("", "T", {}, 0, 0))


def test_upcasting_goes_step_by_step_and_keeps_the_hash():
    (event,) = chain([{"a": 1}])
    steps = {
        ("T", 1): lambda content: {"b": content["a"]},
        ("T", 2): lambda content: {**content, "c": content["b"] + 1},
        ("Other", 3): lambda content: {},
    }
    newest = upcast(event, steps)
    assert newest.data == {"b": 1, "c": 2}
    assert newest.draft.version == 3
    assert newest.hash == event.hash
    assert upcast(event, {}) is event


@given(data, json_values)
def test_the_decision_digest_ignores_what_was_measured(content, seconds):
    one, two = chain([content]), chain([{**content, "seconds": seconds}])
    assert decision_digest(one) == decision_digest(two)
    assert decision_digest(chain([{**content, "b": "else"}])) != decision_digest(chain([{**content, "b": "other"}]))


def test_the_decision_digest_sees_content_order_and_six_digits():
    base = decision_digest(chain([{"a": 1.0}, {"b": 2}]))
    assert decision_digest(chain([{"a": 1.0 + 1e-9}, {"b": 2}])) == base
    assert decision_digest(chain([{"a": 1.0 + 1e-4}, {"b": 2}])) != base
    assert decision_digest(chain([{"b": 2}, {"a": 1.0}])) != base
    assert decision_digest(chain([{"a": 1.0}])) != base
    assert decision_digest([]) != base


def test_the_decision_digest_ignores_epoch_and_known():
    (event,) = chain([{"a": 1}])
    later = Event(event.seq, event.stream, event.number, 9, replace(event.draft, known=77, actor="x"), "p", "h")
    assert decision_digest([event]) == decision_digest([later])
