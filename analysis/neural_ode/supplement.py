"""Accuracy figures of the supplement and of the first version, reconstructed: figure 4 on other data and solvers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reprod.analysis.neural_ode.accuracy import ON_SPHERES
from reprod.analysis.neural_ode.common import BY_THE_RULE, PAPER, RECONSTRUCTED, THRESHOLD
from reprod.analysis.neural_ode.grids import mnist_dopri, other_spheres, sphere_adjoint, sphere_euler, tolerances
from reprod.analysis.neural_ode.panels import AccuracyFigure, Panel, collapse
from reprod.figures.claims import Claim
from reprod.figures.figure import Runs, figure
from reprod.neural_ode.config import SphereOde

NOT_AN_ODE = replace(ON_SPHERES, drop=THRESHOLD, why_drop=BY_THE_RULE)


@figure("figS3", source=RECONSTRUCTED, experiments=("sphere_ode",))
class HigherSpheres(AccuracyFigure):
    """Concentric spheres in 3, 10 and 900 dimensions, trained by Euler's method, as figure 4 a."""

    panels = (
        Panel("3 dimensions", other_spheres("concentric_sphere3"), {"dataset": "concentric_sphere3"}),
        Panel(
            "10 dimensions", other_spheres("concentric_sphere10", iterations=600, learning_rate=2e-3),
            {"dataset": "concentric_sphere10"},
        ),
        Panel(
            "900 dimensions",
            other_spheres(
                "concentric_sphere900", (2, 8), iterations=60, learning_rate=2e-3, curve_steps=16, eval_every=20
            ),
            {"dataset": "concentric_sphere900"},
        ),
    )  # fmt: skip

    def claims(self, runs: Runs) -> Iterator[Claim]:
        for title, mine in self.by_panel(runs):
            short = {"scales": ("paper",), "elsewhere": "60 iterations of the paper's 10,000"}
            yield collapse(mine, RECONSTRUCTED, NOT_AN_ODE, title, **(short if title.startswith("900") else {}))


@figure("figS4", source=RECONSTRUCTED, experiments=("sphere_ode",))
class AdaptiveOnSpheres(AccuracyFigure):
    """Sphere2, trained with adaptive solvers, as figure 4 c and d."""

    panels = (
        Panel("Sphere2, Fehlberg 2(1)", tolerances(SphereOde, "fehlberg2"), {"solver": "fehlberg2"}),
        Panel("Sphere2, Dormand-Prince 5(4)", tolerances(SphereOde, "dopri5"), {"solver": "dopri5"}),
    )

    def claims(self, runs: Runs) -> Iterator[Claim]:
        for title, mine in self.by_panel(runs):
            yield collapse(mine, RECONSTRUCTED, NOT_AN_ODE, title)


@figure("figS6", source=RECONSTRUCTED, experiments=("sphere_ode",))
class AdjointOnSpheres(AccuracyFigure):
    """Sphere2, trained by Euler's method with gradients of the adjoint ODE, as figure 4 a."""

    panels = (Panel("Sphere2, Euler, adjoint", sphere_adjoint),)


@figure("figS7", source=RECONSTRUCTED, experiments=("sphere_ode",))
class EverySeed(AccuracyFigure):
    """Figure 4 a with every seed (black dashes), successful or not."""

    panels = (Panel("Sphere2, Euler", sphere_euler),)
    seeds = True


@figure("figS8", source=f"{PAPER}, first version (reconstructed)", experiments=("mnist_ode", "sphere_ode"))
class FirstVersion(AccuracyFigure):
    """The two data sets of the paper's first version: MNIST with Dormand-Prince 5(4) and the basins of three minima
    with Euler's method."""

    panels = (
        Panel("MNIST, Dormand-Prince 5(4)", mnist_dopri, {"dataset": "mnist"}),
        Panel("three minima, Euler", other_spheres("three_minima"), {"dataset": "three_minima"}),
    )
