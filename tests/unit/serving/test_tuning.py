import math

import pytest

from trimtab.errors import InputError
from trimtab.serving.profile import ModelProfile, ServingProfile, decode_profile, encode_profile
from trimtab.serving.tuning import Measured, Target, Trial, choose, closest, grows, scales, sizes, worse_of


def found(workers=1, threads=1, batch=32, *, rate=100.0, p99=5.0, errors=0):
    return Measured(Trial(workers, threads, batch), 100, errors, rate, p99 / 2, p99)


def test_without_a_rate_the_highest_that_meets_the_target_wins():
    too_slow, good, better = found(batch=128, rate=900, p99=25), found(batch=8, rate=300), found(batch=32, rate=500)
    assert choose([too_slow, good, better], Target(20)) is better


def test_nearly_as_much_for_less_wins():
    cheap, dear = found(rate=980), found(2, rate=1000, p99=2)
    assert choose([dear, cheap], Target(20)) is cheap
    assert choose([dear, cheap._replace(rate=900)], Target(20)) is dear


def test_with_a_rate_the_cheapest_that_carries_it_wins():
    cheap, faster, dear = found(rate=500, p99=9), found(batch=8, rate=499, p99=7), found(2, rate=505, p99=1)
    assert choose([cheap, dear, faster], Target(20, 500)) is faster
    assert choose([cheap._replace(rate=400), dear], Target(20, 500)) is dear


@pytest.mark.parametrize("bad", [found(p99=21), found(errors=1), found(rate=480), found(p99=math.inf)])
def test_what_misses_the_target_is_never_chosen(bad):
    assert choose([bad], Target(20, 500)) is None
    assert closest([bad, found(p99=30)]).errors == 0


def test_nothing_measured_gives_no_choice():
    assert (choose([], Target(20)), closest([])) == (None, None)


def test_of_two_measurements_the_worse_counts():
    assert worse_of(found(p99=5), found(p99=9)).p99_ms == 9
    assert worse_of(found(p99=9), found(p99=5, errors=1)).errors == 1


def test_what_is_not_worth_measuring():
    assert list(sizes((128, 1, 8, 32), waiting=8)) == [1, 8]
    assert list(sizes((4,), waiting=1)) == [4]
    assert scales([4], [1, 2], cores=2) == [(4, 1)]
    assert not grows(found(rate=100), found(rate=102))
    assert grows(found(rate=100, p99=5), found(rate=100, p99=4))


def test_a_profile_comes_back_as_it_was_written():
    profile = ServingProfile({"a": ModelProfile(8, 1.5, 2)}).with_model("b", ModelProfile(), workers=2)
    assert decode_profile(encode_profile(profile)) == profile
    assert profile.of("a").max_batch == 8
    assert profile.of("nobody") == ModelProfile()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"models": {"a": {"max_batch": 0}}}', "max_batch"),
        (b'{"models": {"a": {"max_wait_ms": -1}}}', "max_wait_ms"),
        (b'{"models": {"a": {"threads": 1000}}}', "threads"),
        (b'{"models": {"a": {"max_bach": 1}}}', "max_bach"),
        (b'{"workers": -1}', "workers"),
        (b"not json", "serving.json"),
    ],
)
def test_a_profile_with_a_mistake_is_refused_by_name(text, named):
    with pytest.raises(InputError, match=named):
        decode_profile(text)
