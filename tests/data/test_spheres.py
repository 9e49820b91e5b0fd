import numpy as np
import pytest

from reprod.data import spheres


@pytest.mark.parametrize("dim", spheres.DIMENSIONS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_concentric_spheres_lie_in_their_shells(dim, scale):
    x, y = spheres.concentric_spheres(dim, 2000, np.random.default_rng(0), scale)
    assert x.shape == (2000, 1, dim)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    radius = np.linalg.norm(x[:, 0].astype(float), axis=1) / scale
    rows_of = np.split(np.arange(2000), [500, 1500])
    for rows, ((low, high), _, label) in zip(rows_of, spheres.SHELLS, strict=True):
        assert radius[rows].min() >= low - 1e-6
        assert radius[rows].max() <= high + 1e-6
        assert (y[rows] == label).all()
    if dim == 900:
        assert radius[1500:].mean() > 0.449
    # U^(1/d) has mean d / (d + 1)
    assert radius[500:1500].mean() == pytest.approx(0.25 + 0.05 * dim / (dim + 1), abs=2e-3)


def test_load_is_a_function_of_the_data_seed_alone():
    one, again, other = (spheres.load("concentric_sphere2", seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert not (one.x_train == other.x_train).any()
    assert not (one.x_train[:250] == one.x_test[:250]).any()
    assert (len(one.y_train), len(one.y_test), one.dim, one.n_classes) == (2000, 1000, 2, 2)
    assert np.bincount(one.y_test).tolist() == [500, 500]


def test_three_minima():
    critical = [(-0.85015, "min"), (-0.32949, "max"), (0.26895, "min"), (1.15458, "max"), (1.83945, "min")]
    for x, kind in critical:
        assert abs(spheres.potential_gradient(np.array(x))) < 1e-4
        neighbours = spheres.potential(np.array([x - 0.01, x, x + 0.01]))
        assert (neighbours[1] < neighbours[[0, 2]]).all() == (kind == "min")
    grid = np.linspace(-1, 2, 7)
    difference = (spheres.potential(grid + 1e-6) - spheres.potential(grid - 1e-6)) / 2e-6
    np.testing.assert_allclose(spheres.potential_gradient(grid), difference, atol=1e-8)

    x, y = spheres.three_minima(2000, np.random.default_rng(0))
    assert x.shape == (2000, 1, 2)
    np.testing.assert_allclose(np.bincount(y) / 2000, [0.356, 0.355, 0.289], atol=0.04)
    assert ((x[:, 0] >= [-1, -2]) & (x[:, 0] <= [2, 2])).all()


def test_unknown_data_set():
    with pytest.raises(ValueError, match="concentric_sphere2"):
        spheres.load("sphere")
