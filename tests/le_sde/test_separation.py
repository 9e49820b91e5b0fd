"""The phase transition: orders of growth, symmetry, and what separable means."""

from __future__ import annotations

import numpy as np
import pytest

from reprod.le_sde import separation
from reprod.training import stream

SETTINGS = {
    "alpha": 1.2, "beta": -0.3, "sigma": 1.0, "spread": 1.0, "classes": 3, "gap": 1.0, "samples": 400,
    "replicas": 4, "iterations": 3000,
}  # fmt: skip


def trace(model: str, r: float, **settings) -> separation.Trace:
    return separation.simulate(model, r, rng=stream(0, "test"), **{**SETTINGS, **settings})


@pytest.mark.parametrize("model", ["I", "L"])
def test_gap_outgrows_the_spread_below_one_and_not_above(model):
    slow, fast = trace(model, 0.6), trace(model, 1.5)
    assert np.median(slow.ratio[:, -1]) > 100 * np.median(slow.ratio[:, 0])
    assert np.median(fast.ratio[:, -1]) < 0.3 * np.median(fast.ratio[:, 10])
    assert separation.separable(slow.features[0]) and not separation.separable(fast.features[0])


def test_gap_grows_by_the_closed_form():
    """Without noise, gap(T)/gap(1) = exp((a - b)/K int_1^T t^-r dt) in the I-model."""
    found = trace("I", 0.7, sigma=1e-12, iterations=400)
    integral = (400**0.3 - 1) / 0.3
    growth = found.ratio[:, -1] / found.ratio[:, 0]
    np.testing.assert_allclose(growth, np.exp(0.5 * integral), rtol=1e-6)


def test_the_spread_grows_like_a_square_root():
    found = trace("I", 2.0, alpha=0.0, beta=0.0, spread=1e-9)
    within = found.features - found.features.mean(axis=2, keepdims=True)
    assert within.std() == pytest.approx(np.sqrt(2999 * 399 / 400), rel=0.03)


def test_without_local_elasticity_nothing_separates():
    found = trace("I", 0.6, alpha=0.5, beta=0.5)
    assert np.median(found.ratio[:, -1]) < 1
    assert not any(separation.separable(features) for features in found.features)


def test_separable_is_about_hyperplanes():
    rng = stream(0, "points")
    points = rng.standard_normal((3, 30, 3)) * 0.1
    assert separation.separable(points + 5 * np.eye(3)[:, None])
    assert not separation.separable(points)
    flat = points + 5 * np.eye(3)[:, None]
    flat[:2, :, 2] = 0.5  # a coordinate that says nothing about two of the classes
    assert separation.separable(flat)
    ring = np.stack([points[0, :, :2], points[0, :, :2] * 50])
    assert not separation.separable(ring)


@pytest.mark.parametrize("model", ["I", "L"])
def test_projections_rebuild_the_drift_of_centred_means(model):
    from reprod.le_sde.drift import drift_matrix

    centre = np.kron(np.eye(4) - 1 / 4, np.eye(4))
    modes = separation._projections(model, 1.2, -0.3, 4)
    wanted = centre @ drift_matrix(model, 1.2, -0.3, 4)
    np.testing.assert_allclose(sum(rate * P for rate, P in modes), wanted, atol=1e-14)
    np.testing.assert_allclose(sum(P for _, P in modes), centre, atol=1e-14)


def test_a_grand_mean_beyond_double_precision_hides_no_gap():
    """alpha = beta: gaps stay, while the grand mean grows like exp(0.5 t^0.4/0.4)."""
    found = trace("I", 0.6, alpha=0.5, beta=0.5, sigma=1e-6, gap=8.0, iterations=20_000)
    assert np.isfinite(found.features).all()
    np.testing.assert_allclose(found.ratio[:, -1], found.ratio[:, 0], rtol=1e-2)
    assert all(separation.separable(features) for features in found.features)


@pytest.mark.parametrize("near", [1 - 1e-9, 1 + 1e-12, 1 + 3e-16])
def test_exponents_near_one_are_as_smooth_as_any(near):
    """t^(1-r)/(1-r) loses all digits there."""
    at_one, close = (trace("I", r, iterations=300, sigma=1e-9) for r in (1.0, near))
    np.testing.assert_allclose(close.ratio, at_one.ratio, rtol=1e-6)


def test_an_unsolved_linear_programme_is_no_verdict(monkeypatch):
    from types import SimpleNamespace

    import scipy.optimize

    failed = SimpleNamespace(status=4, message="numerical difficulties")
    monkeypatch.setattr(scipy.optimize, "linprog", lambda *a, **k: failed)
    with pytest.raises(ArithmeticError, match="classes 0 and 1 was not solved: numerical"):
        separation.separable(stream(0, "points").standard_normal((2, 10, 2)))
