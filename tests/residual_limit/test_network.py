"""The scaled residual network: gradients, closed forms, invariances."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from reprod.residual_limit import network, rates, theory
from reprod.residual_limit.network import Descent, Law, Weights

KERNELS = ["torch", "numba"]
SIZES = {"n": 37, "d": 5, "m": 12}  # no multiples of the kernel's blocks


def random_net(depth=6, seeds=2, *, n=37, d=5, m=12, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    X, Y = (torch.randn(seeds, n, d, generator=g, dtype=torch.float64) for _ in range(2))
    V = 0.5 * torch.randn(seeds, depth, m, d, generator=g, dtype=torch.float64)
    W = torch.randn(seeds, depth, d, m, generator=g, dtype=torch.float64)
    return X.to(dtype), Y.to(dtype), Weights(V.to(dtype), W.to(dtype))


def autograd(law, X, Y, net):
    """Loss and gradients of one seed by autograd, written as in the paper."""
    V, W = net.V.clone().requires_grad_(), net.W.clone().requires_grad_()
    n, d, m, L = X.shape[0], X.shape[1], W.shape[2], len(V)
    h = X
    for k in range(L):
        if law.scaling == "code":
            h = h + network.sigma(law.sigma)(h @ W[k]) @ V[k] / L
        else:
            h = h + network.sigma(law.sigma)(h @ W[k] / d**0.5) @ V[k] / (L * m**0.5)
    loss = (h - Y).square().mean() if law.scaling == "code" else (h - Y).square().sum() / n
    loss.backward()
    return loss.detach(), V.grad, W.grad


@pytest.mark.parametrize("scaling", ["code", "paper"])
@pytest.mark.parametrize("sigma", network.SIGMAS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_equal_autograd(kernel, sigma, scaling):
    if kernel == "numba" and sigma == "tanh":
        pytest.skip("the compiled kernel has no tanh")
    law = Law(sigma, scaling)
    X, Y, net = random_net()
    loss, dV, dW = network.gradients(law, X, Y, net, kernel)
    for s in range(len(X)):
        wanted = autograd(law, X[s], Y[s], Weights(net.V[s], net.W[s]))
        for ours, theirs in zip((loss[s], dV[s], dW[s]), wanted, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-12


@pytest.mark.parametrize(("kind", "exact", "near"), [(np.float64, 1e-15, 2e-14), (np.float32, 5e-7, 3e-6)])
def test_compiled_normal_law(kind, exact, near):
    from scipy import special

    from reprod.residual_limit import kernels

    a = np.concatenate([np.linspace(-40, 40, 20_001), [-200.0, 0.0, 1e-30, 200.0]]).astype(kind)
    S, D = np.empty_like(a), np.empty_like(a)
    kernels.activate(0, kind(1), kind(1), a, S, D)
    x = a.astype(float)
    Phi, phi = special.ndtr(x), np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(S, x * Phi, rtol=exact, atol=exact)
    np.testing.assert_allclose(D, Phi + x * phi, rtol=exact, atol=exact)
    tail = (x > -9) & (x < 0)  # where x Phi(x) is small, its relative error is too
    np.testing.assert_allclose(S[tail], (x * Phi)[tail], rtol=near)
    kernels.activate(0, kind(0.5), kind(3), 2 * a, other := np.empty_like(a), scaled := np.empty_like(a))
    np.testing.assert_array_equal(other, S)
    np.testing.assert_array_equal(scaled, kind(3) * D)
    bad = np.array([np.nan, np.inf, -np.inf], kind)
    kernels.activate(0, kind(1), kind(1), bad, out := np.empty_like(bad), np.empty_like(bad))
    assert np.isnan(out[0]) and not np.isfinite(out[1])


def test_keeping_fewer_activations_changes_no_bit(monkeypatch):
    found = []
    for kept in (network.KEPT, 1, 4):
        monkeypatch.setattr(network, "KEPT", kept)
        X, Y, net = random_net()
        found.append(network.gradients(Law(), X, Y, net, "numba"))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


BITS = """
import torch
from reprod.residual_limit import network
X, Y, nets = network.initial([0], [3, 9], n=37, d=5, m=12)
descent = network.Descent(network.Law(), X, Y, nets, "numba")
for _ in range(20):
    descent.step()
