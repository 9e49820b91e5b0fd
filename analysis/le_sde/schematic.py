"""Figure 2, our schematic of local elasticity."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reprod.analysis.le_sde.common import PAPER, letter
from reprod.config import Config
from reprod.figures import style
from reprod.figures.figure import Drawing, Runs, figure


@figure("fig2", source=f"after {PAPER}, figure 2 (our schematic)")
class Schematic:
    """Our schematic of local elasticity. Left: one back-propagation step on a sample moves the features of its own
    class by alpha, those of others by beta. Right: gap of class means over the spread sigma sqrt t within classes, when
    alpha - beta = c t^-r: it grows without bound for r < 1 and dies out for r > 1."""

    def runs(self, scale: str) -> list[Config]:
        return []

    def draw(self, runs: Runs) -> Drawing:
        import matplotlib.pyplot as plt

        fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0))
        rng = np.random.default_rng(2)
        own, other = rng.normal((-1.0, 0.0), 0.33, (9, 2)), rng.normal((1.0, 0.0), 0.33, (9, 2))
        drawn = np.array([-1.0, 0.55])
        for points, colour, push, marker in (
            (own, style.BLUE, (-0.42, 0.5), "o"),
            (other, style.ORANGE, (-0.13, 0.15), "s"),
        ):
            left.scatter(*points.T, color=colour, marker=marker, s=26)
            left.quiver(
                *points.T,
                *np.broadcast_to(push, points.shape).T,
                color=colour,
                angles="xy",
                scale_units="xy",
                scale=1,
                width=0.005,
            )
        left.scatter(*drawn, marker="*", s=150, color=style.RED, zorder=3)
        left.annotate(
            "the sample of this step", drawn, (-1.75, 1.45), fontsize=8, arrowprops={"arrowstyle": "-", "lw": 0.6}
        )
        left.text(-1.15, -1.2, r"same class: pushed by $\alpha(t)$", color=style.BLUE, ha="center", fontsize=8)
        left.text(1.2, -1.2, r"other class: by $\beta(t)$", color=style.ORANGE, ha="center", fontsize=8)
        left.set(xlim=(-2.4, 2.2), ylim=(-1.5, 1.8), xticks=[], yticks=[])
        left.grid(False)
        left.spines[:].set_visible(False)
        letter(left, "a  one step of SGD in feature space")
        t = np.geomspace(1, 1e4, 200)
        rows = []
        for r, colour in ((0.8, style.BLUE), (1.0, style.GREY), (1.2, style.RED)):
            integral = np.log(t) if r == 1 else (t ** (1 - r) - 1) / (1 - r)
            ratio = np.exp(integral / 2) / np.sqrt(t)
            right.loglog(t, ratio, color=colour, label=f"r = {r:g}")
            rows += [[r, a, b] for a, b in zip(t[::10], ratio[::10], strict=True)]
        right.set(xlabel="t", ylabel=r"gap / ($\sigma\sqrt{t}$)", ylim=(0.02, 50))
        right.text(7, 20, "linearly separable", color=style.BLUE)
        right.text(250, 0.045, "never separable,\nhowever long", color=style.RED)
        right.legend(title=r"$\alpha-\beta = \frac{K}{2}\, t^{-r}$", loc="lower left", title_fontsize=8)
        letter(right, "b  phase transition of the tail index")
        return Drawing(fig, pd.DataFrame(rows, columns=["r", "t", "ratio"]), remarks="theory only: no run behind it")
