"""The experiments there are: entry-point name -> where its `Config` and its function live. Imports nothing heavy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from reprod.errors import BadInput, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from reprod.config import Config
    from reprod.run import Run

PAPERS = {
    "neural_ode": "Ott et al., ResNet After All? Neural ODEs and Their Numerical Solution, ICLR 2021",
    "le_sde": "Zhang et al., Imitating Deep Learning Dynamics via Locally Elastic SDEs, NeurIPS 2021",
    "residual_limit": "Marion et al., Implicit Regularization of Deep Residual Networks towards Neural ODEs, ICLR 2024",
    "morse_graph": "Eslami et al., Extracting Global Dynamics of Loss Landscape in Deep Learning Models, 2021",
    "learning_coefficient": "Lau et al., The Local Learning Coefficient: A Singularity-Aware Complexity Measure, 2023",
}

# entry point -> paper, Config class in reprod.<paper>.config, function in reprod.<paper>.experiment
EXPERIMENTS: dict[str, tuple[str, str, str]] = {
    "sphere_ode": ("neural_ode", "SphereOde", "train"),
    "cifar_ode": ("neural_ode", "CifarOde", "train"),
    "mnist_ode": ("neural_ode", "MnistOde", "train"),
    "xor_fan": ("neural_ode", "XorFan", "fan"),
    "resnet_lipschitz": ("residual_limit", "ResnetLipschitz", "lipschitz"),
    "resnet_convergence": ("residual_limit", "ResnetConvergence", "convergence"),
    "resnet_long_time": ("residual_limit", "ResnetLongTime", "long_time"),
    "cifar_resnet": ("residual_limit", "CifarResnet", "cifar"),
    "resnet_theory": ("residual_limit", "ResnetTheory", "check_theory"),
    "geomnist_dynamics": ("le_sde", "GeomnistDynamics", "train"),
    "cifar_dynamics": ("le_sde", "CifarDynamics", "train"),
    "le_ode_simulation": ("le_sde", "LeOdeSimulation", "simulate"),
    "le_sde_separation": ("le_sde", "LeSdeSeparation", "separation"),
    "iris_training": ("morse_graph", "IrisTraining", "train"),
    "mnist_training": ("morse_graph", "MnistTraining", "train"),
    "morse_graph": ("morse_graph", "MorseGraph", "morse_graph"),
    "dln_llc": ("learning_coefficient", "DlnLlc", "dln_llc"),
    "resnet_llc_curve": ("learning_coefficient", "ResnetLlcCurve", "resnet_llc_curve"),
    "dln_saddle_dynamics": ("learning_coefficient", "DlnSaddleDynamics", "dln_saddle_dynamics"),
    "rescaling_invariance": ("learning_coefficient", "RescalingInvariance", "rescaling_invariance"),
    "mala_vs_sgld": ("learning_coefficient", "MalaVsSgld", "mala_vs_sgld"),
}


def known(name: str) -> str:
    if name not in EXPERIMENTS:
        raise BadInput(f"there is no experiment {name!r}{nearest(name, EXPERIMENTS)} `reprod list` shows them all")
    return name


def config_class(name: str) -> type[Config]:
    paper, cls, _ = EXPERIMENTS[known(name)]
    return getattr(importlib.import_module(f"reprod.{paper}.config"), cls)


def function(name: str) -> Callable[[Config, Run], None]:
    paper, _, attribute = EXPERIMENTS[known(name)]
    return getattr(importlib.import_module(f"reprod.{paper}.experiment"), attribute)
