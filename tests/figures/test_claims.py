"""The judge: each kind of claim says no, yes and nothing where it should, as often as it promises.

The table of error rates in docs/claims.md is what `python -m tests.figures.test_claims` prints.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reprod.figures import claims
from reprod.figures.claims import (
    NOT_COMPARABLE,
    NOT_REPRODUCED,
    PRINTED,
    REPRODUCED,
    UNDECIDED,
    All,
    AtLeast,
    AtMost,
    Claim,
    Equals,
    Estimate,
    Exact,
    Ordered,
    Share,
    our_limit,
)

SAID = {"name": "a", "statement": "it is so", "source": "figure 1", "published": "1", "basis": PRINTED}


def at_least(samples, bound=0.0, **more) -> AtLeast:
    return AtLeast(**{**SAID, "samples": samples, "bound": bound, **more})


def at_most(samples, bound=0.0, **more) -> AtMost:
    return AtMost(**{**SAID, "samples": samples, "bound": bound, **more})


def equals(samples, target=1.0, tolerance=0.5, **more) -> Equals:
    return Equals(
        **{**SAID, "samples": samples, "target": target, "tolerance": tolerance, "why": "half a unit", **more}
    )


def ordered(samples, **more) -> Ordered:
    return Ordered(**{**SAID, "samples": samples, **more})


def share(count, total, **more) -> Share:
    return Share(**{**SAID, "count": count, "total": total, **more})


def exact(value, target, **more) -> Exact:
    return Exact(**{**SAID, "value": value, "target": target, **more})


def verdict(claim: Claim) -> str:
    return claim.judge("paper").verdict


# -- how often each kind errs -----------------------------------------------------------------------------------------

TRIALS = 1500
RNG = np.random.default_rng(7)


def rates(make, draw, trials: int = TRIALS) -> dict[str, float]:
    made = (make(draw()) for _ in range(trials))
    found = [claim.decide(claim.estimate())[0] for claim in made]  # what `judge` says, without its words
    return {word: found.count(word) / trials for word in (REPRODUCED, NOT_REPRODUCED, UNDECIDED)}


def normal(value: float, n: int, spread: float = 1.0):
    return lambda: value + spread * RNG.standard_normal(n)


def noise(levels: int, seeds: int, step: float):
    return lambda: step * np.arange(levels)[:, None] + RNG.standard_normal((levels, seeds))


# (kind, the paper is wrong by the least amount that matters, it is right by as much as the paper's own effect)
CASES = {
    "AtLeast, n = 3": (at_least, normal(0, 3), normal(4, 3)),
    "AtLeast, n = 5": (at_least, normal(0, 5), normal(2, 5)),
    "AtLeast, n = 20": (at_least, normal(0, 20), normal(1, 20)),
    "AtMost, n = 5": (at_most, normal(0, 5), normal(-2, 5)),
    "Equals, n = 5, at the edge": (equals, normal(1.5, 5, 0.2), normal(1.0, 5, 0.2)),
    "Equals, n = 20, at the edge": (equals, normal(0.5, 20, 0.5), normal(1.0, 20, 0.5)),
    "Equals, published without spread, n = 5": (
        lambda x: equals(x[:-1] - x[-1] + 1.0, spread=False, paper_n=1),
        lambda: np.append(1.5 + 0.2 * RNG.standard_normal(5), 1.0 + 0.2 * RNG.standard_normal()),
        lambda: np.append(1.0 + 0.1 * RNG.standard_normal(5), 1.0 + 0.1 * RNG.standard_normal()),
    ),
    "Ordered, 4 levels, 5 seeds": (ordered, noise(4, 5, 0), noise(4, 5, 1.0)),
    "Ordered, 3 levels, 3 seeds": (ordered, noise(3, 3, 0), noise(3, 3, 2.0)),
    "Ordered, 2 levels, 8 seeds": (ordered, noise(2, 8, 0), noise(2, 8, 3.0)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_claim_that_is_wrong_is_called_reproduced_at_most_one_time_in_forty(case: str):
    make, wrong, _ = CASES[case]
    trials = 600 if case.startswith("Ordered") else TRIALS
    slack = 3 * math.sqrt(0.025 * 0.975 / trials)
    assert rates(make, wrong, trials)[REPRODUCED] <= 0.025 + slack


@pytest.mark.parametrize("case", CASES)
def test_a_claim_that_is_right_is_hardly_ever_refuted(case: str):
    make, _, right = CASES[case]
    found = rates(make, right, 300)
    assert found[NOT_REPRODUCED] <= 0.02
    assert found[REPRODUCED] >= 0.5, "it has power at the paper's n"


@pytest.mark.parametrize(("total", "limits", "true"), [
    (20, {"at_least": 0.9}, 0.9), (100, {"at_least": 0.9}, 0.9), (20, {"at_most": 0.1}, 0.1),
    (100, {"at_most": 0.02}, 0.02),
    (100, {"at_least": 0.3, "at_most": 0.6}, 0.3), (100, {"at_least": 0.3, "at_most": 0.6}, 0.6),
])  # fmt: skip
def test_a_share_errs_at_most_one_time_in_forty(total: int, limits: dict, true: float):
    """Exactly: over every count that can come."""
    wrong = [k for k in range(total + 1) if verdict(share(k, total, **limits)) == REPRODUCED]
    assert stats.binom.pmf(wrong, total, true).sum() <= 0.025


def test_the_error_is_not_far_below_what_is_promised():
    """Intervals that are too wide would never err, and never decide."""
    make, wrong, _ = CASES["AtLeast, n = 5"]
    assert rates(make, wrong)[REPRODUCED] >= 0.025 - 3 * math.sqrt(0.025 * 0.975 / TRIALS)


# -- the verdicts of one kind each ------------------------------------------------------------------------------------


def test_the_interval_is_students():
    x = [1.0, 2.0, 4.0, 7.0]
    low, high = stats.t.interval(0.95, 3, np.mean(x), stats.sem(x))
    assert claims.interval(x) == pytest.approx((low, high), rel=1e-12)
    assert claims.mean(x).value == 3.5
    assert (at_least(x).judge("paper").interval) == pytest.approx((low, high), rel=1e-12)


def test_the_prediction_interval_counts_both_spreads():
    x = [1.0, 2.0, 4.0, 7.0]
    half = stats.t.ppf(0.975, 3) * np.std(x, ddof=1) * math.sqrt(1 / 4 + 1 / 5)
    found = equals(x, 3.5, 9.0, spread=False, paper_n=5).judge("paper")
    assert found.interval == pytest.approx((3.5 - half, 3.5 + half), rel=1e-12)


def test_the_slope_has_students_interval():
    x, y = [0.0, 1, 2, 3, 4], [0.1, 0.9, 2.3, 2.8, 4.1]
    fitted = stats.linregress(x, y)
    found = claims.slope(x, y)
    half = stats.t.ppf(0.975, 3) * fitted.stderr
    assert (found.value, found.low, found.high) == pytest.approx(
        (fitted.slope, fitted.slope - half, fitted.slope + half)
    )
    assert not claims.slope([0, 1], [0, 1]).known, "any line fits two points"
    assert not claims.slope([0, 1, 2], [0, math.nan, 2]).known


def test_the_bootstrap_is_scipys():
    x = np.random.default_rng(0).exponential(size=30)
    found = claims.bootstrap(x, np.median)
    assert found.value == np.median(x) and found.low < found.value < found.high
    assert claims.bootstrap(x, np.median) == found, "the same each time"
    assert claims.bootstrap([2.0, 2.0, 2.0], np.median).low == 2.0


@pytest.mark.parametrize("make", [at_least, at_most, equals])
def test_nothing_one_or_nan_decides_nothing(make):
    for samples in ([], [1.0], [1.0, math.nan], [math.inf, 1.0]):
        found = make(samples).judge("paper")
        assert found.verdict == UNDECIDED, samples
        assert found.reason
    assert verdict(share(0, 0)) == UNDECIDED
    assert verdict(exact(math.nan, 1)) == UNDECIDED
    assert verdict(ordered([[1.0], [2.0], [3.0], [4.0]])) == UNDECIDED, "one seed in order is chance"
    assert verdict(ordered([[1.0, math.nan], [2.0, 3.0]])) == UNDECIDED


def test_a_bound_needs_the_whole_interval():
    wide = [0.0025, 0.26, 0.517]
    assert verdict(at_least(wide, 0.25)) == UNDECIDED, "0.26 [0.0025, 0.517] is no drop of more than 0.25"
    assert verdict(at_least([0.3, 0.31, 0.32], 0.25)) == REPRODUCED
    assert verdict(at_least([0.1, 0.11, 0.12], 0.25)) == NOT_REPRODUCED
    assert verdict(at_most([0.1, 0.11, 0.12], 0.25)) == REPRODUCED
    assert verdict(at_most([0.3, 0.31, 0.32], 0.25)) == NOT_REPRODUCED


def test_fewer_samples_do_not_make_a_number_easier_to_reproduce():
    full = 1.0 + 0.2 * np.array([-1.0, 1.0] * 10)
    assert verdict(equals(full)) == REPRODUCED
    assert verdict(equals(full[:2])) == UNDECIDED
    assert verdict(equals(full + 0.55)) == UNDECIDED, "the interval touches the band"
    assert verdict(equals(full + 5)) == NOT_REPRODUCED


def test_always_looks_at_every_seed():
    assert verdict(at_least([1.0] * 19 + [-0.1])) == REPRODUCED
    assert verdict(at_least([1.0] * 19 + [-0.1], each=True)) == NOT_REPRODUCED
    assert verdict(at_least([1.0, 1.1, 1.2], each=True)) == REPRODUCED


def test_seeds_without_success_count():
    claim = at_least([1.0, 1.1, 1.2], unsuccessful=2, criterion="accuracy 0.45")
    found = claim.judge("paper")
    assert found.verdict == NOT_REPRODUCED
    assert found.reason == "2 of 5 seeds without accuracy 0.45"
    assert verdict(dataclasses.replace(claim, allowed=2)) == REPRODUCED


def test_a_trend():
    rising = [[1.0, 1.1, 0.9], [2.0, 2.1, 1.9], [3.0, 3.1, 2.9], [4.0, 4.1, 3.9]]
    assert verdict(ordered(rising)) == REPRODUCED
    assert verdict(ordered(rising, rising=False)) == NOT_REPRODUCED
    assert verdict(ordered(rising[::-1], rising=False)) == REPRODUCED
    flat = np.random.default_rng(0).standard_normal((4, 40))
    assert verdict(ordered(flat)) == NOT_REPRODUCED, "no trend, with power enough to see one"
    assert verdict(ordered([[1.0, 1.0]] * 4)) in (UNDECIDED, NOT_REPRODUCED), "no order where nothing differs"


def test_a_share():
    assert verdict(share(70, 100, at_least=0.9)) == NOT_REPRODUCED, "cosine above 0.9 in 70 %"
    assert verdict(share(99, 100, at_least=0.9)) == REPRODUCED
    assert verdict(share(92, 100, at_least=0.9)) == UNDECIDED
    found = share(8, 10).estimate()
    expected = stats.binomtest(8, 10).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == (expected.low, expected.high)


def test_an_exact_value():
    assert verdict(exact(4, 4)) == REPRODUCED
    assert verdict(exact(4, 5)) == NOT_REPRODUCED
    assert verdict(exact([1.0, 2.0], [1.0, 2.001], rounding=0.01)) == REPRODUCED
    found = exact([1.0, 2.0], [1.0, 2.1], rounding=0.01).judge("paper")
    assert found.verdict == NOT_REPRODUCED
    assert found.reason == "1 of 2 differ, by up to 0.1"


def test_a_sentence_with_parts():
    yes, no, open_ = at_least([1.0, 1.1]), at_least([-1.0, -1.1]), at_least([1.0, -1.1])

    def both(*parts):
        return All(**SAID, parts=[dataclasses.replace(p, name=f"part {i}") for i, p in enumerate(parts)])

    assert verdict(both(yes, yes)) == REPRODUCED
    assert verdict(both(yes, open_)) == UNDECIDED
    assert verdict(both(yes, open_, no)) == NOT_REPRODUCED
    assert "part 1" in both(yes, no).judge("paper").reason
    assert verdict(dataclasses.replace(both(yes, yes), unsuccessful=1)) == NOT_REPRODUCED, "a seed without a result"
    assert verdict(both(yes, no).refuted()) == NOT_REPRODUCED
    assert verdict(both(yes, no).confirmed()) == REPRODUCED


# -- what scale and registration say ----------------------------------------------------------------------------------


def test_the_scale_has_a_say():
    claim = at_least([1.0, 1.1, 1.2], scales=("paper",), elsewhere="three layers show nothing")
    assert claim.judge("smoke").verdict == NOT_COMPARABLE
    assert claim.judge("small").verdict == NOT_COMPARABLE
    assert claim.judge("small").reason == "three layers show nothing"
    assert claim.judge("paper").verdict == REPRODUCED


def test_a_claim_says_where_its_number_comes_from():
    with pytest.raises(ValueError, match="has no basis"):
        at_least([1.0], basis="")
    with pytest.raises(ValueError, match="a reason for it"):
        equals([1.0], why="")
    with pytest.raises(ValueError, match="needs both"):
        at_least([1.0], refuted_by=lambda runs: runs)
    assert at_least([1.0], basis=our_limit("a fifth of a drop")).basis == "our limit: a fifth of a drop"


def test_how_many_further_seeds_would_decide():
    x = np.array([-0.6, 1.4, -0.6, 1.4, 0.4])
    found = at_least(x).judge("paper")
    assert found.verdict == UNDECIDED
    assert found.further_seeds is not None and found.further_seeds > 0
    assert f"{found.further_seeds} further seeds would decide" in found.reason
    n = len(x) + found.further_seeds
    spread = float(np.std(x, ddof=1))
    assert stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) < x.mean()
    assert stats.t.ppf(0.975, n - 2) * spread / math.sqrt(n - 1) >= x.mean(), "not one more than needed"
    assert at_least([-1.0, 1.0]).judge("paper").further_seeds is None, "a mean at the bound: no number would"


KINDS = [
    at_least([0.3, 0.5, 0.4], 0.25), at_least([-3.0, -5.0], 0.25), at_least([0.25, 0.25], 0.25), at_least([], 1.0),
    at_most([0.3, 0.5, 0.4], 0.25), at_most(Estimate(1.0, 0.5, 1.5, 9, "slope"), 2.0), equals([1.0, 3.0], 1.0),
    equals([math.nan], 1.0), ordered([[1.0], [2.0], [3.0]]), ordered([[1.0, 2.0], [1.0, 2.0]], rising=False),
    share(3, 5, at_least=0.9), share(3, 5, at_most=0.1), share(3, 5, at_least=0.3, at_most=0.7), exact(3, 4),
    exact([1.0, 2.0], 0.0, rounding=0.1), at_least([1.0, 1.1], unsuccessful=4),
]  # fmt: skip


@pytest.mark.parametrize("claim", KINDS, ids=lambda c: f"{type(c).__name__}")
def test_every_kind_can_say_no_and_yes_whatever_its_samples(claim: Claim):
    assert verdict(claim.refuted()) == NOT_REPRODUCED
    assert verdict(claim.confirmed()) == REPRODUCED


# -- laws -------------------------------------------------------------------------------------------------------------

numbers = st.lists(st.floats(-100, 100, allow_nan=False), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(numbers, st.floats(-50, 50), st.randoms())
def test_the_order_of_the_samples_does_not_matter(samples, bound, random):
    shuffled = list(samples)
    random.shuffle(shuffled)
    one, other = at_least(samples, bound).judge("paper"), at_least(shuffled, bound).judge("paper")
    assert one.verdict == other.verdict or math.isclose(one.interval[0], bound, abs_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(numbers, st.floats(-50, 50), st.sampled_from([2.0**k for k in (-20, -3, 3, 20)]))
def test_the_unit_does_not_matter(samples, bound, factor):
    scaled = [factor * s for s in samples]
    assert verdict(at_least(samples, bound)) == verdict(at_least(scaled, factor * bound))


@settings(max_examples=60, deadline=None)
@given(numbers, st.floats(-50, 50))
def test_a_bound_from_below_is_one_from_above_in_the_mirror(samples, bound):
    assert verdict(at_least(samples, bound)) == verdict(at_most([-s for s in samples], -bound))


def test_more_data_decides_more_and_does_not_turn_round():
    for n_few, n_many in ((4, 8), (8, 30)):
        few, many = (rates(at_least, normal(0.8, n), 400) for n in (n_few, n_many))
        assert many[REPRODUCED] > few[REPRODUCED]
        assert many[NOT_REPRODUCED] <= few[NOT_REPRODUCED] + 0.01


if __name__ == "__main__":
    print("| kind | wrong: reproduced | right: reproduced | right: not reproduced |\n|---|---|---|---|")
    for name, (make, wrong, right) in CASES.items():
        no, yes = rates(make, wrong, 4000), rates(make, right, 4000)
        print(f"| {name} | {no[REPRODUCED]:.3f} | {yes[REPRODUCED]:.3f} | {yes[NOT_REPRODUCED]:.3f} |")
