"""Zhang et al., Imitating Deep Learning Dynamics via Locally Elastic SDEs, NeurIPS 2021."""

from reprod.papers import Experiment, Paper

PAPER = Paper(
    name="le_sde",
    title="Zhang et al., Imitating Deep Learning Dynamics via Locally Elastic SDEs, NeurIPS 2021",
    package=__name__,
    cite=("zhang2021imitating",),
    docs="docs/le_sde.md",
    figures="reprod.analysis.le_sde",
    experiments={
        "geomnist_dynamics": Experiment(".config:GeomnistDynamics", ".experiment:train", ("he2020local",)),
        "cifar_dynamics": Experiment(
            ".config:CifarDynamics", ".experiment:train", ("he2020local", "krizhevsky2009learning")
        ),
        "le_ode_simulation": Experiment(".config:LeOdeSimulation", ".experiment:simulate", ("he2020local",)),
        "le_sde_separation": Experiment(".config:LeSdeSeparation", ".experiment:separation", ("he2020local",)),
    },
)
