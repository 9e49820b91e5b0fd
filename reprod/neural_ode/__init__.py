"""Ott et al., ResNet After All? Neural ODEs and Their Numerical Solution, ICLR 2021."""

from reprod.papers import Experiment, Paper

_SOLVERS = ("chen2018neural", "torchdiffeq", "dormand1980family", "fehlberg1969low", "bogacki1989pair")

PAPER = Paper(
    name="neural_ode",
    title="Ott et al., ResNet After All? Neural ODEs and Their Numerical Solution, ICLR 2021",
    package=__name__,
    cite=("ott2021resnet",),
    docs="docs/neural_ode.md",
    figures="reprod.analysis.neural_ode",
    experiments={
        "sphere_ode": Experiment(".config:SphereOde", ".experiment:train", (*_SOLVERS, "kingma2015adam")),
        "cifar_ode": Experiment(
            ".config:CifarOde", ".experiment:train", (*_SOLVERS, "kingma2015adam", "krizhevsky2009learning")
        ),
        "mnist_ode": Experiment(
            ".config:MnistOde", ".experiment:train", (*_SOLVERS, "kingma2015adam", "lecun1998gradient")
        ),
        "xor_fan": Experiment(".config:XorFan", ".experiment:fan", ("chen2018neural",)),
    },
)
