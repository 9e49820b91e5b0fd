"""Marion et al., Implicit Regularization of Deep Residual Networks towards Neural ODEs, ICLR 2024."""

from reprod.papers import Experiment, Paper

PAPER = Paper(
    name="residual_limit",
    title="Marion et al., Implicit Regularization of Deep Residual Networks towards Neural ODEs, ICLR 2024",
    package=__name__,
    cite=("marion2024implicit",),
    docs="docs/residual_limit.md",
    figures="reprod.analysis.residual_limit",
    experiments={
        "resnet_lipschitz": Experiment(
            ".config:ResnetLipschitz", ".gaussian:lipschitz", ("chen2018neural", "he2016deep")
        ),
        "resnet_convergence": Experiment(
            ".config:ResnetConvergence", ".gaussian:convergence", ("chen2018neural", "he2016deep")
        ),
        "resnet_long_time": Experiment(
            ".config:ResnetLongTime", ".gaussian:long_time", ("chen2018neural", "he2016deep")
        ),
        "cifar_resnet": Experiment(
            ".config:CifarResnet", ".cifar:cifar", ("chen2018neural", "he2016deep", "krizhevsky2009learning")
        ),
        "resnet_theory": Experiment(
            ".config:ResnetTheory",
            ".theory:check_theory",
            ("chen2018neural", "he2016deep", "torchdiffeq", "dormand1980family"),
        ),
    },
)
