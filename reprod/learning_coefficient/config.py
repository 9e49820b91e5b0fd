"""Parameters of the experiments of Lau et al. 2023: the published settings, and smaller ones that keep the claims."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from reprod.config import Config, param, spell
from reprod.errors import BadInput

PAPER = "learning_coefficient"

# Names that these tables had before, and those of the original scripts.
_TRAINING = {"training_steps": "iterations", "lr": "learning_rate", "optim": "optimizer"}
_SAMPLER = {
    "num_data": "n_train", "num_training_data": "n_train", "num_steps": "sgld_steps", "num_chains": "chains",
    "epsilon": "step_size",
    # Everywhere but in `resnet_llc_curve`, `batch_size` has always been the sampler's, and so recorded runs mean it. It
    # stays an alias of that; the batch of a training beside it is called `training_batch_size`, as it always was.
    "batch_size": "sgld_batch_size",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DlnLlc(Config):
    """Estimated against exact learning coefficient of a random deep linear network; one network per seed."""

    experiment = "dln_llc"
    paper = PAPER
    aliases = {**_SAMPLER, **_TRAINING, "input_dist": "input_distribution", "prop_rank_reduce": "reduce_probability"}

    size_class: str = param(
        "1K", choices=("1K", "10K", "100K", "1M", "10M", "100M"),
        help="class that widths, data-set size, step size and steps come from where those are none",
    )  # fmt: skip
    widths: tuple[int, ...] = param((), at_least=1, help="widths input, layers, output; none: sampled from the class")
    input_distribution: str = param(
        "uniform", choices=("uniform", "unit_ball"), help="on [-10, 10]^n_0, or in the ball"
    )
    truth: str = param(
        "rand_rank", choices=("random", "zero", "rand_rank", "rand_rank_sv"), help="how the true weights are drawn"
    )
    reduce_probability: float = param(0.5, at_least=0, at_most=1, help="probability that a layer loses rank")
    singular_mean: float = param(0.0, help="mean singular value of truth=rand_rank_sv")
    singular_std: float = param(5.0, at_least=0, help="spread of the singular values of truth=rand_rank_sv")
    n_train: int | None = param(None, at_least=2, at_most=10**8, help="size n of the data set; none: of the class")
    sampler: str = param(
        "minibatch", choices=("minibatch", "collapsed"),
        help="SGLD on minibatches, or on the exact full-data gradient (another sampler, without minibatch noise)",
    )  # fmt: skip
    step_size: float | None = param(None, above=0, help="SGLD step size epsilon; none: of the class")
    sgld_steps: int | None = param(None, at_least=1, help="SGLD steps; none: of the class")
    sgld_batch_size: int = param(500, at_least=1, help="rows per SGLD step")
    gamma: float = param(1.0, at_least=0, help="strength of the localisation")
    nbeta: float | None = param(None, above=0, at_most=1e30, help="inverse temperature; none: n / ln n")
    chains: int = param(1, at_least=1, help="independent chains")
    burn_in: float = param(0.9, at_least=0, below=1, help="proportion of the trace that the estimate drops")
    trace: str = param("before", choices=("before", "after"), help="loss recorded before a step (free) or after it")
    acceptance_every: int = param(20, at_least=0, help="steps between two acceptance probabilities; 0: never")
    train: bool = param(True, help="estimate at a trained parameter too")
    iterations: int = param(50_000, at_least=1, help="steps of the training")
    optimizer: str = param("sgd", choices=("sgd", "adam"), help="of the training")
    learning_rate: float = param(0.01, above=0, help="of the training")
    momentum: float = param(0.9, at_least=0, below=1, help="of sgd")
    training_batch_size: int = param(500, at_least=1, help="rows per step of the training")
    checkpoint_every: int = param(5000, at_least=1, identity=False, help="steps between two checkpoints")
    diagnostics: bool = param(True, help="functional rank and Hessian trace of the truth, in closed form")

    scales = {
        "small": {"chains": 2, "train": False},
        "smoke": {
            "n_train": 1000, "sgld_steps": 200, "chains": 2, "sgld_batch_size": 100, "iterations": 100,
            "training_batch_size": 100,
        },
    }  # fmt: skip

    def check(self) -> None:
        finite(self)
        if len(self.widths) == 1:
            raise BadInput(f"widths={self.widths[0]}: name an input width and at least one layer")
        from reprod.learning_coefficient.sizes import SIZE_CLASSES

        rows = self.n_train or SIZE_CLASSES[self.size_class].n_train
        for name in ("sgld_batch_size", "training_batch_size"):
            if getattr(self, name) > rows:
                raise BadInput(f"{name}={getattr(self, name)}: larger than the data set, {rows} rows")
        stable(self.step_size or SIZE_CLASSES[self.size_class].step_size, self.gamma)

    def unused(self) -> set[str]:
        """What has no effect: the ranges of other truths, the batch of the collapsed sampler, training that is off."""
        left = set() if self.truth == "rand_rank_sv" else {"singular_mean", "singular_std"}
        if self.truth in ("random", "zero"):
            left |= {"reduce_probability"}
        if self.sampler == "collapsed":
            left |= {"sgld_batch_size"}
        if not self.train:
            left |= {"iterations", "optimizer", "learning_rate", "momentum", "training_batch_size"}
        if self.optimizer == "adam":
            left |= {"momentum"}
        if self.widths and None not in (self.n_train, self.step_size, self.sgld_steps):
            left |= {"size_class"}
        return left


@dataclass(frozen=True, kw_only=True)
class DlnSaddleDynamics(Config):
    """A deep linear network trained from small weights: loss plateaus, and the staircase of the estimate."""

    experiment = "dln_saddle_dynamics"
    paper = PAPER
    aliases = {**_SAMPLER, **_TRAINING, "logging_period": "eval_every"}

    width: int = param(10, at_least=1, help="width H of the hidden layers")
    hidden_layers: int = param(4, at_least=1, help="number of hidden layers")
    in_out_dim: int = param(5, at_least=1, help="inputs and outputs; the teacher is 10 diag(1, ..., in_out_dim)")
    initialisation_exponent: float = param(1.5, above=0, help="weights are N(0, H^-exponent)")
    n_train: int = param(10_000, at_least=2, at_most=10**8, help="size of the data set")
    optimizer: str = param("sgd", choices=("sgd", "adam"), help="of the training")
    learning_rate: float = param(1e-4, above=0, help="of the training")
    momentum: float = param(0.0, at_least=0, below=1, help="of sgd")
    training_batch_size: int = param(128, at_least=1, help="rows per step of the training")
    iterations: int = param(20_000, at_least=1, help="steps of the training")
    eval_every: int = param(50, at_least=1, help="steps of the training between two estimates")
    sampler: str = param("minibatch", choices=("minibatch", "collapsed"), help="SGLD on minibatches or on all data")
    step_size: float = param(1e-6, above=0, help="SGLD step size epsilon")
    sgld_steps: int = param(100, at_least=1, help="SGLD steps")
    whole_epochs: bool = param(True, help="round SGLD steps up to whole epochs (100 -> 156), as the published runs did")
    sgld_batch_size: int = param(128, at_least=1, help="rows per SGLD step")
    gamma: float = param(1.0, at_least=0, help="strength of the localisation")
    chains: int = param(1, at_least=1, help="chains per estimate")
    trace: str = param("after", choices=("before", "after"), help="loss recorded before or after an SGLD step")

    scales = {
        "small": {},
        "smoke": {"iterations": 60, "eval_every": 20, "sgld_steps": 10, "n_train": 500, "learning_rate": 1e-3},
    }

    def check(self) -> None:
        finite(self)
        for name in ("sgld_batch_size", "training_batch_size"):
            if getattr(self, name) > self.n_train:
                raise BadInput(f"{name}={getattr(self, name)}: larger than the data set, {self.n_train} rows")
        if self.eval_every > self.iterations:
            raise BadInput(f"eval_every={self.eval_every}: no estimate in {self.iterations} training steps")
        stable(self.step_size, self.gamma)

    def unused(self) -> set[str]:
        left = {"momentum"} if self.optimizer == "adam" else set()
        if self.sampler == "collapsed":
            return left | {"sgld_batch_size", "whole_epochs"}
        return left if self.sgld_steps % (self.n_train // self.sgld_batch_size) else left | {"whole_epochs"}


@dataclass(frozen=True, kw_only=True)
class ResnetLlcCurve(Config):
    """Learning coefficient of a ResNet18 along its training on CIFAR-10, under explicit and implicit regularisation."""

    experiment = "resnet_llc_curve"
    paper = PAPER
    aliases = {
        **{old: new for old, new in _SAMPLER.items() if old != "batch_size"}, **_TRAINING,
        "logging_period": "eval_every", "layer_width_factor": "width", "num_train": "n_train", "num_test": "n_test",
    }  # fmt: skip

    width: int = param(64, at_least=1, help="channels k of the first group; the last has 8k")
    optimizer: str = param("sgd", choices=("sgd", "adam"), help="optimiser")
    learning_rate: float = param(0.01, above=0, help="constant learning rate")
    momentum: float = param(0.0, at_least=0, below=1, help="of SGD")
    l2: float = param(0.0, at_least=0, help="adds l2 times the sum of squares of all parameters to the training loss")
    batch_size: int = param(512, at_least=1, help="images per training step")
    iterations: int = param(30_001, at_least=1, help="training steps")
    eval_every: int = param(1000, at_least=1, help="training steps between two estimates")
    n_train: int = param(50_000, at_least=2, at_most=50_000, help="training images, the first of CIFAR-10")
    n_test: int = param(10_000, at_least=1, at_most=10_000, help="test images")
    label_noise: float = param(0.0, at_least=0, at_most=1, help="share of training labels replaced by random ones")
    force_realisable: bool = param(False, help="estimate against the model's own predictions instead of the labels")
    step_size: float = param(2e-7, above=0, help="SGLD step size epsilon")
    sgld_steps: int = param(3000, at_least=1, help="SGLD steps")
    sgld_batch_size: int = param(2048, at_least=1, help="images per SGLD step")
    gamma: float = param(1.0, at_least=0, help="strength of the localisation")
    chains: int = param(1, at_least=1, help="chains per estimate")
    burn_in: float = param(0.9, at_least=0, below=1, help="proportion of the trace that the estimate drops")

    scales = {
        "small": {
            # Few images, so that a narrow network comes to fit them in minutes, as the published ones do in hours; the
            # noise of a chain, (step_size sgld_steps)^(1/2), is to the weights what it is at the published width.
            "width": 4, "learning_rate": 0.05, "batch_size": 128, "iterations": 1201,
            "eval_every": 400, "n_train": 2000, "n_test": 2000, "sgld_steps": 250, "sgld_batch_size": 256,
            "step_size": 2e-5, "burn_in": 0.5,
        },
        "medium": {
            "width": 4, "learning_rate": 0.05, "batch_size": 128, "iterations": 4001, "eval_every": 2000,
            "n_train": 2000, "n_test": 2000, "sgld_steps": 500, "sgld_batch_size": 256, "step_size": 2e-5,
            "burn_in": 0.5,
        },
        "smoke": {
            "width": 1, "learning_rate": 0.05, "batch_size": 32, "iterations": 4, "eval_every": 2,
            "n_train": 200, "n_test": 100, "sgld_steps": 4, "sgld_batch_size": 32, "burn_in": 0.5,
        },
    }  # fmt: skip

    def check(self) -> None:
        finite(self)
        for name in ("batch_size", "sgld_batch_size"):
            if getattr(self, name) > self.n_train:
                raise BadInput(f"{name}={getattr(self, name)}: larger than the data set, {self.n_train} images")
        if self.batch_size == 1 or self.n_train % self.batch_size == 1:
            raise BadInput(
                f"batch_size={self.batch_size}: {self.n_train} images leave a batch of one, which batch normalisation"
                " cannot take"
            )
        if self.optimizer == "adam" and self.momentum:
            raise BadInput(f"momentum={self.momentum}: adam takes none; leave it at 0")
        stable(self.step_size, self.gamma)

    def prepare(self) -> None:
        super().prepare()
        from reprod.data import images

        images.ensure("cifar10", self.data_dir)

    def unused(self) -> set[str]:
        return {"momentum"} if self.optimizer == "adam" else set()


@dataclass(frozen=True, kw_only=True)
class RescalingInvariance(Config):
    """The estimate of a ReLU network under the rescaling symmetry of its layers, with SGLD preconditioned to match."""

    experiment = "rescaling_invariance"
    paper = PAPER
    aliases = {**_SAMPLER, "runs": "chains", "hidden_width": "width"}

    input_width: int = param(10, at_least=1, help="inputs and outputs")
    width: int = param(20, at_least=1, help="units of the hidden layer")
    duplicated: tuple[int, ...] = param(
        (1, 2, 3, 4, 5, 8), at_least=0, help="hidden units that copy unit 0 in the truth"
    )
    exponents: tuple[float, ...] = param(
        tuple(e / 2 for e in range(-8, 9)), at_least=-18, at_most=18,
        help="the first layer is scaled by 10^exponent, the second by its inverse",
    )  # fmt: skip
    chains: int = param(5, at_least=1, help="chains per factor")
    n_train: int = param(10_000, at_least=2, at_most=10**8, help="size of the data set")
    step_size: float = param(1e-5, above=0, help="SGLD step size epsilon")
    sgld_steps: int = param(10_000, at_least=1, help="SGLD steps")
    sgld_batch_size: int = param(500, at_least=1, help="rows per SGLD step, in their order, without shuffling")
    gamma: float = param(0.0, at_least=0, help="strength of the localisation; above 0 there is no invariance")
    precondition: bool = param(True, help="scale the steps with the layers (without it, SGLD is not invariant)")
    trace_every: int = param(1, at_least=1, help="steps between two losses on all data")
    acceptance_every: int = param(20, at_least=0, help="steps between two acceptance probabilities; 0: never")

    scales = {
        "small": {"exponents": (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0), "chains": 3, "trace_every": 20},
        "smoke": {
            "input_width": 3, "width": 9, "exponents": (-2.0, 0.0, 2.0), "chains": 2, "n_train": 200,
            "sgld_steps": 60, "sgld_batch_size": 50, "trace_every": 5,
        },
    }  # fmt: skip

    def check(self) -> None:
        finite(self)
        if self.sgld_batch_size > self.n_train:
            raise BadInput(f"sgld_batch_size={self.sgld_batch_size}: larger than the data set, {self.n_train} rows")
        if self.duplicated and max(self.duplicated) >= self.width:
            raise BadInput(f"duplicated={max(self.duplicated)}: there are {self.width} hidden units, from 0")
        if len(set(self.exponents)) < len(self.exponents) or not self.exponents:
            raise BadInput(f"exponents={spell(self.exponents)}: give each once, and at least one")
        if self.trace_every > self.sgld_steps:
            raise BadInput(f"trace_every={self.trace_every}: no loss in {self.sgld_steps} steps")
        stable(self.step_size, self.gamma)


@dataclass(frozen=True, kw_only=True)
class MalaVsSgld(Config):
    """One run of SGLD or of full-data MALA at the truth of a ReLU network: the estimate and its wall time."""

    experiment = "mala_vs_sgld"
    paper = PAPER
    aliases = _SAMPLER

    sampler: str = param("sgld", choices=("sgld", "mala"), help="SGLD on minibatches, or MALA on all data")
    widths: tuple[int, ...] = param((10, 20, 20, 10), at_least=1, help="widths of the network")
    truth_seed: int = param(0, at_least=0, help="seed of truth and data; `seeds` are those of the sampler")
    n_train: int = param(10_000, at_least=2, at_most=10**8, help="size n of the data set")
    step_size: float = param(1e-5, above=0, help="step size epsilon")
    sgld_steps: int = param(10_000, at_least=1, help="steps of the sampler, either of them")
    sgld_batch_size: int = param(32, at_least=1, help="rows per step of SGLD, from one fixed permutation")
    gamma: float = param(1.0, at_least=0, help="strength of the localisation")
    acceptance_every: int = param(20, at_least=1, help="steps between two acceptance probabilities of SGLD")

    scales = {
        "small": {},
        "smoke": {"widths": (3, 4, 3), "n_train": 100, "sgld_steps": 40},
    }

    def check(self) -> None:
        finite(self)
        if len(self.widths) < 2:
            raise BadInput("widths: name an input width and at least one layer")
        if self.sampler == "sgld" and self.sgld_batch_size > self.n_train:
            raise BadInput(f"sgld_batch_size={self.sgld_batch_size}: larger than the data set, {self.n_train} rows")
        stable(self.step_size, self.gamma)

    def unused(self) -> set[str]:
        return {"sgld_batch_size", "acceptance_every"} if self.sampler == "mala" else set()


def finite(config: Config) -> None:
    """Refuse numbers that are not finite: none of these parameters has a meaning there."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if any(
            isinstance(v, float) and not math.isfinite(v) for v in (value if isinstance(value, tuple) else (value,))
        ):
            raise BadInput(f"{field.name}={spell(value)}: must be a finite number")


def stable(step_size: float, gamma: float) -> None:
    """Refuse a localisation so strong that the chain is unstable whatever the loss."""
    if step_size * gamma >= 4:
        raise BadInput(
            f"gamma={gamma:g}: with step_size={step_size:g} the chain is unstable, their product must be below 4"
        )