print([hash(net.V.numpy().tobytes()) for net in nets], network.increments(nets[1], "numba").tobytes().hex())
"""


def test_compiled_here_and_loaded_from_the_cache_have_equal_bits(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "0"}
    runs = [
        subprocess.run([sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] != ""


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_kernels_descend_alike(dtype, clip):
    results = []
    for kernel in ("torch", "numba"):
        X, Y, net = random_net(dtype=dtype)
        descent = Descent(Law(rate=0.02, clip=clip), X, Y, [net], kernel)
        losses = [descent.step()[0] for _ in range(5)]
        results.append((np.array(losses), net.V.clone(), net.W.clone(), network.increments(net, kernel)))
    tight = 1e-12 if dtype == torch.float64 else 2e-5
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tight, atol=tight)


@pytest.mark.parametrize("kernel", KERNELS)
def test_clipping_bounds_every_step(kernel):
    X, Y, net = random_net()
    before = net.V.clone(), net.W.clone()
    Descent(Law(rate=0.1, clip=1e-3), X, Y, [net], kernel).step()
    moves = [float((a - b).abs().max()) for a, b in zip(before, (net.V, net.W), strict=True)]
    np.testing.assert_allclose(moves, 1e-4, rtol=1e-8)


def test_draws_are_those_of_the_released_scripts():
    W, X, Y = network.problem(0, 100, 16, 32)
    assert [round(float(v), 7) for v in (W[0, 0], X[0, 0], Y[0, 0])] == [-1.1258398, -0.5460728, -1.1869844]
    assert float((X - Y).square().mean()) == pytest.approx(1.9946942, abs=1e-7)
    W, X, Y = network.problem(2, 100, 16, 32)
    assert [round(float(v), 7) for v in (W[0, 0], X[0, 0], Y[0, 0])] == [-1.0408012, -0.9643642, -0.2556936]
    W, X, Y = network.problem(0, 50, 16, 64, spare=True)
    assert [round(float(v), 7) for v in (W[0, 0], X[0, 0], Y[0, 0])] == [-1.1258398, -0.3459153, 0.1923729]
    assert float((X - Y).square().mean()) == pytest.approx(1.8827528, abs=1e-7)


@pytest.mark.parametrize(("seed", "norm", "energy"), [(0, 0.0189084, 3.5753), (2, 0.0186430, None)])
def test_first_step_in_closed_form(seed, norm, energy):
    checks = {c.name: c for c in theory.first_step(seed, 100, 16, 32)}
    assert all(c.passed for c in checks.values()), checks
    X, Y, (net,) = network.initial([seed], [8], n=100, d=16, m=32)
    Descent(Law(), X, Y, [net]).step()
    np.testing.assert_allclose(net.V[0].norm(dim=(1, 2)), norm, atol=5e-8)
    assert network.increments(net)[0].max() < 1e-15  # layers first differ after the second step
    if energy:
        assert checks["initial_energy"].value == pytest.approx(energy, abs=5e-5)


def test_energy_of_one_step():
    X, Y, (net,) = network.initial([0], [64], n=100, d=16, m=32)
    descent = Descent(Law(), X, Y, [net])
    first, second = float(descent.step()[0][0, 0]), float(descent.step()[0][0, 0])
    assert (first - second) / 0.01 == pytest.approx(3.44, abs=0.01)


@pytest.mark.parametrize("kernel", KERNELS)
def test_zero_branches_leave_the_input(kernel):
    X, _, nets = network.initial([0, 1], [3, 7], **SIZES)
    for net in nets:
        assert all(torch.equal(H, X) for H in network.forward(Law(), X, net))


@pytest.mark.parametrize("what", ["loss_converges", "control"])
def test_statements_with_sizes(what):
    for check in getattr(theory, what)(0, 100, 16, 32):
        assert check.passed, check


def test_scalar_linear_net():
    for check in theory.scalar_linear():
        assert check.passed, check
    assert {c.name: c for c in theory.scalar_linear()}["scalar_invariant"].value == pytest.approx(0.4893, abs=5e-5)


def test_relu_counterexample():
    weights, checks = theory.counterexample(64, 2.0)
    assert all(c.passed for c in checks), checks
    assert np.abs(np.diff(weights[0])).max() == pytest.approx(1 / 64)
    assert weights[-1, 1] == pytest.approx(1.393829, abs=1e-6) and weights[-1, 1] >= 2 * np.log(2)


def test_net_is_eulers_method_and_tends_to_the_ode():
    errors, differences, checks = theory.euler_limit(0, (8, 12, 32, 100), 0.5, n=20, d=4, m=8)
    assert differences.max() == 0.0 and errors[-1] < errors[0] / 10
    assert {c.name: c for c in checks}["euler_equal"].passed


@pytest.mark.parametrize("lengthscale", [0.1, 0.5, 2.0])
def test_gaussian_process_increments_and_covariance(lengthscale):
    (check,) = theory.process_increments(0, lengthscale, entries=20_000)
    assert check.value == pytest.approx(check.expected, rel=0.03)
    s = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    draws = network.gaussian_process(s, (40_000,), lengthscale, torch.Generator().manual_seed(0))
    wanted = torch.exp(-((s[:, None] - s) ** 2) / (2 * lengthscale**2))
    np.testing.assert_allclose(draws @ draws.T / 40_000, wanted, atol=0.03)


def test_depths_share_the_process():
    W = torch.zeros(3, 4)
    shallow, deep = (network.initial_W("gp", W, L, 0, 0.3) for L in (8, 16))
    np.testing.assert_allclose(deep[1::2], shallow, atol=1e-10)


def test_permuting_hidden_units_or_samples_changes_nothing():
    def train(X, Y, net):
        descent = Descent(Law(rate=0.05), X, Y, [net])
        losses = [descent.step()[0] for _ in range(4)]
        return np.array(losses), network.increments(net)

    X, Y, net = random_net(seeds=1)
    units = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    samples = torch.randperm(37, generator=torch.Generator().manual_seed(3))
    plain = train(X, Y, Weights(net.V.clone(), net.W.clone()))
    hidden = train(X, Y, Weights(net.V[:, :, units].clone(), net.W[..., units].clone()))
    shuffled = train(X[:, samples].clone(), Y[:, samples].clone(), Weights(net.V.clone(), net.W.clone()))
    for other in (hidden, shuffled):
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
def test_seeds_do_not_see_each_other(kernel):
    def losses(seeds):
        X, Y, nets = network.initial(seeds, [4, 9], **SIZES)
        descent = Descent(Law(), X, Y, nets, kernel)
        return np.array([descent.step()[0] for _ in range(6)])

    together = losses([3, 5, 7])
    for i, seed in enumerate((3, 5, 7)):
        np.testing.assert_allclose(together[:, :, i], losses([seed])[:, :, 0], rtol=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_distances_against_a_plain_loop(kernel):
    _, _, net = random_net(4)
    _, _, reference = random_net(8)
    for align, pairs in {
        "left": [(0, 0), (1, 2), (2, 4), (3, 6)],
        "paper": [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6), (3, 7)],
    }.items():
        own, other = network.pairs(align, 4, 8)
        assert list(zip(own.tolist(), other.tolist(), strict=True)) == pairs
        v = np.array([float((net.V[0, i] - reference.V[0, j]).norm()) for i, j in pairs])
        w = np.array([float((net.W[0, i] - reference.W[0, j]).norm()) for i, j in pairs])
        wanted = [np.sqrt((v**2).mean()), np.sqrt((w**2).mean()), (v + w).max()]
        np.testing.assert_allclose(network.distances(net, reference, own, other, kernel)[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_increments_against_a_plain_loop(kernel):
    _, _, net = random_net(5)
    v, w = (torch.diff(Z[1], dim=0).norm(dim=(1, 2)) for Z in (net.V, net.W))
    wanted = [v.max(), w.max(), (v + w).max(), (v**2).sum(), (w**2).sum()]
    np.testing.assert_allclose(network.increments(net, kernel)[1], wanted, rtol=1e-12)


def test_module_is_the_trained_network():
    X, _, net = random_net(3)
    module = network.ResidualNetwork(3, 5, 12, "gelu", "paper", "float64")
    module.load_state_dict({"V": net.V[0], "W": net.W[0]})
    expected = network.forward(Law("gelu", "paper"), X, net)[-1, 0]
    np.testing.assert_allclose(module(X[0]).detach(), expected, rtol=1e-13)


def test_an_unknown_activation_is_an_error():
    with pytest.raises(KeyError):
        network.sigma("linear")


# -- rates ------------------------------------------------------------------------------------------------------------


def test_slopes_of_exact_powers():
    L = np.array([16, 32, 64, 128])
    fit = rates.against_depth(L, 3.0 / L)
    assert (fit.value, fit.low, fit.high) == pytest.approx((-1, -1, -1))
    corrected = rates.against_reference(L, 2 * (1 / L - 1 / 1024), 1024)
    assert corrected.value == pytest.approx(-1) and corrected.low <= corrected.value <= corrected.high
    assert rates.against_depth(L, 2 * (1 / L - 1 / 1024)).value < -1.02


@pytest.mark.parametrize("points", [3, 4, 5, 7])
def test_the_interval_of_a_slope_covers_the_truth_as_often_as_it_says(points):
    """19 times of 20, for any number of points: with a normal quantile three points would cover it 70 % of the time."""
    rng, L = np.random.default_rng(points), 2.0 ** np.arange(4, 4 + points)
    y = np.exp(0.1 * rng.standard_normal((points, 20_000))) / L[:, None]
    fit = rates.power(L, y)
    assert ((fit.low < -1) & (fit.high > -1)).mean() == pytest.approx(0.95, abs=0.007)
    one = stats.linregress(np.log(L), np.log(y[:, 0]))
    half = stats.t.ppf(0.975, points - 2) * one.stderr
    found = fit.value[0], fit.low[0], fit.high[0]
    assert found == pytest.approx((one.slope, one.slope - half, one.slope + half), rel=1e-9)


def test_slopes_without_a_number_say_so():
    L = np.array([16, 32, 64])
    two = rates.power(L[:2], 1.0 / L[:2])
    assert two.value == pytest.approx(-1) and np.isnan([two.low, two.high]).all()
    for value in (0.0, -1.0, np.nan, np.inf):
        bad = rates.power(L, np.array([1.0, value, 0.25]))
        assert np.isnan([bad.value, bad.low, bad.high]).all()
    assert np.isnan(rates.power(L[:1], np.array([1.0])).value)


def test_depths_from_16_count_where_there_are_three_of_them():
    L = np.array([2, 16, 64, 256])
    y = np.array([5.0, 1 / 16, 1 / 64, 1 / 256])
    assert rates.asymptotic(L, y).value == pytest.approx(-1)
    assert rates.asymptotic(L[:3], y[:3]).value < -1.2
    gap = 1 / L - 1 / 1024
    assert rates.asymptotic(L, np.column_stack([gap, 2 * gap]), 1024).value == pytest.approx([-1, -1])


def test_crossings():
    assert rates.crossings(np.array([1.0, 0.5, 0.05, 0.2]), (0.4, 0.01)) == [2, None]
