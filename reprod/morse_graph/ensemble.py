"""The trainings of Eslami et al. (2021): a hundred small networks from random starts, and what they leave behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from reprod.errors import Diverged
from reprod.run import Run, Upstream
from reprod.training import State, loop

from . import statistics, training
from .architectures import ARCHITECTURES
from .config import IrisTraining, MnistTraining, Training
from .data import Examples, petals, zeros_and_ones
from .networks import Networks

LOGGED = 50  # points of a metric that a person wants to see


def examples(config: Training) -> tuple[Examples, Examples]:
    """Training and test set."""
    if isinstance(config, MnistTraining):
        options = {"scale": config.scale_pixels}
        train = zeros_and_ones("train", config.data_dir, first=config.n_train, **options)
        return train, zeros_and_ones("test", config.data_dir, subset=100, **options)
    assert isinstance(config, IrisTraining)
    return petals("train", config.standardise), petals("test", config.standardise)


def train(config: IrisTraining | MnistTraining, run: Run) -> None:
    """`networks` networks for each seed, all of them as one batch; reports what sections 2.3 and 2.4 ask for."""
    train_set, test_set = examples(config)
    children = run.children()
    for child in children:
        for part in (train_set, test_set):
            shape = part.x.shape[1:]
            child.dataset(
                part.name, split=part.split, source=part.source, digest=part.digest, size=len(part.y), shape=shape
            )
    architecture = ARCHITECTURES[config.architecture]
    ensemble = training.build(architecture, train_set.x, train_set.y, batch_size=config.batch_size)
    tensors = ensemble.init([(seed, r) for seed in config.seeds for r in range(config.networks)]).tensors()
    every = max(1, config.epochs // LOGGED)

    def healthy() -> bool:
        return len(children) > 1 or bool(torch.isfinite(tensors["weights"]).all())

    parts = State(networks=tensors)
    for epoch in loop(run, config.epochs, parts, every=config.checkpoint_every, healthy=healthy):
        tensors.update(ensemble.update(training.State(**tensors)).tensors())
        if epoch % every == 0 or epoch == config.epochs:
            for child, losses in zip(children, tensors["loss"].split(config.networks), strict=True):
                child.log(epoch, {"train/loss": float(losses.mean())})
    state = training.State(**tensors)
    for child, rows in zip(children, torch.arange(len(state.weights)).split(config.networks), strict=True):
        if not torch.isfinite(state.weights[rows]).all():
            if len(children) == 1:
                raise Diverged("the weights of a network left the finite numbers")
            child.fail("the weights of a network left the finite numbers")
            continue
        _report(child, config, ensemble, test_set, state.early[rows], state.weights[rows])


def _report(
    run: Run, config: Training, ensemble: training.Ensemble, test: Examples, early: torch.Tensor, final: torch.Tensor
) -> None:
    architecture = ARCHITECTURES[config.architecture]
    kernels = list(architecture.kernel_index)
    _, early_loss = ensemble.predict(early, test.x, test.y)
    prob, loss = ensemble.predict(final, test.x, test.y)
    found = Ensemble(
        config.architecture, early[:, kernels].numpy(), final[:, kernels].numpy(), prob.numpy(), np.asarray(test.y)
    )
    names = f"kernel weights {architecture.kernel_names[0]} ... {architecture.kernel_names[-1]} in graph order"
    run.array("early", found.early, axes=("network", "weight"), about=f"after two epochs: {names}")
    run.array("final", found.final, axes=("network", "weight"), about=f"after the last epoch: {names}")
    run.array("prob", found.prob, axes=("network", "test", "class"), about="predicted class probabilities")
    run.array("labels", found.labels, axes=("test",), about="true classes of the test set")
    run.array("entropy", found.entropy, axes=("test",), unit="nats", about="entropy of the mean prediction")
    each = {
        "network": np.arange(len(final)), "accuracy": found.accuracy, "accuracy_swapped": found.accuracy_swapped,
        "test_loss_early": early_loss.numpy(), "test_loss_final": loss.numpy(),
    }  # fmt: skip
    run.table(
        "networks", pd.DataFrame(each), units={"test_loss_early": "nats", "test_loss_final": "nats"},
        about="accuracy: balanced, mean recall over true classes; accuracy_swapped: the paper's balanced accuracy, "
        "mean over predicted classes of P(true | predicted); losses after two epochs and after the last",
    )  # fmt: skip
    spread = {"weight": architecture.kernel_names, "spread": found.spread}
    run.table("weights", pd.DataFrame(spread), about="standard deviation over networks of each final kernel weight")
    measured = {
        "test/accuracy": found.accuracy.mean(),
        "test/accuracy_swapped": found.accuracy_swapped.mean(),
        "test/accuracy_swapped_median": np.median(found.accuracy_swapped),
        "test/entropy_median": np.median(found.entropy),
        "test/loss": loss.numpy().mean(),
        "weights/spread_median": np.median(found.spread),
    }
    run.log(config.epochs, {name: float(value) for name, value in measured.items()})
    networks = Networks(architecture.name, len(final))
    networks.load_state_dict({"weights": final})
    arguments = {"architecture": architecture.name, "networks": len(final)}
    run.model(networks, arguments=arguments, example=torch.from_numpy(test.x[:4]))


@dataclass(frozen=True)
class Ensemble:
    """What one seed's networks leave behind, and its statistics (section 2.4).

    early, final: kernel weights (R, P); prob: predictions (R, n, C) of the test points; labels (n,).
    """

    architecture: str
    early: np.ndarray
    final: np.ndarray
    prob: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, found: Upstream) -> Ensemble:
        """That of a finished training."""
        return cls(found.config.architecture, *(found.array(name) for name in ("early", "final", "prob", "labels")))

    @property
    def _predicted(self) -> np.ndarray:
        return self.prob.argmax(axis=-1)

    @property
    def accuracy(self) -> np.ndarray:
        """(R,): balanced accuracy."""
        return statistics.accuracy_balanced(self._predicted, self.labels, self.prob.shape[-1])

    @property
    def accuracy_swapped(self) -> np.ndarray:
        """(R,): the paper's balanced accuracy."""
        return statistics.accuracy_swapped(self._predicted, self.labels, self.prob.shape[-1])

    @property
    def entropy(self) -> np.ndarray:
        return statistics.ensemble_entropy(self.prob)

    @property
    def spread(self) -> np.ndarray:
        return statistics.weight_spread(self.final)
