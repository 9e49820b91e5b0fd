"""Local learning coefficients (Lau et al. 2023, arXiv 2308.12108): exact values, estimator, experiments.

    from reprod.learning_coefficient import dln_learning_coefficient, estimate_llc
    dln_learning_coefficient((10, 20, 20, 10), rank=10)                       # (Fraction(50, 1), 1)
    estimate_llc(model, torch.nn.functional.cross_entropy, (inputs, labels), step_size=1e-6)

Names are imported when first used, so that the exact values and `config` need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reprod.papers import Experiment, Paper

if TYPE_CHECKING:
    from reprod.learning_coefficient.batches import Batches as Batches
    from reprod.learning_coefficient.dln import DlnInputs as DlnInputs
    from reprod.learning_coefficient.dln import dln_potential as dln_potential
    from reprod.learning_coefficient.dln import estimate_dln_llc as estimate_dln_llc
    from reprod.learning_coefficient.dln import true_weights as true_weights
    from reprod.learning_coefficient.estimate import LlcEstimate as LlcEstimate
    from reprod.learning_coefficient.estimate import Sampling as Sampling
    from reprod.learning_coefficient.estimate import estimate_llc as estimate_llc
    from reprod.learning_coefficient.estimate import sample as sample
    from reprod.learning_coefficient.exact import LearningCoefficient as LearningCoefficient
    from reprod.learning_coefficient.exact import dln_functional_rank as dln_functional_rank
    from reprod.learning_coefficient.exact import dln_hessian_trace as dln_hessian_trace
    from reprod.learning_coefficient.exact import dln_learning_coefficient as dln_learning_coefficient
    from reprod.learning_coefficient.exact import dln_rank_profiles as dln_rank_profiles
    from reprod.learning_coefficient.exact import quadratic_sgld_estimate as quadratic_sgld_estimate
    from reprod.learning_coefficient.exact import (
        reduced_rank_learning_coefficient as reduced_rank_learning_coefficient,
    )
    from reprod.learning_coefficient.exact import staircase_plateau as staircase_plateau
    from reprod.learning_coefficient.potentials import ModelPotential as ModelPotential

_LLC = ("welling2011bayesian", "watanabe2013widely", "aoyagi2024consideration")

PAPER = Paper(
    name="learning_coefficient",
    title="Lau et al., The Local Learning Coefficient: A Singularity-Aware Complexity Measure, 2023",
    package=__name__,
    cite=("lau2023local",),
    docs="docs/learning_coefficient.md",
    figures="reprod.analysis.learning_coefficient",
    experiments={
        name: Experiment(f".config:{config}", f".{name}:{name}", cite)
        for name, config, cite in (
            ("dln_llc", "DlnLlc", _LLC),
            ("resnet_llc_curve", "ResnetLlcCurve", (*_LLC, "he2016deep", "krizhevsky2009learning")),
            ("dln_saddle_dynamics", "DlnSaddleDynamics", _LLC),
            ("rescaling_invariance", "RescalingInvariance", _LLC),
            ("mala_vs_sgld", "MalaVsSgld", (*_LLC, "roberts1996exponential")),
        )
    },
)

_HOMES = {
    "batches": ("Batches",),
    "dln": ("DlnInputs", "dln_potential", "estimate_dln_llc", "true_weights"),
    "estimate": ("LlcEstimate", "Sampling", "estimate_llc", "sample"),
    "exact": (
        "LearningCoefficient",
        "dln_functional_rank",
        "dln_hessian_trace",
        "dln_learning_coefficient",
        "dln_rank_profiles",
        "quadratic_sgld_estimate",
        "reduced_rank_learning_coefficient",
        "staircase_plateau",
    ),
    "potentials": ("ModelPotential",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
