"""The compiled normal numbers: their law, their independence, their streams."""

import numpy as np
import pytest
import torch
from scipy import stats

from reprod.learning_coefficient.noise import Noise
from reprod.training import State


def drawn(seed=0, chains=4, dim=200_001, dtype=torch.float32, deviation=1.0):
    out = torch.empty(chains, dim, dtype=dtype)
    Noise(seed, chains).normal(out, deviation)
    return out.double().numpy()


def test_the_law_is_normal():
    x = drawn()
    assert np.isfinite(x).all()
    for row in x:
        assert stats.kstest(row, "norm").pvalue > 1e-4
    flat = x.ravel()
    n = len(flat)
    assert abs(flat.mean()) < 4 / n**0.5
    assert abs((flat**2).mean() - 1) < 4 * (2 / n) ** 0.5
    assert abs((flat**4).mean() - 3) < 4 * (96 / n) ** 0.5
    for k in (2, 3, 4):
        expected = n * 2 * stats.norm.sf(k)
        assert abs((abs(flat) > k).sum() - expected) < 4.5 * expected**0.5
    np.testing.assert_allclose(drawn(deviation=0.25), 0.25 * x, rtol=1e-6)


def test_neighbours_pairs_chains_and_calls_are_independent():
    noise = Noise(3, 4)
    first, second = torch.empty(4, 200_000), torch.empty(4, 200_000)
    noise.normal(first)
    noise.normal(second)
    x, y = first.double().numpy(), second.double().numpy()
    half = x.shape[1] // 2
    pairs = [(x[0, :half], x[0, half:]), (x[0, :-1], x[0, 1:]), (x[0], x[1]), (x[0], y[0]), (x[2] ** 2, y[2] ** 2)]
    pairs.append((x[1, :half] ** 2, x[1, half:] ** 2))  # the two numbers of one Box-Muller pair
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / len(a) ** 0.5


def test_a_chain_is_the_same_however_many_run_beside_it():
    np.testing.assert_array_equal(drawn(chains=2, dim=7), drawn(chains=5, dim=7)[:2])
    assert not np.array_equal(drawn(seed=0, dim=7), drawn(seed=1, dim=7))


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
def test_every_dimension(dim):
    x = drawn(chains=20_000, dim=dim)
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_checkpoint_continues_the_streams(dtype):
    noise, out = Noise(1, 3), torch.empty(3, 10, dtype=dtype)
    noise.normal(out)
    noise.uniform(out)
    saved = State(noise=noise).dump()
    noise.normal(out)
    wanted = out.clone(), noise.uniform(out)
    again = Noise(1, 3)
    State(noise=again).load(saved)
    again.normal(out)
    assert torch.equal(out, wanted[0])
    assert torch.equal(again.uniform(out), wanted[1])
