"""Drifts, estimators and simulations against closed forms (spec section 5)."""

from __future__ import annotations

import numpy as np
import pytest

from reprod.le_sde import drift, estimate, simulate
from reprod.training import stream

K = 3
ALPHA, BETA = 2e-3, -3e-4


def start(classes: int = K, dim: int | None = None) -> np.ndarray:
    return stream(3, "start").standard_normal((classes, dim or classes))


def strengths(steps: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(steps)
    return 4e-3 * np.exp(-t / 700) + 1e-4, -5e-4 * np.cos(t / 300)


# -- drift ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_spectrum_of_the_i_model(classes):
    dim = 2
    found = np.sort(np.linalg.eigvals(drift.drift_matrix("I", ALPHA, BETA, classes, dim)).real)
    gap, mean = drift.rates("I", np.asarray(ALPHA), np.asarray(BETA), classes)
    wanted = np.sort([gap] * (classes - 1) * dim + [mean] * dim)
    np.testing.assert_allclose(found, wanted, atol=1e-15)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_spectrum_of_the_l_model(classes):
    found = np.sort(np.linalg.eigvals(drift.drift_matrix("L", ALPHA, BETA, classes)).real)
    one, two = drift.rates("L", np.asarray(ALPHA), np.asarray(BETA), classes)
    wanted = np.sort([one] + [two] * (classes - 1) + [0.0] * (classes**2 - classes))
    np.testing.assert_allclose(found, wanted, atol=1e-15)


def test_the_l_model_has_as_many_features_as_classes():
    with pytest.raises(ValueError, match="3 logits, not 2"):
        drift.drift_matrix("L", ALPHA, BETA, 3, 2)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_directions_are_a_simplex_frame(classes):
    u = drift.directions(classes)
    np.testing.assert_allclose(u.sum(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(drift.cosines(u), -1 / (classes - 1), atol=1e-14)


@pytest.mark.parametrize("model", ["I", "L"])
def test_closed_solutions_are_the_matrix_exponential(model):
    from scipy.linalg import expm

    t = np.array([0.0, 500.0, 4000.0])
    solved = (
        drift.solution_i(start(), ALPHA * t, BETA * t) if model == "I" else drift.solution_l(start(), ALPHA, BETA, t)
    )
    M = drift.drift_matrix(model, ALPHA, BETA, K)
    for time, means in zip(t, solved, strict=True):
        np.testing.assert_allclose(means.ravel(), expm(time * M) @ start().ravel(), rtol=1e-11)


def test_mode_one_leads_to_a_simplex_frame():
    u = drift.directions(4)
    moved = drift.solution_l(0.3 * u, ALPHA, BETA, np.array([0.0, 3000.0]))
    np.testing.assert_allclose(drift.cosines(moved[1] - moved[0]), -1 / 3, atol=1e-12)


# -- simulation -------------------------------------------------------------------------------------------------------


def test_euler_at_constant_strengths_has_the_published_numbers():
    steps = np.full(4000, 1.0)
    flow = simulate.build(ALPHA * steps, BETA * steps, K)
    mbar, v = drift.amplitudes(flow(start()))
    assert mbar[-1] / mbar[0] == pytest.approx(21.428575577918, rel=1e-12)
    np.testing.assert_allclose(v[-1] / v[0], 11.766893433257, rtol=1e-12)
    exact = simulate.build(ALPHA * steps, BETA * steps, K, integrator="exponential")
    mbar, v = drift.amplitudes(exact(start()))
    assert mbar[-1] / mbar[0] == pytest.approx(21.453762, rel=1e-7)
    np.testing.assert_allclose(v[-1] / v[0], 11.775840, rtol=1e-7)


@pytest.mark.parametrize("model", ["I", "L"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_flow_is_the_step_loop(model, classes):
    alpha, beta = strengths()
    x = start(classes)
    fast, slow = simulate.build(alpha, beta, classes, drift=model)(x), simulate.by_steps(x, alpha, beta, model)
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", ["I", "L"])
def test_means_over_the_tail_need_no_solutions(model):
    flow = simulate.build(*strengths(), K, drift=model)
    starts = stream(4, "starts").standard_normal((5, K, K))
    found = simulate.tail_means(flow, starts, 300)
    np.testing.assert_allclose(found, flow(starts)[:, -300:].mean(axis=1), rtol=1e-10, atol=1e-12)


def test_cosines_of_vectors():
    found = simulate.cosine(np.array([[2.0, 0, 0], [0, -3, 0], [1, 1, 0]]), np.array([0, 5.0, 0]))
    np.testing.assert_allclose(found, [0, -1, 0.5**0.5])


@pytest.mark.parametrize("model", ["I", "L"])
def test_the_exponential_integrator_is_exact(model):
    steps = np.arange(3000.0)
    solved = simulate.build(np.full(3000, ALPHA), np.full(3000, BETA), K, drift=model, integrator="exponential")(
        start()
    )
    wanted = (
        drift.solution_i(start(), ALPHA * steps, BETA * steps)
        if model == "I"
        else drift.solution_l(start(), ALPHA, BETA, steps)
    )
    np.testing.assert_allclose(solved, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("model", ["I", "L"])
@pytest.mark.parametrize("integrator", ["euler", "exponential"])
def test_flows_are_linear_and_conserve(model, integrator):
    alpha, beta = strengths(500)
    flow = simulate.build(alpha, beta, K, drift=model, integrator=integrator)
    x, y = start(), stream(4, "start").standard_normal((K, K))
    np.testing.assert_allclose(flow(2 * x - y), 2 * flow(x) - flow(y), atol=1e-12)
    np.testing.assert_allclose(flow(np.stack([x, y]))[1], flow(y), atol=1e-14)
    if model == "L":
        sums = flow(x).sum(axis=-1)
        np.testing.assert_allclose(sums, np.broadcast_to(x.sum(axis=-1), sums.shape), atol=1e-12)
    still = simulate.build(0 * alpha, 0 * beta, K, drift=model, integrator=integrator)(x)
    np.testing.assert_allclose(still, np.broadcast_to(x, still.shape), atol=1e-14)


def test_equal_strengths_move_no_gap():
    alpha, _ = strengths(500)
    _, gap = drift.gaps(simulate.build(alpha, alpha, K, drift="I")(start()))
    np.testing.assert_allclose(gap, np.broadcast_to(gap[0], gap.shape), atol=1e-13)
    mbar, _ = drift.amplitudes(simulate.build(alpha, alpha, K, drift="L")(start()))
    np.testing.assert_allclose(mbar, mbar[0], atol=1e-13)


@pytest.mark.parametrize("model", ["I", "L"])
def test_classes_and_logits_permute_together(model):
    alpha, beta = strengths(500)
    order = [2, 0, 1]
    flow = simulate.build(alpha, beta, K, drift=model)
    permuted = flow(start()[order][:, order])
    np.testing.assert_allclose(permuted, flow(start())[:, order][:, :, order], atol=1e-12)


def test_deviation_by_linearity_is_that_of_many_draws():
    alpha, beta = strengths(400)
    flow = simulate.build(alpha, beta, K)
    starts, sigma = simulate.gaussian_starts(start(), 4000, 0.5, stream(0, "starts"))
    np.testing.assert_allclose(sigma, 0.5 * np.linalg.norm(start(), axis=1) / np.sqrt(3))
    drawn, exact = flow(starts).std(axis=0), simulate.deviation(flow, sigma)
    np.testing.assert_allclose(drawn, exact, rtol=0.05)


# -- estimators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_i_estimator_is_exact(classes):
    alpha, beta = strengths()
    A, B = np.cumsum(alpha) - alpha[0], np.cumsum(beta) - beta[0]
    found = estimate.i_model(drift.solution_i(start(classes, classes), A, B))
    np.testing.assert_allclose(found, [A, B], atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_modes_estimator_is_exact(classes):
    alpha, beta = strengths()
    one, two = drift.rates("L", alpha, beta, classes)
    one[0] = two[0] = 0
    L1, L2 = classes * np.cumsum(np.log1p(one)), classes * np.cumsum(np.log1p(two))
    A, B = estimate.modes(simulate.build(alpha, beta, classes)(start(classes)))
    np.testing.assert_allclose(A - B, L1, atol=1e-11)
    np.testing.assert_allclose(A + B / (classes - 1), L2, atol=1e-11)


def test_the_published_l_estimator_needs_a_start_in_the_growing_subspace():
    """Its trap: exact if all of Xbar(0) grows, off by half a unit from a general start (spec, trap 7)."""
    t = np.arange(4001.0)
    M = drift.drift_matrix("L", ALPHA, BETA, K)
    inside = (M @ start().ravel()).reshape(K, K)  # the range of M is what grows
    A, B = estimate.l_model(drift.solution_l(inside, ALPHA, BETA, t))
    assert (A[-1], B[-1]) == (pytest.approx(8.0, abs=1e-8), pytest.approx(-1.2, abs=1e-8))
    A, B = estimate.l_model(drift.solution_l(start(), ALPHA, BETA, t))
    assert A[-1] - B[-1] != pytest.approx(9.2, abs=1e-6) or A[-1] != pytest.approx(8.0, abs=1e-3)
    exact = estimate.modes(drift.solution_l(start(), ALPHA, BETA, t))
    assert (exact[0][-1], exact[1][-1]) == (pytest.approx(8.0, abs=1e-10), pytest.approx(-1.2, abs=1e-10))


def test_the_published_l_estimator_is_for_three_classes():
    with pytest.raises(ValueError, match="use modes"):
        estimate.l_model(np.ones((10, 4, 4)))


def test_permuted_classes_change_the_published_l_estimate_alone():
    alpha, beta = strengths()
    means = simulate.build(alpha, beta, K)(start())
    permuted = means[:, [2, 0, 1]][:, :, [2, 0, 1]]
    for name, same in (("I", True), ("modes", True), ("L", False)):
        a, b = (np.stack(estimate.ESTIMATORS[name](m)) for m in (means, permuted))
        assert np.allclose(a, b, atol=1e-10) == same


def test_a_baseline_shifts_the_level_only():
    alpha, _ = strengths()
    A = np.cumsum(alpha) - alpha[0]
    means = drift.solution_i(start(), A, 0 * A)
    plain, robust = (estimate.i_model(means, baseline)[0] for baseline in (1, 200))
    assert robust[-1] < plain[-1]
    np.testing.assert_allclose(np.diff(robust), np.diff(plain), atol=1e-12)


@pytest.mark.parametrize("q", [-0.3, 0.2, 0.7])
@pytest.mark.parametrize("steps", [1500, 10_000])
def test_tail_index_of_a_power(q, steps):
    t = np.arange(1, steps + 1.0)
    for sign in (1, -1):
        assert estimate.tail_index(sign * t**q) == pytest.approx(1 - q, abs=1e-12)
    assert estimate.tail_slope(5 * t**q) == pytest.approx(1 - q, abs=1e-9)


@pytest.mark.parametrize(("level", "steps", "r"), [(19.4, 10_000, 0.67623), (13.6, 30_000, 0.74640)])
def test_tail_index_of_a_constant(level, steps, r):
    assert estimate.tail_index(np.full(steps, level)) == pytest.approx(r, abs=2e-3)


def test_tail_index_drops_the_minority_sign_and_missing_values():
    t = np.arange(1, 5001.0)
    A = t**0.4
    A[-1000:-700] *= -1
    A[-50:] = np.nan
    assert estimate.tail_index(A) == pytest.approx(0.6, abs=1e-12)
    assert np.isnan(estimate.tail_index(np.full(100, np.nan)))


@pytest.mark.parametrize("window", [21, 151, 551])
def test_rates_of_a_quadratic_are_exact(window):
    t = np.arange(2000.0)
    rate = estimate.rate(3 + 0.2 * t - 1e-4 * t**2, window)
    np.testing.assert_allclose(rate, 0.2 - 2e-4 * t, atol=1e-9)


def test_short_series_take_a_shorter_window():
    t = np.arange(100.0)
    for length in (99, 100):
        np.testing.assert_allclose(estimate.rate(t[:length] ** 2, 151), 2 * t[:length], atol=1e-9)


def test_class_means_keep_empty_cells():
    rng = stream(0, "logits")
    logits, labels = rng.standard_normal((4, 50, 3)), rng.integers(3, size=(4, 50))
    means, count = estimate.class_means(logits, labels, 3)
    assert (count == 0).any() and np.isnan(means[count == 0]).all() and np.isfinite(means[count > 0]).all()
    t, k = 7, int(labels[0, 7])
    np.testing.assert_allclose(means[t, k], logits[labels[:, t] == k, t].mean(axis=0))
    whole = estimate.filled(means)
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(whole[count > 0], means[count > 0])


def test_missing_cells_are_interpolated_linearly():
    series = np.array([np.nan, 1.0, np.nan, 3.0, np.nan])
    np.testing.assert_array_equal(estimate.filled(series), [1, 1, 2, 3, 3])


def test_estimates_survive_missing_cells():
    alpha, beta = strengths()
    means = drift.solution_i(start(), np.cumsum(alpha) - alpha[0], np.cumsum(beta) - beta[0])
    whole = estimate.i_model(means)[0]
    means[[0, 5, 900], [1, 0, 2]] = np.nan
    A = estimate.i_model(means)[0]
    assert np.isnan(A[900]) and abs(A[-1] - whole[-1]) < 0.2
    assert np.isfinite(estimate.rate(A, 21)).all()


def test_rolling_mean_is_shorter_at_the_ends():
    rolled = estimate.rolling(np.arange(30.0), 10)
    assert len(rolled) == 30 and rolled[15] == 14.5 and rolled[0] == 2.0
