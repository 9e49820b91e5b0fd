"""The Gaussian process against scikit-learn, its limits, and its two ways of evaluation."""

import numpy as np
import pytest
from scipy.stats import norm

from reprod.morse_graph import surrogate


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (60, 2))
    return X, 1.02 * X + np.sign(X) + 0.2 * rng.normal(size=X.shape)


def test_equals_scikit_learn(pairs):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    X, Y = pairs
    ours = surrogate.fit(X, Y)
    theirs = GaussianProcessRegressor(RBF(0.5, (0.01, 2)) + WhiteKernel()).fit(X, Y)
    points = np.random.default_rng(1).uniform(-4, 4, (500, 2))
    mean, deviation = theirs.predict(points, return_std=True)
    np.testing.assert_allclose(ours(points), mean, atol=1e-10)
    latent = np.sqrt(np.maximum(deviation[:, 0] ** 2 - ours.noise, 0))
    np.testing.assert_allclose(ours.deviation(points)[:, 0], latent, atol=1e-6)
    assert ours.lml == pytest.approx(theirs.log_marginal_likelihood_value_)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("identity", [False, True])
def test_grid_equals_points_equals_one_by_one(d, identity):
    rng = np.random.default_rng(d)
    X = rng.uniform(-1, 1, (30, d))
    f = surrogate.condition(X, rng.normal(size=(30, d)), 0.7, 0.1, identity=identity)
    axes = [np.linspace(-2, 2, 5 + k) for k in range(d)]
    points = np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=1)
    np.testing.assert_allclose(f.on_grid(axes).reshape(-1, d), f(points), atol=1e-12)
    np.testing.assert_allclose(np.concatenate([f(p[None]) for p in points]), f(points), atol=1e-12)
    single = np.concatenate([f.deviation(p[None]) for p in points])
    np.testing.assert_allclose(single, f.deviation(points), atol=1e-9)


def test_without_noise_it_interpolates(pairs):
    X, Y = pairs
    f = surrogate.condition(X, Y, 0.3, 0.0)
    np.testing.assert_allclose(f(X), Y, atol=1e-4)
    assert f.deviation(X).max() < 1e-3


def test_far_away_it_returns_to_the_prior(pairs):
    X, Y = pairs
    far = np.full((1, 2), 100.0)
    assert np.abs(surrogate.fit(X, Y)(far)).max() < 1e-10
    np.testing.assert_allclose(surrogate.fit(X, Y, identity=True)(far), far, atol=1e-10)
    assert surrogate.fit(X, Y).deviation(far) == pytest.approx(1.0)


def test_shuffling_is_seen_as_noise(pairs):
    X, Y = pairs
    shuffled = surrogate.fit(X[np.random.default_rng(2).permutation(len(X))], Y)
    assert shuffled.noise > 5 * surrogate.fit(X, Y).noise


def test_no_state_is_left_between_fits(pairs):
    X, Y = pairs
    before = surrogate.fit(X, Y)
    surrogate.fit(Y, X)
    after = surrogate.fit(X, Y)
    assert (before.length, before.noise) == (after.length, after.noise)


def test_level_of_the_probabilistic_map():
    z = surrogate.level(0.95, (256, 128))
    assert 1 - norm.cdf(z) == pytest.approx(0.05 / (2 * 2 * 257 * 129))


def test_a_path_of_the_process_stays_within_the_level():
    """Sample paths at the corners leave mean +- z sd with a frequency of at most 1 - mu."""
    X = np.random.default_rng(0).uniform(-1, 1, (10, 2))
    f = surrogate.condition(X, X, 0.5, 0.1)
    axes = [np.linspace(-1, 1, 9), np.linspace(-1, 1, 5)]
    points = np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=1)
    half = np.linalg.solve(f.factor, f._kernel(points).T)
    square = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    covariance = np.exp(-square / (2 * f.length**2)) - half.T @ half
    paths = np.random.default_rng(1).multivariate_normal(np.zeros(45), covariance, 4000, method="svd")
    outside = (np.abs(paths) > surrogate.level(0.8, (8, 4)) * f.deviation(points)[:, 0]).any(axis=1)
    assert outside.mean() <= 0.2


def test_mistakes_are_named(pairs):
    X, Y = pairs
    with pytest.raises(ValueError, match="one row for each network"):
        surrogate.fit(X, Y[1:])
    with pytest.raises(ValueError, match="displacement"):
        surrogate.fit(X, Y[:, :1], identity=True)
