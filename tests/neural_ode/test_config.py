"""What a user may type: one sentence for what cannot work, one digest for what is the same run."""

import pytest

from reprod.config import at_scale, from_spelled, resolve
from reprod.errors import BadInput
from reprod.neural_ode.config import CifarOde, MnistOde, SphereOde, XorFan


@pytest.mark.parametrize(
    ("cls", "given", "words"),
    [
        (SphereOde, {"step_size": "1e-320"}, "step_size=1e-320: must be at least 0.0001"),
        (SphereOde, {"step_size": "inf"}, "step_size=inf: must be less than inf"),
        (SphereOde, {"test_factors": "1e-300"}, "test_factors=1e-300: a test would take over 1000000 steps"),
        (SphereOde, {"test_factors": "1e9", "factor_on": "nsteps"}, "test_factors=1e.09: a test would take over"),
        (
            SphereOde, {"solver": "dopri5", "tol": "1e-7", "test_factors": "1,1e-6"},
            "tol=1e-07, tested with 1e-13: precision=fp32 cannot keep to less than 1e-09",
        ),
        (SphereOde, {"curve_steps": "1e9"}, "curve_steps=1000000000: must be at most"),
        (SphereOde, {"adaptation": "step", "iterations": "10"}, "adapt_every=50 is more than iterations=10"),
        (SphereOde, {"adaptation": "step", "max_steps": "1e6"}, "max_steps=1000000: must be at most 10000"),
        (SphereOde, {"adaptation": "step", "solver": "rk4"}, "adaptation=step works with solver=euler or midpoint"),
        (SphereOde, {"solver": "dopri5", "tol": "1e-3", "precision": "bf16"}, "cannot keep to a tolerance of 0.001"),
        (
            SphereOde, {"solver": "dopri5", "adaptation": "tolerance", "precision": "bf16"},
            "precision=bf16 rounds the field to 0.0039, solver=dopri5 cannot keep to a tolerance of 1e-06",
        ),
        (SphereOde, {"solver": "dopri5", "tol": "1e-14"}, "tol=1e-14, tested with 1e-15: precision=fp32 cannot"),
        (SphereOde, {"solver": "dopri5", "tol": "inf"}, "tol=inf: must be at most 1"),
        (SphereOde, {"data_scale": "1e300"}, "data_scale=1e.300: must be at most 1000000"),
        (SphereOde, {"init": "normal", "init_scale": "inf"}, "init_scale=inf"),
        (CifarOde, {"n_train": "50001"}, "n_train=50001: cifar10 has 50000"),
        (MnistOde, {"n_test": "10001"}, "n_test=10001: mnist has 10000"),
        (CifarOde, {"batch_size": "60000"}, "batch_size=60000 is more than n_train=50000"),
        (XorFan, {"alpha": "inf"}, "alpha=inf: must be less than inf"),
        (XorFan, {"alpha": "-inf"}, "alpha=-inf: must be greater than -inf"),
        (XorFan, {"gamma": "inf"}, "gamma=inf"),
        (XorFan, {"log10_steps": "none"}, "log10_steps=none: give each step once, and at least one"),
        (XorFan, {"log10_steps": "-2,-2"}, "give each step once"),
        (XorFan, {"end_time": "1e9"}, "end_time=1e.09, log10_steps=-4.5: that takes over"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_a_sentence(cls, given, words):
    with pytest.raises(BadInput, match=words):
        resolve(cls, given)


def test_tf32_needs_a_gpu():
    with pytest.raises(BadInput, match="precision=tf32 needs a GPU"):
        at_scale(SphereOde, "smoke", precision="tf32").prepare()  # under auto, small networks stay on the processor
    at_scale(SphereOde, "smoke", precision="fp32").prepare()


def test_small_networks_compute_on_the_processor_unless_a_gpu_is_asked_for(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    names = [
        at_scale(SphereOde, "smoke", **settings).computes_on()
        for settings in ({}, {"dataset": "concentric_sphere900"}, {"device": "cuda"})
    ]
    assert names == ["cpu", "cuda", "cuda"]
    assert at_scale(CifarOde, "smoke").computes_on() == "cuda"


@pytest.mark.parametrize(
    ("cls", "base", "without_effect"),
    [
        (CifarOde, {}, {"data_seed": 3}),
        (CifarOde, {}, {"step_size": 0.1}),
        (CifarOde, {}, {"check_with": "rk4", "threshold": 0.2, "max_steps": 7, "probe": 5, "initial_tol": 0.1}),
        (SphereOde, {"dataset": "three_minima"}, {"data_scale": 0.5}),
        (SphereOde, {"dataset": "concentric_sphere3"}, {"n_trajectories": 5}),
        (SphereOde, {"solver": "dopri5", "tol": 1e-2}, {"curve_steps": 8, "step_size": 0.1}),
        (SphereOde, {"adjoint": True}, {"curve_steps": 8}),
        (SphereOde, {"dataset": "concentric_sphere900"}, {"curve_steps": 8}),
        (SphereOde, {}, {"tol": 0.1, "clip_last_step": True, "init_scale": 2.0}),
        (SphereOde, {"adaptation": "step"}, {"check_with": "midpoint"}),
        (SphereOde, {"adaptation": "step", "solver": "midpoint"}, {"check_with": "rk4"}),
        (SphereOde, {"adaptation": "step"}, {"step_size": 0.5}),
        (SphereOde, {"adaptation": "tolerance", "solver": "dopri5"}, {"tol": 0.1, "max_steps": 7}),
    ],
)
def test_a_parameter_without_effect_is_not_part_of_the_identity(cls, base, without_effect):
    assert cls(**base).digest() == cls(**base, **without_effect).digest()


@pytest.mark.parametrize(
    ("base", "matters"),
    [
        ({"adaptation": "step"}, {"check_with": "rk4"}),
        ({"adaptation": "step"}, {"max_steps": 100}),
        ({}, {"curve_steps": 8}),
        ({}, {"n_trajectories": 8}),
        ({}, {"data_seed": 1}),
        ({"init": "normal"}, {"init_scale": 2.0}),
    ],
)
def test_one_with_effect_is(base, matters):
    assert SphereOde(**base).digest() != SphereOde(**base, **matters).digest()


def test_old_spellings_and_those_of_the_original_are_understood():
    old = {"lr": "0.001", "niter": "60", "ch_residual_block": "8", "act": "sigmoid", "random_seed": "3"}
    new = {"learning_rate": "0.001", "iterations": "60", "channels": "8", "activation": "sigmoid", "seeds": "3"}
    assert resolve(SphereOde, old) == resolve(SphereOde, new)
    assert from_spelled(CifarOde, {"lr": "0.01", "niter": "7"}).iterations == 7


@pytest.mark.parametrize("cls", [CifarOde, MnistOde])
def test_images_have_a_medium_scale_between_small_and_paper(cls):
    small, medium, paper = (at_scale(cls, scale) for scale in ("small", "medium", "paper"))
    assert small.iterations < medium.iterations < paper.iterations
    assert small.channels <= medium.channels < paper.channels
