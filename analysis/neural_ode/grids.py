"""The runs that the figures need, at every scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reprod.config import Config, at_scale
from reprod.neural_ode.config import CifarOde, MnistOde, SphereOde

FIVE = (0, 1, 2, 3, 4)
SEEDS = {"paper": FIVE, "medium": FIVE, "small": FIVE, "smoke": (0,)}
SPHERE_STEPS = {"paper": (2, 4, 8, 16, 32, 64, 128, 256), "small": (2, 4, 8, 16, 32, 64, 128, 256), "smoke": (2, 8)}

Configs = Callable[[str], list[Config]]


def two_steps(scale: str) -> list[Config]:
    """Figures 1 to 3: the finest and the coarsest step."""
    fine = SPHERE_STEPS[scale][-1]
    return [at_scale(SphereOde, scale, step_size=1 / n, seeds=SEEDS[scale]) for n in (fine, 2)]


def sphere_euler(scale: str) -> list[Config]:
    return [at_scale(SphereOde, scale, step_size=1 / n, seeds=SEEDS[scale]) for n in SPHERE_STEPS[scale]]


def sphere_rk4(scale: str) -> list[Config]:
    steps = {"paper": (1, 2, 4, 8, 16, 32), "small": (1, 2, 4, 8), "smoke": (1, 4)}[scale]
    return [at_scale(SphereOde, scale, solver="rk4", step_size=1 / n, seeds=SEEDS[scale]) for n in steps]


def sphere_adapted(scale: str, **settings: Any) -> list[Config]:
    return [at_scale(SphereOde, scale, solver="euler", adaptation="step", seeds=SEEDS[scale], **settings)]


def sphere_tolerance_adapted(scale: str) -> list[Config]:
    extra = {"iterations": 400, "learning_rate": 2e-3} if scale == "small" else {}
    return [
        at_scale(SphereOde, scale, solver=solver, adaptation="tolerance", seeds=SEEDS[scale], **extra)
        for solver in ("fehlberg2", "dopri5")
    ]


def other_spheres(dataset: str, small_steps: tuple[int, ...] = (2, 8, 32), **smaller: Any) -> Configs:
    def configs(scale: str) -> list[Config]:
        steps = {"paper": SPHERE_STEPS["paper"], "small": small_steps, "smoke": (2, 4)}[scale]
        tiny = {"iterations": 4, "eval_every": 4, "channels": 2}
        extra = {"paper": {}, "small": smaller, "smoke": tiny}[scale]
        return [
            at_scale(SphereOde, scale, dataset=dataset, step_size=1 / n, seeds=SEEDS[scale], **extra) for n in steps
        ]

    return configs


def sphere_adjoint(scale: str) -> list[Config]:
    steps = {"paper": SPHERE_STEPS["paper"], "small": (2, 16), "smoke": (2, 4)}[scale]
    return [at_scale(SphereOde, scale, adjoint=True, step_size=1 / n, seeds=SEEDS[scale]) for n in steps]


def tolerances(cls: type[Any], solver: str) -> Configs:
    def configs(scale: str) -> list[Config]:
        tols = {
            "paper": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), "medium": (1e-1, 1e-3), "small": (1e-1, 1e-3),
            "smoke": (1e-1, 1e-2),
        }[scale]  # fmt: skip
        return [at_scale(cls, scale, solver=solver, tol=tol, seeds=SEEDS[scale]) for tol in tols]

    return configs


def cifar_euler(scale: str) -> list[Config]:
    steps = {"paper": (2, 4, 8, 16, 32, 64), "medium": (2, 4, 8, 16, 32), "small": (2, 4, 8), "smoke": (2, 4)}[scale]
    return [at_scale(CifarOde, scale, solver="euler", step_size=1 / n, seeds=SEEDS[scale]) for n in steps]


def cifar_rk4(scale: str) -> list[Config]:
    steps = {"paper": (1, 2, 4, 8), "medium": (1, 2, 4), "small": (1, 2), "smoke": (1, 2)}[scale]
    return [at_scale(CifarOde, scale, solver="rk4", step_size=1 / n, seeds=SEEDS[scale]) for n in steps]


def cifar_adapted(scale: str) -> list[Config]:
    # 300 iterations have six checks of 50: too few for the step to grow from Hairer's to where it must shrink
    extra = {"adapt_every": 10} if scale == "small" else {}
    return [at_scale(CifarOde, scale, solver="euler", adaptation="step", seeds=SEEDS[scale], **extra)]


mnist_dopri = tolerances(MnistOde, "dopri5")
