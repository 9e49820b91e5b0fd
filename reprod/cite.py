"""`reprod cite`: BibTeX of an experiment's paper, of the methods and data that it uses, and of this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reprod import registry

PAPERS = {
    "neural_ode": "ott2021resnet", "le_sde": "zhang2021imitating", "residual_limit": "marion2024implicit",
    "morse_graph": "eslami2021extracting", "learning_coefficient": "lau2023local",
}  # fmt: skip
ALWAYS = ("paszke2019pytorch", "zaharia2018accelerating")
SOLVERS = ("chen2018neural", "torchdiffeq", "dormand1980family", "fehlberg1969low", "bogacki1989pair")
LLC = ("welling2011bayesian", "watanabe2013widely", "aoyagi2024consideration")
CIFAR, MNIST, IRIS = "krizhevsky2009learning", "lecun1998gradient", "fisher1936use"
MORSE = ("cmgdb", "arai2009database", "rasmussen2006gaussian")

METHODS: dict[str, Sequence[str]] = {
    "sphere_ode": (*SOLVERS, "kingma2015adam"),
    "cifar_ode": (*SOLVERS, "kingma2015adam", CIFAR),
    "mnist_ode": (*SOLVERS, "kingma2015adam", MNIST),
    "xor_fan": ("chen2018neural",),
    "resnet_lipschitz": ("chen2018neural", "he2016deep"),
    "resnet_convergence": ("chen2018neural", "he2016deep"),
    "resnet_long_time": ("chen2018neural", "he2016deep"),
    "resnet_theory": ("chen2018neural", "he2016deep", "torchdiffeq", "dormand1980family"),
    "cifar_resnet": ("chen2018neural", "he2016deep", CIFAR),
    "geomnist_dynamics": ("he2020local",),
    "cifar_dynamics": ("he2020local", CIFAR),
    "le_ode_simulation": ("he2020local",),
    "le_sde_separation": ("he2020local",),
    "iris_training": ("kingma2015adam", IRIS),
    "mnist_training": ("kingma2015adam", MNIST),
    "morse_graph": MORSE,
    "dln_llc": LLC,
    "dln_saddle_dynamics": LLC,
    "rescaling_invariance": LLC,
    "mala_vs_sgld": (*LLC, "roberts1996exponential"),
    "resnet_llc_curve": (*LLC, "he2016deep", CIFAR),
}


def entries() -> dict[str, str]:
    """Every reference, by its key."""
    text = (Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    return {re.match(r"@\w+\{(\w+),", entry)[1]: entry.strip() for entry in re.split(r"\n(?=@)", text)}  # type: ignore[index]


def keys(experiment: str) -> list[str]:
    """The paper first, then methods and data, then software."""
    paper = registry.EXPERIMENTS[registry.known(experiment)][0]
    chosen = [*([PAPERS[paper]] if paper in PAPERS else []), *METHODS.get(experiment, ()), *ALWAYS, "reprod"]
    return list(dict.fromkeys(chosen))


def bibtex(experiments: Sequence[str]) -> str:
    """The references of some experiments, each once."""
    known = entries()
    return "\n\n".join(known[key] for key in dict.fromkeys(key for name in experiments for key in keys(name)))
