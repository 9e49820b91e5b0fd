"""One iteration of training, in two forms that the experiment need not tell apart.

`Batched` trains small networks of several seeds at once with the compiled kernel of `batched`; `Autograd` trains one
network of any kind through torch. Both count hits, not means, so that a batch accuracy is hits / batch size.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from reprod.errors import Diverged
from reprod.neural_ode import batched, evaluation
from reprod.neural_ode.evaluation import Evaluated, as_input
from reprod.neural_ode.models import OdeClassifier
from reprod.neural_ode.solvers import MAX_EVALUATIONS, SolverFailure, SolverSetting


@dataclass
class Forward:
    """Of one batch, before the update: loss and hits of every seed (S,), evaluations forward and backward."""

    loss: Tensor
    hits: Tensor
    nfe: int
    nfe_backward: int


class Learner(Protocol):
    def gradient(self, x: Tensor, y: Tensor, setting: SolverSetting) -> Forward:
        """Forward and backward through `setting`, keeping the gradient for `update`."""

    def update(self) -> None: ...

    def hits(self, x: Tensor, y: Tensor, setting: SolverSetting) -> tuple[int, int]:
        """Hits of the first seed on a batch, and evaluations, without a gradient."""

    def evaluate(self, x: Tensor, y: Tensor, tests: Sequence[SolverSetting]) -> Evaluated:
        """Accuracy (S, tests)."""

    def models(self) -> list[OdeClassifier]: ...

    def parts(self) -> dict[str, Any]:
        """What a checkpoint must hold."""


class Batched:
    """S small networks at once: x (S, B, 1, d)."""

    def __init__(self, models: Sequence[OdeClassifier], lr: float):
        self.templates = list(models)
        self.kernel = batched.build(models[0], len(models), lr=lr)
        self.state = batched.init(self.kernel, models)
        self.pending: Tensor | None = None

    def gradient(self, x: Tensor, y: Tensor, setting: SolverSetting) -> Forward:
        result = batched.gradients(self.kernel, self.state["theta"], x.squeeze(-2), y, setting)
        self.pending = result.theta
        nfe = len(setting.step_lengths()) * setting.scheme.evaluations
        return Forward(result.loss, result.correct, nfe, 0)

    def update(self) -> None:
        assert self.pending is not None
        batched.adam(self.kernel, self.state, self.pending)

    def hits(self, x: Tensor, y: Tensor, setting: SolverSetting) -> tuple[int, int]:
        theta = self.state["theta"][:1]
        logits, nfe = batched.logits(self.kernel, theta, x[:1].squeeze(-2), setting)
        return int(evaluation.hits(logits, y[:1])[0]), nfe

    def evaluate(self, x: Tensor, y: Tensor, tests: Sequence[SolverSetting]) -> Evaluated:
        return evaluation.evaluate_batched(self.kernel, self.state["theta"], x.squeeze(-2), y, tests)

    def models(self) -> list[OdeClassifier]:
        for template, theta in zip(self.templates, self.state["theta"], strict=True):
            template.load_state_dict(batched.state_dict(self.kernel, theta))
        return self.templates

    def parts(self) -> dict[str, Any]:
        return {"networks": self.state}


def compile_field(model: OdeClassifier) -> None:
    """Compile the field in place, its weights' names unchanged; one that cannot be compiled here stays as it is."""
    parameter = next(model.field.parameters())
    z = torch.zeros(1, *model.arguments["shape"], dtype=parameter.dtype, device=parameter.device)
    model.field.compile()
    try:
        torch.autograd.grad(model.field(z).sum(), list(model.field.parameters()), allow_unused=True)
    except Exception as error:  # the compiler's own errors have no common class
        model.field._compiled_call_impl = None
        warnings.warn(f"the field is not compiled: {type(error).__name__}: {error}"[:200], stacklevel=2)


class Autograd:
    """One network of any kind: x (1, B, ...)."""

    def __init__(self, model: OdeClassifier, lr: float, batch_size: int):
        self.model = model
        self.batch_size = batch_size
        fused = next(model.parameters()).is_cuda
        if fused:
            compile_field(model)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=fused)

    def gradient(self, x: Tensor, y: Tensor, setting: SolverSetting) -> Forward:
        self.optimizer.zero_grad(set_to_none=True)
        try:
            z, evaluations = self.model.flow(as_input(x[0]), setting)
            logits = self.model.classify(z)
            loss = F.cross_entropy(logits, y[0])
            loss.backward()
        except SolverFailure as error:
            raise Diverged(f"{setting.name} with {setting.kind}={setting.value:g} gave up: {error}") from error
        hits = evaluation.hits(logits.detach(), y[0])
        return Forward(loss.detach()[None], hits[None], evaluations.forward, evaluations.backward)

    def update(self) -> None:
        self.optimizer.step()

    @torch.no_grad()
    def hits(self, x: Tensor, y: Tensor, setting: SolverSetting) -> tuple[int, int]:
        try:
            z, evaluations = self.model.flow(as_input(x[0]), setting)
        except SolverFailure:
            return 0, MAX_EVALUATIONS
        return int(evaluation.hits(self.model.classify(z), y[0])), evaluations.forward

    def evaluate(self, x: Tensor, y: Tensor, tests: Sequence[SolverSetting]) -> Evaluated:
        table = evaluation.evaluate(self.model, x, y, tests, self.batch_size)
        return Evaluated(*(values[None] for values in table))

    def models(self) -> list[OdeClassifier]:
        return [self.model]

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}
